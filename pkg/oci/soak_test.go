package oci_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// soakRounds is how many releases are published and pulled: a few, or as many
// as IMGCTL_SOAK says.
func soakRounds(t *testing.T) int {
	text := os.Getenv("IMGCTL_SOAK")
	if text == "" {
		return 10
	}
	n, err := strconv.Atoi(text)
	check(t, err)
	return n
}

// dice decides about faults. Requests at the same time make it as random as
// their order is.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) float() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Float64()
}

// misbehave makes share of the registry's requests fail, in every way there is.
func misbehave(reg *imgtest.Registry, tokens *imgtest.TokenServer, share float64) {
	d := &dice{r: rand.New(rand.NewPCG(4, 30))}
	chance := func(part float64) func(imgtest.Request) bool {
		return func(q imgtest.Request) bool { return d.float() < part*share }
	}
	// Each is asked only where those before it said no, so that the parts are
	// a little smaller than they look; the 401 is the smallest, since two of
	// them in a row mean what they say.
	for _, status := range []int{500, 502, 503, 504, 408} {
		reg.On(imgtest.Fault{If: chance(0.08), Status: status, Body: "<html>no</html>"})
	}
	reg.On(imgtest.Fault{If: chance(0.15), Status: 429, Header: map[string][]string{"Retry-After": {"2"}}})
	reg.On(imgtest.Fault{If: chance(0.20), Drop: true})
	reg.On(imgtest.Fault{If: chance(0.10), Lose: true})
	reg.On(imgtest.Fault{If: chance(0.10), Method: "GET", Cut: 40})
	reg.On(imgtest.Fault{If: chance(0.02), Method: "GET", Path: "/blobs/", Cut: 20, Hang: true})
	reg.On(imgtest.Fault{If: chance(0.15), Method: "PUT", Path: "/blobs/uploads/", Take: 1 << 19})
	reg.On(imgtest.Fault{If: chance(0.01), Hang: true}) // each costs real time
	challenge := `Bearer realm="http://` + tokens.Host() + `/token",service="imgtest"`
	reg.On(imgtest.Fault{If: chance(0.05), Status: 401, Header: map[string][]string{"Www-Authenticate": {challenge}}})
}

// impatient is a client whose pauses take no time and who notices a stall soon,
// though not so soon that a busy machine would look like one.
func impatient(t *testing.T, host string) *oci.Client {
	t.Helper()
	c := newClient()
	c.Keychain = oci.Keychain(authFile(t, host, "robot", "secret"), func(string) string { return "" })
	c.Timeouts.Idle = 3 * time.Second
	return c
}

// Publishing and pulling survive a registry of which 30 % of the requests fail.
func TestFaultSoak(t *testing.T) {
	tokens := imgtest.StartTokenServer(t, "127.0.0.2:0")
	tokens.Users["robot"] = "secret"
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Tokens: tokens})
	misbehave(reg, tokens, 0.30)
	tokens.On(imgtest.Fault{If: func(imgtest.Request) bool { return rand.IntN(10) < 3 }, Status: 503})
	rounds, failed := soakRounds(t), 0
	for i := range rounds {
		if err := soakRound(t, tokens.Host(), reg.Host(), i); err != nil {
			failed++
			t.Logf("round %d: %v", i, err)
		}
		reg.Release()
		reg.Forget()
	}
	t.Logf("%d publishes and %d pulls, %d of them failed", rounds, rounds, failed)
	if failed > max(1, 2*rounds/100) { // 1 % of publishes and pulls together
		t.Errorf("%d of %d failed", failed, 2*rounds)
	}
}

func soakRound(t *testing.T, realm, host string, i int) error {
	c := impatient(t, host)
	c.TokenServers = map[string][]string{host: {realm}}
	f, name := newFixture(t, 1200+i), fmt.Sprintf("%s/k%d", host, i)
	if i%10 == 0 {
		f = newFixture(t, 2<<20) // large enough for an upload to be resumed
	}
	if _, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name}); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	repo, err := c.Repository(name)
	check(t, err)
	if err := pullAll(t.Context(), repo, "v1"); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return nil
}

