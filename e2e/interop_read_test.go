//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/peers"
)

const (
	doesList = "lists" // lists what refers to it
	doesRead = "reads" // fetches it, every byte by digest

	typeBundle    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typeSignature = "https://sigstore.dev/cosign/sign/v1"
	typeSPDX      = "https://spdx.dev/Document"
	predicate     = "dev.sigstore.bundle.predicateType"
)

// reader is a program that reads and lists, and verifies nothing.
type reader struct {
	column   string
	list     func(t *testing.T, s *site, ref string) []v1.Descriptor // nil: it cannot
	manifest func(t *testing.T, s *site, ref string) []byte
	blob     func(t *testing.T, s *site, repository, digest string) []byte
	bundle   func(t *testing.T, s *site, ref string) // reads all files
}

func (r *registries) orasProofs(t *testing.T) []proof {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := program(t, peers.Oras(root))
	run := func(t *testing.T, s *site, args ...string) string {
		if s.plain {
			args = append(args, "--plain-http")
		}
		return output(t, r.command(t, path, args...))
	}
	return r.proofsOf(reader{
		column: "oras",
		list: func(t *testing.T, s *site, ref string) []v1.Descriptor {
			var found struct{ Referrers []v1.Descriptor }
			decode(t, run(t, s, "discover", "--depth", "1", "--format", "json", ref), &found)
			return found.Referrers
		},
		manifest: func(t *testing.T, s *site, ref string) []byte { return []byte(run(t, s, "manifest", "fetch", ref)) },
		blob: func(t *testing.T, s *site, repository, digest string) []byte {
			return []byte(run(t, s, "blob", "fetch", "--output", "-", repository+"@"+digest))
		},
		bundle: func(t *testing.T, s *site, ref string) {
			dir := t.TempDir()
			run(t, s, "pull", "-o", dir, ref)
			wantFiles(t, dir, run(t, s, "manifest", "fetch", ref))
		},
	})
}

func (r *registries) regctlProofs(t *testing.T) []proof {
	t.Helper()
	path := program(t, peers.Regctl())
	output(t, r.command(t, path, "registry", "set", "--skip-check", "--tls", "disabled", r.all[2].addr))
	run := func(t *testing.T, _ *site, args ...string) string { return output(t, r.command(t, path, args...)) }
	return r.proofsOf(reader{
		column: "regctl",
		list: func(t *testing.T, s *site, ref string) (list []v1.Descriptor) {
			decode(t, run(t, s, "artifact", "list", "--format", "{{json .Descriptors}}", ref), &list)
			return list
		},
		manifest: func(t *testing.T, s *site, ref string) []byte {
			return []byte(run(t, s, "manifest", "get", "--format", "raw-body", ref))
		},
		blob: func(t *testing.T, s *site, repository, digest string) []byte {
			return []byte(run(t, s, "blob", "get", repository, digest))
		},
		bundle: func(t *testing.T, s *site, ref string) {
			dir := t.TempDir()
			run(t, s, "artifact", "get", "-o", dir, ref)
			wantFiles(t, dir, run(t, s, "manifest", "get", "--format", "raw-body", ref))
		},
	})
}

func (r *registries) craneProofs(t *testing.T) []proof {
	t.Helper()
	path := program(t, peers.Crane())
	run := func(t *testing.T, s *site, args ...string) string {
		if s.plain {
			args = append(args, "--insecure")
		}
		return output(t, r.command(t, path, args...))
	}
	return r.proofsOf(reader{
		column:   "crane",
		manifest: func(t *testing.T, s *site, ref string) []byte { return []byte(run(t, s, "manifest", ref)) },
		blob: func(t *testing.T, s *site, repository, digest string) []byte {
			return []byte(run(t, s, "blob", repository+"@"+digest))
		},
		bundle: func(t *testing.T, s *site, ref string) { run(t, s, "validate", "--remote", ref) },
	})
}

// proofsOf are those of a reader, in the order of the rows.
func (r *registries) proofsOf(p reader) (list []proof) {
	add := func(row, does string, run func(t *testing.T, s *site)) {
		list = append(list, proof{p.column, row, does, run})
	}
	for _, row := range []string{rowIndex, rowChild, rowBundle} {
		if p.list != nil {
			add(row, doesList, func(t *testing.T, s *site) { r.wantListed(t, p, s, row, typeSignature) })
		}
		add(row, doesRead, func(t *testing.T, s *site) {
			ref := r.ref(s, inBoth, row)
			wantDigest(t, ref, p.manifest(t, s, ref))
			if row == rowBundle {
				p.bundle(t, s, ref)
			}
			r.wantTag(t, p, s, row, ".sig")
		})
	}
	if p.list != nil {
		add(rowSBOM, doesList, func(t *testing.T, s *site) { r.wantListed(t, p, s, rowSBOM, typeSPDX) })
	}
	add(rowSBOM, doesRead, func(t *testing.T, s *site) { r.wantTag(t, p, s, rowSBOM, ".att") })
	return list
}

// wantListed looks for a bundle with the predicate type among what refers to a
// row, and reads it to its end. Of what nobody signed nothing is listed.
func (r *registries) wantListed(t *testing.T, p reader, s *site, row, about string) {
	t.Helper()
	ref := r.ref(s, inBoth, row)
	list := p.list(t, s, ref)
	i := slices.IndexFunc(list, func(d v1.Descriptor) bool { return d.ArtifactType == typeBundle && d.Annotations[predicate] == about })
	if i < 0 {
		t.Fatalf("%s: got %+v, want a bundle about %s", ref, list, about)
	}
	repository, _, _ := strings.Cut(ref, "@")
	var m v1.Manifest
	decode(t, string(p.manifest(t, s, repository+"@"+list[i].Digest.String())), &m)
	layer := m.Layers[0].Digest.String()
	body := p.blob(t, s, repository, layer)
	wantDigest(t, repository+"@"+layer, body)
	var bundle struct{ DSSEEnvelope struct{ Payload []byte } }
	decode(t, string(body), &bundle)
	wantPredicate(t, bundle.DSSEEnvelope.Payload, about)
	if left := p.list(t, s, r.ref(s, inUnsigned, row)); len(left) > 0 {
		t.Errorf("%s: got %+v, want nothing listed", r.ref(s, inUnsigned, row), left)
	}
}

// wantTag reads what the tag for the older layout leads to, to its end.
func (r *registries) wantTag(t *testing.T, p reader, s *site, row, suffix string) {
	t.Helper()
	repository, digest, _ := strings.Cut(r.ref(s, inBoth, row), "@")
	var m v1.Manifest
	decode(t, string(p.manifest(t, s, repository+":"+strings.Replace(digest, ":", "-", 1)+suffix)), &m)
	layer := m.Layers[0].Digest.String()
	body := p.blob(t, s, repository, layer)
	wantDigest(t, repository+"@"+layer, body)
	if suffix == ".att" {
		var envelope struct{ Payload []byte }
		decode(t, string(body), &envelope)
		wantPredicate(t, envelope.Payload, typeSPDX)
		return
	}
	if !strings.Contains(string(body), digest) {
		t.Errorf("%s: got %s, want it to name %s", repository, body, digest)
	}
}

func wantPredicate(t *testing.T, statement []byte, want string) {
	t.Helper()
	var got struct{ PredicateType string }
	decode(t, string(statement), &got)
	if got.PredicateType != want {
		t.Errorf("got a statement of type %q, want %s", got.PredicateType, want)
	}
}

// wantDigest checks bytes that were fetched by digest.
func wantDigest(t *testing.T, ref string, body []byte) {
	t.Helper()
	_, want, _ := strings.Cut(ref, "@")
	h, _, err := v1.SHA256(strings.NewReader(string(body)))
	if err != nil || h.String() != want {
		t.Errorf("%s: got %s, %v", ref, h, err)
	}
}

// wantFiles checks that a directory has every file of the bundle with that manifest.
func wantFiles(t *testing.T, dir, manifest string) {
	t.Helper()
	var m v1.Manifest
	decode(t, manifest, &m)
	for _, l := range m.Layers {
		title := l.Annotations["org.opencontainers.image.title"]
		body, err := os.ReadFile(filepath.Join(dir, title))
		if err != nil {
			t.Error(err)
			continue
		}
		wantDigest(t, title+"@"+l.Digest.String(), body)
	}
	if len(m.Layers) == 0 {
		t.Errorf("got %s, want files", manifest)
	}
}

func decode(t *testing.T, document string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(document), into); err != nil {
		t.Fatalf("%v: %.2000s", err, document)
	}
}
