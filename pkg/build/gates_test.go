package build_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// Whoever makes an image, what its spec does not allow is not let through. What
// each gate refuses is tested where the gates are.
func TestWhatTheSpecDoesNotAllowIsNotBuilt(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"setuid":       {"setuid: [/usr/bin/tool-setuid]", "setuid: []", "setuid: /usr/bin/tool-setuid: mode 4755"},
		"size":         {"gates:\n", "gates:\n  maxSize: {compressed: 1KiB}\n", "want at most 1 KiB"},
		"variant":      {"gates:\n", "variants:\n- {name: small, gates: {maxSize: {compressed: 1KiB}}}\ngates:\n", "want at most 1 KiB"},
		"what is good": {"gates:\n", "gates:\n  maxSize: {compressed: 9MiB}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.edit(t, tt.old, tt.new)
			w.lock(t, nil)
			_, err := w.build(t)
			if tt.want == "" {
				must(t, err)
				return
			}
			var gate *build.GateError
			if !errors.As(err, &gate) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || gate.Hint() == "" {
				t.Errorf("got %v, want a GateError with %q and a hint", err, tt.want)
			}
		})
	}
}

// A size that is exceeded is blamed on what grew since the lock before.
func TestTooLargeAnImageNamesThePackageThatGrew(t *testing.T) {
	w := newWorld(t)
	before := w.lock(t, nil)
	for i, p := range w.debian.Packages {
		if p.Name == "tool-static" {
			w.debian.Packages[i].Version = "9.9"
			w.debian.Packages[i].Files = append(p.Files, imgtest.DebFile{Path: "usr/share/tool-words", Body: words(1, 300_000)})
		}
	}
	w.debian.Publish(t)
	w.edit(t, "gates:\n", "gates:\n  maxSize: {compressed: 100KiB}\n")
	w.lock(t, before)
	if _, err := w.build(t); err == nil || !strings.Contains(err.Error(), "grew: tool-static ") {
		t.Errorf("got %v, want the package that grew named", err)
	}
}

func TestGatesReadALayerOnce(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	builder := build.Builder{Engine: w.engine(), Listings: &inspect.Cache{Dir: filepath.Join(w.cache, "listings")}}
	for range 2 {
		r, err := builder.Build(t.Context(), w.spec(t), l, w.target(t, l))
		must(t, err)
		if e := r.Contents["linux/arm64"].Entry("/usr/local/bin/kubelet"); e == nil || e.ELF == nil || e.Layer != 1 {
			t.Errorf("got %+v", e)
		}
	}
	kept, err := filepath.Glob(filepath.Join(w.cache, "listings", "*"))
	must(t, err)
	if len(kept) != 4 {
		t.Errorf("got %q, want a listing of each of 4 layers", kept)
	}
}
