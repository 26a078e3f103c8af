package bundle

import (
	"testing"
	"time"

	"github.com/imgctl/imgctl/pkg/bundle/lint"
)

// BenchmarkRender renders a controller with everything: issue 5 asks for 50 ms at most.
func BenchmarkRender(b *testing.B) {
	c := everything(b)
	for b.Loop() {
		rendered(b, c)
	}
}

// BenchmarkPack makes the artifact of it.
func BenchmarkPack(b *testing.B) {
	trees := []Tree{rendered(b, everything(b))}
	for b.Loop() {
		if _, err := Pack(trees, time.Unix(0, 0)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLint lints it: issue 5 asks for 200 ms at most.
func BenchmarkLint(b *testing.B) {
	files := make(map[string][]byte)
	for _, f := range rendered(b, everything(b)).Files {
		files[f.Path] = f.Body
	}
	for b.Loop() {
		lint.Lint(files, "v1.36.2")
	}
}

// everything is a controller with all that a bundle can give one.
func everything(t testing.TB) *Config {
	t.Helper()
	c, err := Load(controllerBundle)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
