package oci_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// M16: Publish is killed at each of its requests in turn, once the registry has
// carried it out, then run again. The second run ends with the same digests,
// and at no time was a tag there before everything that belongs to it. (To be
// killed before a request leaves the registry as it was after the one before.)
func TestPublishKilledAtEveryRequestIsFinishedByTheNext(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		reg := imgtest.StartRegistry(t, o)
		f := newFixture(t, 100)
		network := oci.NewTransport()
		newClient := func() *oci.Client { // a new program, but on the same connections
			c := newClient()
			c.Transport = network
			return c
		}
		for n, survived := 0, false; !survived; n++ {
			if n > 500 {
				t.Fatal("Publish makes more than 500 requests")
			}
			repository := fmt.Sprintf("%s/kill-%d", reg.Host(), n)
			survived = killed(t, newClient(), reg, f, repository, n)
			reg.Heal()
			if _, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: repository}); err != nil {
				t.Fatalf("killed at request %d: second run: %v", n, err)
			}
			complete(t, newClient(), repository, f, "v1")
			tagComesLast(t, reg.Requests(), f)
			reg.Forget()
		}
	})
}

// killed runs Publish and stops it for good at its n-th request. It reports
// whether it ended before that.
func killed(t *testing.T, c *oci.Client, reg *imgtest.Registry, f *fixture, repository string, n int) (survived bool) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	reg.On(imgtest.Fault{Skip: n, Do: kill, Lose: true})
	_, err := c.Publish(ctx, f.release(t, "v1"), oci.Destination{Repository: repository})
	if err == nil && ctx.Err() != nil {
		t.Errorf("killed at request %d, and Publish says that all is well", n)
	}
	return ctx.Err() == nil
}

// tagComesLast fails the test if v1 was written before all else.
func tagComesLast(t *testing.T, log []imgtest.Request, f *fixture) {
	t.Helper()
	have := make(map[string]bool)
	for _, q := range log {
		if q.Method != http.MethodPut || !strings.Contains(q.Path, "/manifests/") {
			continue
		}
		ref := q.Path[strings.LastIndexByte(q.Path, '/')+1:]
		if ref != "v1" {
			have[ref] = true
			continue
		}
		for _, d := range f.parts(t) {
			if !have[d.Digest.String()] || !have["sha256-"+d.Digest.Hex+".sig"] {
				t.Fatalf("the tag was written before %s or its signature", d.Digest)
			}
		}
		// 3 parts, 6 attachments, 3 signature tags; fallback tags come on top.
		if len(have) < 12 {
			t.Fatalf("the tag was written after %d manifests, want 12", len(have))
		}
	}
}

// Without the order there would be nothing to find: the test above must fail
// on a log in which the tag is early.
func TestTagComesLastFindsAnEarlyTag(t *testing.T) {
	f := newFixture(t, 100)
	probe := &testing.T{}
	done := make(chan struct{})
	go func() { // Fatal ends the goroutine
		defer close(done)
		tagComesLast(probe, []imgtest.Request{{Method: "PUT", Path: "/v2/a/manifests/v1", Status: 201}}, f)
	}()
	<-done
	if !probe.Failed() {
		t.Error("an early tag was not found")
	}
}

// B03: whatever instant a push into a layout ends at, the next one finishes it,
// and what is there is a layout.
func TestLayoutInterruptedAnywhereIsFinishedByTheNext(t *testing.T) {
	f := newFixture(t, 100)
	for n := 0; ; n++ {
		dir := filepath.Join(t.TempDir(), "dist")
		ctx, kill := context.WithCancel(t.Context())
		var events atomic.Int64
		c := newClient()
		c.Jobs = 1
		r := f.release(t, "v1")
		c.Progress = func(oci.Event) { // one event for each blob and manifest
			if events.Add(1) > int64(n) {
				kill()
			}
		}
		_, err := c.Publish(ctx, r, oci.Destination{Repository: "oci:" + dir})
		stopped := ctx.Err() != nil
		kill()
		if stopped && err == nil {
			// the last event: the tag was there already
			complete(t, newClient(), "oci:"+dir, f, "v1")
		}
		if _, statErr := os.Stat(dir); statErr == nil {
			if temporary, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/.*")); len(temporary) > 0 {
				t.Errorf("interrupted at %d: left %v", n, temporary)
			}
		}
		_, err = newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: "oci:" + dir})
		check(t, err)
		complete(t, newClient(), "oci:"+dir, f, "v1")
		if !stopped {
			return
		}
	}
}
