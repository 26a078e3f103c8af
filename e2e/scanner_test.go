//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/peers"
)

// A scanner that reads what dpkg knows must see exactly the packages of the lock,
// or it would miss their vulnerabilities, or report those of others.
func TestScannerSeesEveryPackageOfTheLock(t *testing.T) {
	syft := program(t, peers.Syft())
	spec, lock := loadImage(t)
	for _, variant := range spec.Variants {
		for platform, packages := range lock.Debian.Packages[variant.Name] {
			t.Run(platform+" "+variant.Name, func(t *testing.T) {
				want := make(map[string]string)
				for _, p := range packages {
					want[p.Name] = p.Version + " " + p.Architecture
				}
				start := time.Now()
				got := scan(t, syft, shared.Image(0)+"@"+shared.digest(t, variant.Name, platform))
				t.Logf("syft found %d packages in %s", len(got), time.Since(start).Round(time.Second/10))
				if !maps.Equal(got, want) {
					for _, name := range slices.Sorted(maps.Keys(union(got, want))) {
						if got[name] != want[name] {
							t.Errorf("%s: got %q, want %q", name, got[name], want[name])
						}
					}
				}
			})
		}
	}
}

// scan returns the Debian packages that syft finds: version and architecture by name.
func scan(t *testing.T, syft, image string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), syft, "scan", "--quiet", "--output", "syft-json", "registry:"+image)
	cmd.Env = append(os.Environ(), "SYFT_REGISTRY_INSECURE_USE_HTTP=true", "SYFT_CHECK_FOR_APP_UPDATE=false", "HOME="+t.TempDir())
	var found struct {
		Artifacts []struct {
			Name, Version, Type string
			Metadata            struct{ Architecture string }
		}
	}
	if err := json.Unmarshal([]byte(output(t, cmd)), &found); err != nil {
		t.Fatal(err)
	}
	packages := make(map[string]string)
	for _, a := range found.Artifacts {
		if a.Type != "deb" {
			continue // modules that the kubelet is made of, scripts' own lists
		}
		if _, twice := packages[a.Name]; twice {
			t.Errorf("%s: found twice", a.Name)
		}
		packages[a.Name] = a.Version + " " + a.Metadata.Architecture
	}
	return packages
}

// union has the keys of both.
func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
