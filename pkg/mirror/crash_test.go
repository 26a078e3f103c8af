package mirror_test

import (
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// M16: whichever request is the last that gets through, a tag that can be seen
// belongs to a complete, signed release, and the next call finishes.
func TestInterruptedAtEveryRequest(t *testing.T) {
	for name, tt := range map[string]struct {
		last    imgtest.Fault // what happens to the last request; then there is silence
		options imgtest.RegistryOptions
		present int // how often the tag is seen: a look that it shows may fail, and the call that ends is one
	}{
		"request lost, fallback tags": {imgtest.Fault{Drop: true, Times: 1}, imgtest.RegistryOptions{NoReferrers: true}, 2},
		"answer lost, referrers API":  {imgtest.Fault{Lose: true, Times: 1}, imgtest.RegistryOptions{}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			absent, present := 0, 0
			for n, err := 0, error(nil); n == 0 || err != nil; n++ {
				r, dst := destination(t, tt.options)
				p := w.plan(t, dst)
				tt.last.Skip = n
				r.On(tt.last)
				r.On(imgtest.Fault{Skip: n, Drop: true})
				_, err = p.Apply(t.Context())
				r.Heal()
				switch _, seen := w.repository(t, dst).Resolve(t.Context(), tag); {
				case oci.NotFound(seen):
					absent++
				case seen == nil:
					present++
					w.standsAlone(t, dst)
				default:
					t.Fatal(seen)
				}
				if err != nil && !oci.Unreachable(err) {
					t.Fatalf("request %d: got %v, want it unreachable", n, err)
				}
				if _, err := w.sync(t, dst); err != nil {
					t.Fatalf("after request %d: %v", n, err)
				}
				w.standsAlone(t, dst)
			}
			t.Logf("the tag was absent %d times, complete %d times", absent, present)
			if absent < 50 || present != tt.present {
				t.Errorf("got %d absent and %d complete, want many and %d", absent, present, tt.present)
			}
		})
	}
}

// The tag is the last thing that is written.
func TestTagIsWrittenLast(t *testing.T) {
	w := newWorld(t)
	r, dst := destination(t, imgtest.RegistryOptions{})
	if _, err := w.sync(t, dst); err != nil {
		t.Fatal(err)
	}
	writes := r.Writes()
	for i, q := range writes {
		if isTag := strings.HasSuffix(q.Path, "/manifests/"+tag); isTag != (i == len(writes)-1) {
			t.Errorf("write %d of %d: %s", i+1, len(writes), q)
		}
	}
}

// M25: two at once do each other no harm.
func TestTwoSyncsAtOnce(t *testing.T) {
	w := newWorld(t)
	_, dst := destination(t, imgtest.RegistryOptions{})
	var g errgroup.Group
	for range 2 {
		p := w.plan(t, dst)
		g.Go(func() error { _, err := p.Apply(t.Context()); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	w.standsAlone(t, dst)
}
