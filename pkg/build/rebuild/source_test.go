package rebuild

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build"
)

// claimed returns the provenance of a build.
func claimed(t testing.TB, r *build.Result) []byte {
	t.Helper()
	r.Record.Version = "v0.1.0"
	p, err := attest.Provenance(r.Record)
	must(t, err)
	return p
}

func parsed(t testing.TB, predicate []byte) *Claim {
	t.Helper()
	c, err := ParseClaim(predicate)
	must(t, err)
	return c
}

var epoch = time.Unix(1_780_000_000, 0).UTC()

func TestAClaimSaysHowToRebuild(t *testing.T) {
	_, _, r := built(t, project(t), epoch)
	c := parsed(t, claimed(t, r))
	if c.Builder != build.BuilderID || c.Imgctl != "v0.1.0" || c.Target != (build.Target{}) || !c.Created.Equal(epoch) || c.Inputs() != len(r.Record.Materials) {
		t.Errorf("got %+v, %d inputs", c, c.Inputs())
	}
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		if e := c.Engines[platform]; e.Name != "layers" || e.Rootfs == 0 || fmt.Sprint(e.Compression) != "[zstd-better-4MiB zstd-default-4MiB]" {
			t.Errorf("%s: got %+v", platform, e)
		}
	}
}

func TestAClaimThatIsNotUnderstoodIsRefused(t *testing.T) {
	_, _, r := built(t, project(t), epoch)
	good := string(claimed(t, r))
	for name, tt := range map[string]struct{ old, new, want string }{
		"no JSON":        {good, "{", "provenance: unexpected end"},
		"another type":   {"formats.md#buildtype", "formats.md#bundle", `build type: got "https://github.com/imgctl/imgctl/blob/main/docs/formats.md#bundle", want`},
		"another maker":  {`"id":"https://github.com/imgctl/imgctl"`, `"id":"https://evil.example"`, `builder: got "https://evil.example", want`},
		"no time":        {`"created":`, `"made":`, "created: missing"},
		"no time at all": {`"created":"2026-`, `"created":"soon-`, "provenance: parsing time"},
		"no spec":        {`"name":"image.yaml"`, `"name":"other.yaml"`, "image.yaml: got 0 digests, want one"},
		"two locks":      {`"name":"image.yaml"`, `"name":"image.lock.json"`, "image.yaml: got 0 digests"},
	} {
		bad := strings.Replace(good, tt.old, tt.new, 1)
		if bad == good {
			t.Fatalf("%s: %s has no %s", name, good, tt.old)
		}
		if c, err := ParseClaim([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %s", name, c, err, tt.want)
		}
	}
}

func TestOnlyTheSameEngineMakesTheSameBytes(t *testing.T) {
	s, _, r := built(t, project(t), epoch)
	good := string(claimed(t, r))
	must(t, parsed(t, []byte(good)).CheckEngine(s))
	for name, tt := range map[string]struct{ old, new, want string }{
		"older rules":  {`"rootfs":`, `"rootfs":100`, "made by imgctl v0.1.0 with version 100"},
		"engine":       {`"engine":"layers"`, `"engine":"buildkit"`, "made by imgctl v0.1.0 with the engine buildkit; this imgctl has layers"},
		"compression":  {"zstd-default-4MiB", "zstd-default-8MiB", "with compression zstd-better-4MiB and zstd-default-8MiB; this imgctl has zstd-better-4MiB and zstd-default-4MiB"},
		"no word":      {`"linux/arm64":{`, `"linux/arm":{`, "internalParameters: nothing about linux/arm64"},
		"no version":   {`"version":{"imgctl":"v0.1.0"}`, `"version":{}`, ""},
		"both unknown": {`"imgctl":"v0.1.0"`, `"other":"v0.1.0"`, ""},
	} {
		c := parsed(t, []byte(strings.ReplaceAll(good, tt.old, tt.new)))
		err := c.CheckEngine(s)
		if tt.want == "" {
			must(t, err)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
	unknown := strings.ReplaceAll(strings.ReplaceAll(good, `"v0.1.0"`, `""`), `"engine":"layers"`, `"engine":"x"`)
	var other *EngineError
	if err := parsed(t, []byte(unknown)).CheckEngine(s); !errors.As(err, &other) || !strings.Contains(err.Error(), "an imgctl of unknown version") || other.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

// published returns the source as a registry has it.
func published(t testing.TB, s *Source, subject v1.Descriptor) (*v1.Manifest, func(v1.Descriptor) ([]byte, error)) {
	t.Helper()
	img, err := s.Image(subject, epoch)
	must(t, err)
	m, err := img.Manifest()
	must(t, err)
	return m, func(d v1.Descriptor) ([]byte, error) {
		for _, f := range s.files {
			if "sha256:"+sum(f.data) == d.Digest.String() {
				return f.data, nil
			}
		}
		return nil, os.ErrNotExist
	}
}

var subject = v1.Descriptor{MediaType: types.OCIImageIndex, Size: 10, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}}

// The whole way, without registry and archive: what was published, with nothing
// but its provenance and what is attached to it, gives the same index.
func TestAnImageIsRebuiltFromWhatIsPublished(t *testing.T) {
	dir := project(t)
	s, l, first := built(t, dir, epoch)
	source, err := NewSource(s, l)
	must(t, err)
	claim := parsed(t, claimed(t, first))
	m, read := published(t, source, subject)
	if m.ArtifactType != SourceType || m.Subject.Digest != subject.Digest || len(m.Layers) != 2 || m.Layers[0].Annotations[annotationTitle] != build.SpecFile {
		t.Errorf("got %+v", m)
	}
	again, err := ReadSource(m, claim, read)
	must(t, err)
	elsewhere := t.TempDir()
	must(t, again.WriteTo(elsewhere))
	spec, lock, err := Load(elsewhere, claim)
	must(t, err)
	must(t, Recover(elsewhere, spec, lock, first.Index))
	second, err := build.Build(t.Context(), &build.Layers{Materials: &build.Materials{Cache: t.TempDir()}}, spec, lock, spec.Targets(lock)[0])
	must(t, err)
	r, err := Compare(first.Index, second.Index)
	must(t, err)
	if r.Difference != nil {
		t.Errorf("got %s", r.Difference)
	}
	// The directory that it was built from serves as well: its lock has another time.
	if _, lock, err := Load(dir, claim); err != nil || !lock.Created.Equal(epoch) {
		t.Errorf("got %v, %v", lock, err)
	}
}

func TestAnInputThatIsAnotherIsNamed(t *testing.T) {
	for file, want := range map[string]string{
		build.SpecFile:   "image.yaml: sha256: got ",
		build.LockFile:   "image.lock.json: sha256: got ",
		"bin/tool-arm64": "", // Load does not read it; building does
	} {
		dir := project(t)
		_, _, r := built(t, dir, epoch)
		claim := parsed(t, claimed(t, r))
		path := filepath.Join(dir, file)
		data, err := os.ReadFile(path)
		must(t, err)
		data = bytes.Replace(data, []byte("tool"), []byte("toal"), 1)
		must(t, os.WriteFile(path, data, 0o644))
		_, _, err = Load(dir, claim)
		var other *InputError
		if want == "" {
			must(t, err)
			continue
		}
		if !errors.As(err, &other) || other.Name != file || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "(provenance)") {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
	}
}

func TestASourceThatTheProvenanceDoesNotNameIsRefused(t *testing.T) {
	s, l, r := built(t, project(t), epoch)
	source, err := NewSource(s, l)
	must(t, err)
	claim := parsed(t, claimed(t, r))
	for name, tt := range map[string]struct {
		change func(*v1.Manifest)
		want   string
	}{
		"nothing":        {func(*v1.Manifest) {}, ""},
		"type":           {func(m *v1.Manifest) { m.ArtifactType = "application/json" }, `artifact type: got "application/json"`},
		"swapped":        {func(m *v1.Manifest) { m.Layers[0].Annotations[annotationTitle] = build.LockFile }, "image.lock.json: sha256: got "},
		"one more":       {func(m *v1.Manifest) { m.Layers[0].Annotations[annotationTitle] = "other.yaml" }, `"other.yaml": the provenance names no such input`},
		"no title":       {func(m *v1.Manifest) { m.Layers[0].Annotations = nil }, `title: got ""`},
		"out of the way": {func(m *v1.Manifest) { m.Layers[0].Annotations[annotationTitle] = "../image.yaml" }, `title: got "../image.yaml"`},
		"absolute":       {func(m *v1.Manifest) { m.Layers[0].Annotations[annotationTitle] = "/etc/passwd" }, `title: got "/etc/passwd"`},
		"too large":      {func(m *v1.Manifest) { m.Layers[0].Size = maxFile + 1 }, "image.yaml: got 16777217 bytes"},
		"too many":       {func(m *v1.Manifest) { m.Layers = append(m.Layers, make([]v1.Descriptor, maxFiles)...) }, "got 18 files, want at most 16"},
		"gone":           {func(m *v1.Manifest) { m.Layers[0].Digest.Hex = strings.Repeat("0", 64) }, "image.yaml: file does not exist"},
	} {
		m, read := published(t, source, subject)
		tt.change(m)
		_, err := ReadSource(m, claim, read)
		if tt.want == "" {
			must(t, err)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

func TestASpecThatChangedAfterTheBuildIsNotPublished(t *testing.T) {
	dir := project(t)
	s, l, _ := built(t, dir, epoch)
	must(t, os.WriteFile(filepath.Join(dir, build.SpecFile), []byte(spec+"# changed\n"), 0o644))
	var other *InputError
	if _, err := NewSource(s, l); !errors.As(err, &other) || other.Name != build.SpecFile {
		t.Errorf("got %v", err)
	}
}

func TestALocalFileComesOutOfTheImage(t *testing.T) {
	dir := project(t)
	s, l, r := built(t, dir, epoch)
	missing := filepath.Join(dir, "bin", "tool-arm64")
	want, err := os.ReadFile(missing)
	must(t, err)
	must(t, os.Remove(missing))
	must(t, Recover(dir, s, l, r.Index))
	if got, err := os.ReadFile(missing); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}

	// An image of which somebody has changed the file does not give it.
	must(t, os.Remove(missing))
	forged := index(t, r.Images["linux/amd64"], image(t, "arm64", packed(t, archive(t, reg("usr/bin/tool", "evil")), 6)))
	var other *InputError
	if err := Recover(dir, s, l, forged); !errors.As(err, &other) || other.Name != "bin/tool-arm64" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was left: %v", err)
	}
	empty := index(t, r.Images["linux/amd64"], image(t, "arm64"))
	if err := Recover(dir, s, l, empty); err == nil || !strings.Contains(err.Error(), "bin/tool-arm64: the published image has no usr/bin/tool") {
		t.Errorf("got %v", err)
	}
}

func TestUnsafePredicateIsAboutTheImage(t *testing.T) {
	h := subject.Digest
	bundle := func(predicateType, digest string) []byte {
		statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","predicateType":%q,"subject":[{"digest":{"sha256":%q}}],"predicate":{"a":1}}`, predicateType, digest)
		return fmt.Appendf(nil, `{"dsseEnvelope":{"payload":%q}}`, base64.StdEncoding.EncodeToString([]byte(statement)))
	}
	got, err := UnsafePredicate(bundle(attest.PredicateProvenance, h.Hex), h)
	if err != nil || string(got) != `{"a":1}` {
		t.Errorf("got %s, %v", got, err)
	}
	for want, b := range map[string][]byte{
		"not about sha256:aaa": bundle(attest.PredicateProvenance, strings.Repeat("b", 64)),
		"predicate type: got":  bundle(attest.PredicateSPDX, h.Hex),
		"no statement":         []byte(`{"messageSignature":{}}`),
		"bundle: ":             []byte(`[]`),
		"statement: ":          []byte(`{"dsseEnvelope":{"payload":"aGVsbG8="}}`),
	} {
		if got, err := UnsafePredicate(b, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func FuzzParseClaim(f *testing.F) {
	_, _, r := built(f, project(f), epoch)
	f.Add(claimed(f, r))
	f.Add([]byte(`{"buildDefinition":{"internalParameters":{"a":null}}}`))
	f.Fuzz(func(t *testing.T, predicate []byte) {
		c, err := ParseClaim(predicate)
		if err != nil {
			return
		}
		if err := c.check(build.SpecFile, strings.Repeat("0", 64)); err == nil {
			t.Fatal("a digest that it does not name was accepted")
		}
		s := &build.Spec{Platforms: []string{"linux/amd64"}}
		if err := c.CheckEngine(s); err != nil && len(err.Error()) > 1000 {
			t.Fatalf("%d bytes of error", len(err.Error()))
		}
	})
}
