//go:build e2e

package e2e

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// A patch version changes the programs and leaves the packages: who has one image
// pulls nothing of the next but its programs. Here the next has no kubectl.
func TestOtherProgramsArePulledAlone(t *testing.T) {
	spec := editedSpec(t, "\n  - {member: kubernetes/node/bin/kubectl, path: /usr/local/bin/kubectl}", "")
	out := filepath.Join(t.TempDir(), "layout")
	output(t, shared.Command(t.Context(), "build", spec, "--variant", "slim", "-o", out))
	next := "/next/kubelet:" + peers.KubeVersion
	output(t, skopeo(t, "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:"+out+":"+peers.KubeVersion, "docker://"+shared.Registries[0].Addr+next))

	registry, downloads := countDownloads(t, shared.Registries[0].Addr)
	dir := shortDir(t)
	p, err := newPodman(dir, registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.unmount(); err != nil {
			t.Error(err)
		}
	})
	_, repository, _ := strings.Cut(shared.Image(0), "/")
	output(t, p.command(t, "pull", "-q", registry+"/"+repository+"@"+shared.digest(t, "slim", "linux/amd64")))
	first := downloads()
	output(t, p.command(t, "pull", "-q", registry+next))
	second := downloads()
	layers := layersOf(t, shared.Registries[0].Addr+next)
	packages, programs := layers[0].Digest.String(), layers[1].Digest.String()
	if first[packages] != 1 || second[packages] != 0 || second[programs] != 1 {
		t.Errorf("packages %s, programs %s: the first pull downloaded %v, the next %v", packages, programs, first, second)
	}
}

// countDownloads puts a proxy before a registry. It returns the proxy's address, and
// which blobs were downloaded how often since it was asked last.
func countDownloads(t *testing.T, registry string) (addr string, downloads func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	count := map[string]int{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok && r.Method == http.MethodGet {
			mu.Lock()
			count[digest]++
			mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		defer clear(count)
		return maps.Clone(count)
	}
}
