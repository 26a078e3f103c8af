//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// kills is how often a push is killed: a few times, or as often as IMGCTL_KILLS says.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("IMGCTL_KILLS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An index that somebody else has signed is pushed to two registries, signed, and
// tagged, by a job that is killed at a random instant and then run again: its tag
// is never seen without its signatures, the other's signatures are never lost,
// and in the end everything is there.
func TestPushKilledAnywhereGoesOnAndLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	src, digests := smallIndex(t)
	other := filepath.Join(t.TempDir(), "other")
	output(t, shared.Command(t.Context(), "keygen", other))
	var whole time.Duration // that an undisturbed job takes
	landed := map[string]int{}
	for n := range kills(t) + 1 {
		var repos []string
		for _, r := range shared.Registries {
			repos = append(repos, fmt.Sprintf("%s/push-%d/kubelet", r.Addr, n))
		}
		j := pushJob{src: src, digest: digests[0], repos: repos}
		for _, step := range j.signedBy(other + ".key") {
			output(t, shared.Command(t.Context(), step...))
		}
		w := watch(t, repos)
		if n > 0 {
			landed[j.kill(t, time.Duration(dice.Int64N(int64(whole))))]++
		}
		start := time.Now()
		for _, step := range j.steps() {
			output(t, shared.Command(t.Context(), step...))
		}
		if n == 0 {
			whole = time.Since(start)
		}
		w.until(t, w.sawAll)
		w.cancel()
		w.wg.Wait()
		for _, v := range w.violations() {
			t.Error(v)
		}
		for _, repo := range repos {
			signedTwice(t, repo, digests)
		}
	}
	t.Logf("undisturbed, it takes %s; it was killed in: %v", whole, landed)
}

// smallIndex is an index of two platforms in a layout, and the digests of all three.
func smallIndex(t *testing.T) (ref string, digests []string) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(1000, 3)
		if err != nil {
			t.Fatal(err)
		}
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir := filepath.Join(t.TempDir(), "dist")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	h, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	digests = []string{h.String()}
	for _, d := range m.Manifests {
		digests = append(digests, d.Digest.String())
	}
	return "oci:" + dir + ":v1", digests
}

// pushJob is what a job types that brings an index to registries.
type pushJob struct {
	src, digest string
	repos       []string
}

// signedBy pushes by digest, and signs.
func (j pushJob) signedBy(key string) [][]string {
	steps := [][]string{append([]string{"push", j.src}, j.repos...)}
	for _, repo := range j.repos {
		steps = append(steps, []string{"sign", repo + "@" + j.digest, "--key", key})
	}
	return steps
}

// steps pushes, signs, and tags what was signed.
func (j pushJob) steps() [][]string {
	tag := append([]string{"push", j.src}, j.repos...)
	return append(j.signedBy("release.key"), append(tag, "--tag", "v1", "--key", "release.pub"))
}

// kill runs the job and kills it when that much time has gone by. It returns the
// number and the verb of the command that was killed, or [ended].
func (j pushJob) kill(t *testing.T, after time.Duration) string {
	t.Helper()
	killed := time.After(after)
	for i, step := range j.steps() {
		cmd := shared.Command(t.Context(), step...)
		done := make(chan error, 1)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("imgctl %s: %v", strings.Join(step, " "), err)
			}
		case <-killed:
			cmd.Process.Kill()
			<-done
			return fmt.Sprintf("%d %s", i+1, step[0])
		}
	}
	return ended
}

// signedTwice fails the test unless each part in repo has the signatures of two
// keys, in both forms, and nothing twice.
func signedTwice(t *testing.T, repo string, digests []string) {
	t.Helper()
	r, err := name.NewRepository(repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range digests {
		tag := strings.Replace(digest, ":", "-", 1)
		list, err := remote.Index(r.Tag(tag))
		if err != nil {
			t.Fatalf("%s: list of referrers: %v", repo, err)
		}
		m, err := list.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(r.Tag(tag + ".sig"))
		if err != nil {
			t.Fatalf("%s: legacy signatures: %v", repo, err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Manifests) != 2 || len(layers) != 2 {
			t.Errorf("%s@%s: got %d bundles and %d legacy signatures, want 2 of each", repo, digest, len(m.Manifests), len(layers))
		}
	}
}