// pullAll reads everything below a tag.
func pullAll(ctx context.Context, repo *oci.Repository, tag string) error {
	root, err := repo.Resolve(ctx, tag)
	if err != nil {
		return err
	}
	m, err := repo.Manifest(ctx, root.Digest)
	if err != nil {
		return err
	}
	index, err := m.Index()
	if err != nil {
		return err
	}
	for _, child := range index.Manifests {
		m, err := repo.Manifest(ctx, child.Digest)
		if err != nil {
			return err
		}
		im, err := m.Image()
		if err != nil {
			return err
		}
		for _, d := range append([]v1.Descriptor{im.Config}, im.Layers...) {
			if _, err := repo.ReadBlob(ctx, d, 4<<20); err != nil {
				return err
			}
		}
	}
	_, err = repo.Referrers(ctx, root.Digest)
	return err
}

// With every request failing it ends, in its budget, and nothing has moved.
func TestR22EverythingFailsEndsInItsBudget(t *testing.T) {
	for name, fault := range map[string]imgtest.Fault{
		"503": {Status: 503}, "429 for an hour": {Status: 429, Header: map[string][]string{"Retry-After": {"3600"}}},
		"cut": {Drop: true}, "lost": {Lose: true}, "reads only": {Method: "PUT", Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			was := other(t, reg.Host()+"/k", "v1")
			reg.On(fault)
			var mu sync.Mutex
			var longest time.Duration
			c := newClient()
			c.Retry.Wait = func(ctx context.Context, d time.Duration) error {
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, d)
				return ctx.Err()
			}
			r := newFixture(t, 100).release(t, "v1")
			r.Overwrite = "a test"
			_, err := c.Publish(t.Context(), r, oci.Destination{Repository: reg.Host() + "/k"})
			if !oci.Unreachable(err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want it unreachable, on one line", err)
			}
			if longest > 34*time.Second {
				t.Errorf("waited %v at once", longest)
			}
			reg.Heal()
			if d, err := repository(t, reg.Host()+"/k").Resolve(t.Context(), "v1"); err != nil || d.Digest != was {
				t.Errorf("the tag is at %s, %v; want it unmoved at %s", d.Digest, err, was)
			}
		})
	}
}

// R21: of whatever is asked, every second answer is an error, of each kind in turn.
func TestR21EverySecondAnswerIsAnError(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	var mu sync.Mutex
	asked := make(map[string]int)
	for i, status := range []int{500, 502, 503, 504, 408} {
		reg.On(imgtest.Fault{Status: status, If: func(q imgtest.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			what := q.Method + q.Path
			if _, digest, found := strings.Cut(q.Path, "digest="); found { // each session has another path
				what = q.Method + digest
			}
			if i == 0 {
				asked[what]++
			}
			return asked[what]%2 == 1 && asked[what]/2%5 == i
		}})
	}
	f, name := newFixture(t, 100), reg.Host()+"/k"
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
	check(t, err)
	reg.Heal()
	complete(t, newClient(), name, f, "v1")
}

// A blob that is cut again and again arrives, each time from where it was.
func TestR23DownloadGoesOnWhereItWasCut(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 1<<20)
	d := v1.Descriptor{MediaType: types.OCILayer, Size: 1 << 20, Digest: digestOf(f.layers[0].body)}
	reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Times: 12, Cut: 80 << 10})
	got, err := readAll(t, repo, d)
	if err != nil || string(got) != string(f.layers[0].body) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	log := reg.Requests()
	if len(log) != 13 || log[1].Range != fmt.Sprintf("bytes=%d-", 80<<10) || log[1].Status != 206 {
		t.Errorf("got %v, the second for %q; want 13 requests, all but the first for the rest", log, log[1].Range)
	}
}
