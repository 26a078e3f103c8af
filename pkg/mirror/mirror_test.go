package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/mirror"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

const (
	tag  = "v1.36.2"
	sbom = "https://spdx.dev/Document"
)

// world is a signed release on one registry, and a policy that accepts it.
type world struct {
	source   *imgtest.Registry
	ref      oci.Reference
	digest   v1.Hash
	client   *oci.Client
	verifier *verify.Verifier
}

func newWorld(t *testing.T) *world { return newWorldOf(t, nil) }

// newWorldOf has the content as its release; nil: a small index.
func newWorldOf(t *testing.T, content remote.Taggable) *world {
	t.Helper()
	key := imgtest.SigningKey(t)
	w := &world{source: imgtest.StartRegistry(t, imgtest.RegistryOptions{}), client: &oci.Client{Retry: oci.Retry{Tries: 1, Wait: noWait}}}
	name := w.source.Host() + "/poseidon/kubelet"
	w.digest = imgtest.Release{
		Repository: name, Content: content, Tags: []string{tag}, Signers: []sign.Signer{key},
		Attest: map[string]string{sbom: `{"spdxVersion":"SPDX-2.3"}`},
	}.Push(t)
	policy, err := verify.LoadPolicy(imgtest.PolicyFile(t, t.TempDir(), []string{name}, key))
	if err != nil {
		t.Fatal(err)
	}
	w.verifier = &verify.Verifier{Policy: policy, Registry: w.client, Now: imgtest.ReleaseTime}
	w.ref = oci.Reference{Repository: name, Tag: tag}
	return w
}

// destination starts an empty registry and returns the name of a repository in it.
func destination(t *testing.T, o imgtest.RegistryOptions) (*imgtest.Registry, string) {
	t.Helper()
	r := imgtest.StartRegistry(t, o)
	return r, r.Host() + "/mirror/kubelet"
}

