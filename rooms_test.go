package imgctl_test

import (
	"go/build"
	"strings"
	"testing"
)

const module = "github.com/imgctl/imgctl/"

// rooms says what each room must not reach, itself or through another room. It
// keeps every heavy library in the one room that owns it, and the network, the
// clock and the command line out of the rooms that are pure.
var rooms = map[string][]string{
	"internal/atomicfile":  {module, "net/http", "google/go-containerregistry"},
	"internal/filelock":    {module, "net/http", "google/go-containerregistry"},
	"internal/cosign":      {module, "net/http", "google/go-containerregistry", "sigstore-go"},
	"internal/strict":      {module, "net/http", "google/go-containerregistry"},
	"internal/download":    {"google/go-containerregistry", "sigstore/", "spf13/cobra", module + "pkg/"},
	"internal/deb":         {"google/go-containerregistry", "sigstore/", "spf13/cobra", module + "pkg/"},
	"pkg/upstream":         {"google/go-containerregistry", "sigstore/", "spf13/cobra", module + "pkg/"},
	"pkg/attest":           {"google/go-containerregistry", "sigstore/", "net/http", "spf13/cobra", module},
	"pkg/build":            {"moby/buildkit", "sigstore/", "spf13/cobra", module + "pkg/oci", "pkg/v1/remote"},
	"pkg/build/inspect":    {"moby/buildkit", "sigstore/", "spf13/cobra", "pkg/v1/remote", module + "pkg/"},
	"pkg/build/layer":      {"moby/buildkit", "sigstore/", "spf13/cobra", "pkg/v1/remote", module + "pkg/"},
	"pkg/build/rootfs":     {"google/go-containerregistry", "sigstore/", "moby/buildkit", module + "pkg/oci", module + "pkg/upstream"},
	"pkg/build/buildkit":   {"sigstore/", "spf13/cobra", module + "pkg/oci"},
	"pkg/build/rebuild":    {"moby/buildkit", "sigstore/", "spf13/cobra", module + "pkg/sign", module + "pkg/verify"},
	"pkg/oci/artifact":     {"pkg/v1/remote", "sigstore/", "net/http", module},
	"pkg/oci":              {"sigstore/", "moby/buildkit", "spf13/cobra", module + "pkg/verify", module + "pkg/sign"},
	"pkg/sign":             {"sigstore/cosign", "moby/buildkit", "spf13/cobra", module + "pkg/build", module + "pkg/verify"},
	"pkg/verify":           {"sigstore/cosign", "sigstore-go/pkg/sign", "moby/buildkit", "spf13/cobra", module + "pkg/sign", module + "pkg/build"},
	"pkg/verify/override":  {module, "net/http", "google/go-containerregistry", "sigstore/", "k8s.io/", "spf13/cobra"},
	"pkg/verify/convert":   {"spf13/cobra", module + "pkg/sign", module + "pkg/build"},
	"pkg/bundle":           {"pkg/v1/remote", "sigstore/", "net/http", "spf13/cobra"},
	"pkg/bundle/secrets":   {"net/http", "k8s.io/", "google/go-containerregistry", "spf13/cobra", module},
	"pkg/bundle/flags":     {"net/http", "k8s.io/", "google/go-containerregistry", "spf13/cobra", module},
	"pkg/bundle/unit":      {"net/http", "k8s.io/", "google/go-containerregistry", "spf13/cobra", module},
	"pkg/bundle/owners":    {module, "k8s.io/", "net/http", "google/go-containerregistry", "sigstore/", "spf13/cobra"},
	"pkg/bundle/plane":     {"net/http", "client-go", "google/go-containerregistry/pkg/v1/remote", "sigstore/", "spf13/cobra", module + "pkg/oci"},
	"pkg/bundle/lint":      {"net/http", "google/go-containerregistry", "sigstore/", "spf13/cobra", module + "pkg/oci"},
	"pkg/bootstrap":        {"pkg/v1/remote", "sigstore/", "moby/buildkit", "spf13/cobra", module + "pkg/oci", "client-go/kubernetes", "cluster-bootstrap"},
	"pkg/bootstrap/seal":   {"net/http", "k8s.io/", "sigstore/", "pkg/v1/remote", "spf13/cobra"},
	"pkg/bootstrap/sealed": {"net/http", "k8s.io/", "sigstore/", "pkg/v1/remote", "spf13/cobra"},
	"pkg/node":             {"k8s.io/", "sigstore/cosign", "moby/buildkit", "spf13/cobra", module + "pkg/sign", module + "pkg/build"},
	"pkg/mirror":           {"sigstore/cosign", "moby/buildkit", "spf13/cobra", module + "pkg/sign", module + "pkg/build"},
	// What tests and the demo need never gets into the program.
	"cmd/imgctl": {"sigstore/cosign", module + "internal/imgtest", module + "internal/peers", module + "internal/lab", module + "internal/kubelab", module + "internal/vm"},
}

// direct lists what only the room itself must not import: it may reach it
// through the room that owns it.
var direct = map[string][]string{
	"cmd/imgctl":    {"sigstore/", "google/go-containerregistry/pkg/v1/remote", "ProtonMail/", "ulikunitz/", "filippo.io/age", "k8s.io/"},
	"pkg/bootstrap": {"filippo.io/age"},
}

// TestRooms holds each heavy library in its room.
//
// It reads imports in this process, and not through "go list", so that the test
// cache sees the files that it depends on.
func TestRooms(t *testing.T) {
	for room, banned := range rooms {
		t.Run(room, func(t *testing.T) {
			for dep, by := range imports(t, room, map[string]string{}) {
				for _, b := range banned {
					if strings.Contains(dep, b) {
						t.Errorf("%s reaches %s through %s", room, dep, by)
					}
				}
			}
		})
	}
	for room, banned := range direct {
		t.Run(room, func(t *testing.T) {
			p, err := build.ImportDir(room, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, dep := range p.Imports {
				for _, b := range banned {
					if strings.Contains(dep, b) {
						t.Errorf("%s imports %s", room, dep)
					}
				}
			}
		})
	}
}

// imports returns what dir imports, itself or through packages of this module,
// with the importer of each.
func imports(t *testing.T, dir string, seen map[string]string) map[string]string {
	t.Helper()
	p, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, imp := range p.Imports {
		if _, ok := seen[imp]; ok {
			continue
		}
		seen[imp] = dir
		if ours, ok := strings.CutPrefix(imp, module); ok {
			imports(t, ours, seen)
		}
	}
	return seen
}