func (w *world) plan(t *testing.T, dst ...string) mirror.Plan {
	t.Helper()
	p, err := mirror.Compute(t.Context(), w.client, w.verifier, w.ref, dst...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) sync(t *testing.T, dst ...string) ([]oci.Receipt, error) {
	t.Helper()
	return w.plan(t, dst...).Apply(t.Context())
}

// standsAlone fails unless the tag at the destination is the release and it
// verifies from there, with all that was attached to it.
func (w *world) standsAlone(t *testing.T, dst string) {
	t.Helper()
	to := w.repository(t, dst)
	d, err := to.Resolve(t.Context(), tag)
	if err != nil || d.Digest != w.digest {
		t.Fatalf("tag at %s: got %s, %v; want %s", dst, d.Digest, err, w.digest)
	}
	v, err := w.verifier.Verify(t.Context(), verify.Subject{Repository: w.ref.Repository, Digest: d.Digest}, to)
	if err != nil {
		t.Fatalf("verify %s: %v", dst, err)
	}
	for _, m := range append(v.Children(), v.Manifest()) {
		list, err := to.Referrers(t.Context(), m.Descriptor.Digest)
		if err != nil || len(list) != 2 {
			t.Errorf("%s: got %d referrers of %s, %v; want signature and SBOM", dst, len(list), m.Descriptor.Digest, err)
		}
		if _, err := to.Resolve(t.Context(), sign.LegacyTag(m.Descriptor.Digest)); err != nil {
			t.Errorf("%s: signature tag: %v", dst, err)
		}
	}
}

func (w *world) repository(t *testing.T, name string) *oci.Repository {
	t.Helper()
	r, err := w.client.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// M19: with or without the referrers API, in a registry or a directory, the copy
// verifies when its source is gone.
func TestMirrorVerifiesWithTheSourceGone(t *testing.T) {
	w := newWorld(t)
	_, a := destination(t, imgtest.RegistryOptions{})
	_, b := destination(t, imgtest.RegistryOptions{NoReferrers: true})
	dir := "oci:" + t.TempDir() + "/mirror"
	p := w.plan(t, a, b, dir)
	for _, c := range p.Copies {
		if c.Action != mirror.DoCopy || c.Objects == 0 || c.Bytes == 0 || c.Present != 0 || c.Err != nil {
			t.Errorf("%s: got %+v, want everything to be copied", c.Destination, c)
		}
	}
	if p.Digest != w.digest.String() || len(p.Report.Signers) != 1 {
		t.Errorf("got digest %s signed by %v", p.Digest, p.Report.Signers)
	}
	receipts, err := p.Apply(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range receipts {
		if r.Uploaded == 0 || r.Err != nil || len(r.Tags) != 1 {
			t.Errorf("got receipt %+v", r)
		}
	}
	if err := w.source.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{a, b, dir} {
		w.standsAlone(t, dst)
	}
}

// What is there is looked at and not written to.
func TestSecondSyncWritesNothing(t *testing.T) {
	w := newWorld(t)
	r, dst := destination(t, imgtest.RegistryOptions{})
	if _, err := w.sync(t, dst); err != nil {
		t.Fatal(err)
	}
	r.Forget()
	p := w.plan(t, dst)
	if c := p.Copies[0]; c.Action != mirror.DoNothing || c.Objects != 0 || c.Bytes != 0 {
		t.Errorf("got %+v, want nothing to do", c)
	}
	receipts, err := p.Apply(t.Context())
	if err != nil || len(receipts[0].Tags) != 1 || receipts[0].Uploaded != 0 {
		t.Errorf("got %+v, %v", receipts, err)
	}
	if writes := r.Writes(); len(writes) != 0 {
		t.Errorf("got writes %v, want none", writes)
	}
}

func TestMissingTagIsSet(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	byDigest := w.ref
	byDigest.Tag, byDigest.Digest = "", w.digest
	p, err := mirror.Compute(t.Context(), w.client, w.verifier, byDigest, dst)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := p.Apply(t.Context()); err != nil || len(r[0].Tags) != 0 {
		t.Fatalf("got %+v, %v; want no tag", r, err)
	}
	if _, err := w.repository(t, dst).Resolve(t.Context(), tag); !oci.NotFound(err) {
		t.Errorf("got %v, want no tag", err)
	}
	if c := w.plan(t, dst).Copies[0]; c.Action != mirror.DoTag || c.Objects != 1 {
		t.Errorf("got %+v, want only the tag to be set", c)
	}
	if _, err := w.sync(t, dst); err != nil {
		t.Fatal(err)
	}
	w.standsAlone(t, dst)
	if _, err := w.sync(t, dst+":other"); err != nil {
		t.Fatal(err)
	}
	if d, err := w.repository(t, dst).Resolve(t.Context(), "other"); err != nil || d.Digest != w.digest {
		t.Errorf("got %s, %v; want the release under its other tag", d.Digest, err)
	}
}

// What the policy does not accept is not copied, and no destination is touched.
func TestUnacceptedReleaseIsNotCopied(t *testing.T) {
	w := newWorld(t)
	r, dst := destination(t, imgtest.RegistryOptions{})
	other := imgtest.SigningKey(t)
	for name, release := range map[string]imgtest.Release{
		"unsigned":            {},
		"signed by a foreign": {Signers: []sign.Signer{other}},
	} {
		t.Run(name, func(t *testing.T) {
			release.Repository, release.Tags = w.ref.Repository, []string{"bad"}
			release.Content = imgtest.SmallIndex(t, name)
			release.Push(t)
			ref := w.ref
			ref.Tag = "bad"
			p, err := mirror.Compute(t.Context(), w.client, w.verifier, ref, dst)
			var refusal *verify.Refusal
			if !errors.As(err, &refusal) {
				t.Errorf("got %v, want a *verify.Refusal", err)
			}
			if _, err := p.Apply(t.Context()); err == nil {
				t.Error("a plan that was refused could be applied")
			}
			if all := r.Requests(); len(all) != 0 {
				t.Errorf("the destination was asked: %v", all)
			}
		})
	}
	if _, err := w.sync(t, dst); err != nil { // the sibling that must pass
		t.Error(err)
	}
}

// A source that cannot say whether there are signatures is not unsigned.
func TestSilentSourceIsNotARefusal(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	w.source.On(imgtest.Fault{Path: "/referrers/", Status: http.StatusServiceUnavailable})
	w.source.On(imgtest.Fault{Path: ".sig", Status: http.StatusServiceUnavailable})
	_, err := mirror.Compute(t.Context(), w.client, w.verifier, w.ref, dst)
	var refusal *verify.Refusal
	if !oci.Unreachable(err) || errors.As(err, &refusal) {
		t.Errorf("got %v, want it unreachable", err)
	}
}

// M18: a tag that points at something else stays, and holds up nobody else.
func TestForeignTagIsNotMoved(t *testing.T) {
	w := newWorld(t)
	ra, a := destination(t, imgtest.RegistryOptions{})
	_, b := destination(t, imgtest.RegistryOptions{})
	foreign := imgtest.Release{Repository: a, Content: imgtest.SmallIndex(t, "foreign"), Tags: []string{tag}}.Push(t)
	ra.Forget()
	p := w.plan(t, a, b)
	var changed *oci.Changed
	if !errors.As(p.Copies[0].Err, &changed) || changed.Got != foreign || changed.Want != w.digest || p.Copies[0].Error == "" {
		t.Errorf("got %v, want the change", p.Copies[0].Err)
	}
	receipts, err := p.Apply(t.Context())
	if !errors.As(err, &changed) || receipts[0].Err == nil || receipts[1].Err != nil {
		t.Errorf("got %v, want only the first to fail", err)
	}
	if writes := ra.Writes(); len(writes) != 0 {
		t.Errorf("got writes %v, want none", writes)
	}
	w.standsAlone(t, b)

	p.Overwrite = "a test"
	if _, err := p.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.standsAlone(t, a)
}

// The tag began to point elsewhere after the plan was made.
func TestTagIsComparedAgainBeforeItMoves(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	p := w.plan(t, dst)
	foreign := imgtest.Release{Repository: dst, Content: imgtest.SmallIndex(t, "foreign"), Tags: []string{tag}}.Push(t)
	var changed *oci.Changed
	if _, err := p.Apply(t.Context()); !errors.As(err, &changed) || changed.Got != foreign {
		t.Errorf("got %v, want the change", err)
	}
}

// M17: the tag is resolved once.
func TestMovingSourceTagDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	p := w.plan(t, dst)
	imgtest.Release{Repository: w.ref.Repository, Content: imgtest.SmallIndex(t, "attack"), Tags: []string{tag}}.Push(t)
	if _, err := p.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.standsAlone(t, dst)
}

// raw is a manifest as somebody wrote it.
type raw struct {
	v1.Image
	body []byte
}

func (r raw) RawManifest() ([]byte, error) { return r.body, nil }
func (r raw) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(r.body))
	return h, err
}
func (r raw) Size() (int64, error)                { return int64(len(r.body)), nil }
func (r raw) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// M20: a single image with odd white space, unknown fields and a media type that
// nobody knows arrives byte for byte.
func TestBytesArriveAsTheyAre(t *testing.T) {
	image := imgtest.SmallImage(t, "odd", "amd64")
	body, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	odd := bytes.Replace(body, []byte("{"), []byte("{\n\t \"x-unknown\" : [ 1.0e3 ],  "), 1)
	odd = bytes.Replace(odd, []byte("application/vnd.oci.image.layer.v1.tar\""), []byte("application/vnd.oci.image.layer.v1.tar+zstd\""), 1)
	if bytes.Equal(odd, body) || bytes.Count(odd, []byte("+zstd")) != 1 {
		t.Fatalf("the manifest is not odd: %s", odd)
	}
	w := newWorldOf(t, raw{image, odd})
	_, dst := destination(t, imgtest.RegistryOptions{})
	if _, err := w.sync(t, dst); err != nil {
		t.Fatal(err)
	}
	m, err := w.repository(t, dst).Manifest(t.Context(), w.digest)
	if err != nil || !bytes.Equal(m.Body, odd) {
		t.Errorf("got %s, %v; want %s", m.Body, err, odd)
	}
	w.standsAlone(t, dst)
}

// M26, M01: a destination that is read-only or dead is named, and the others
// get their copy.
func TestOneBadDestinationDoesNotHoldUpTheOthers(t *testing.T) {
	for name, tt := range map[string]struct {
		fault imgtest.Fault
		is    func(error) bool
	}{
		"read-only": {imgtest.Fault{Method: http.MethodPost, Status: http.StatusMethodNotAllowed}, oci.Unsupported},
		"forbidden": {imgtest.Fault{Method: http.MethodPost, Status: http.StatusForbidden}, oci.Denied},
		"dead":      {imgtest.Fault{Status: http.StatusBadGateway}, oci.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ra, a := destination(t, imgtest.RegistryOptions{})
			_, b := destination(t, imgtest.RegistryOptions{})
			ra.On(tt.fault)
			receipts, err := w.sync(t, a, b)
			if !tt.is(err) || receipts[0].Err == nil || receipts[1].Err != nil || !strings.Contains(err.Error(), ra.Host()) {
				t.Errorf("got %v, want the first destination named", err)
			}
			w.standsAlone(t, b)
			ra.Heal()
			if _, err := w.repository(t, a).Resolve(t.Context(), tag); !oci.NotFound(err) {
				t.Errorf("got %v, want no tag", err)
			}
		})
	}
}

// A mirror that gives other bytes than it got does not get the tag.
func TestLyingDestinationGetsNoTag(t *testing.T) {
	w := newWorld(t)
	r, dst := destination(t, imgtest.RegistryOptions{})
	p := w.plan(t, dst)
	r.On(imgtest.Fault{Method: http.MethodGet, Path: "/manifests/" + w.digest.String(), Edit: func(a *imgtest.Answer) {
		a.Body = bytes.Replace(a.Body, []byte("amd64"), []byte("amd65"), 1)
	}})
	if _, err := p.Apply(t.Context()); err == nil {
		t.Error("a mirror that lies was accepted")
	}
	if _, err := w.repository(t, dst).Resolve(t.Context(), tag); !oci.NotFound(err) {
		t.Errorf("got %v, want no tag", err)
	}
}

func TestWrongNamesAreRefused(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	untagged := w.ref
	untagged.Tag = ""
	for name, tt := range map[string]struct {
		src  oci.Reference
		dst  []string
		want string
	}{
		"no destination": {w.ref, nil, "at least one destination"},
		"a digest":       {w.ref, []string{dst + "@" + w.digest.String()}, "not a digest"},
		"twice":          {w.ref, []string{dst, dst + ":other"}, "named twice"},
		"itself":         {w.ref, []string{w.ref.Repository}, "the source itself"},
		"no name":        {w.ref, []string{"://"}, "://"},
		"nothing named":  {untagged, []string{dst}, "want a tag or a digest"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := mirror.Compute(t.Context(), w.client, w.verifier, tt.src, tt.dst...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := (mirror.Plan{}).Apply(t.Context()); err == nil {
		t.Error("a plan that nobody has computed could be applied")
	}
}

// noWait is for pauses that a test need not make.
func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }
