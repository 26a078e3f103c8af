package build_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
)

// words returns n bytes that compress like a program: about to a third.
func words(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	list := make([]string, 4096)
	for i := range list {
		list[i] = fmt.Sprintf("%x ", r.Uint64()>>r.IntN(56))
	}
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(list[r.IntN(len(list))])
	}
	return b.String()[:n]
}

// benchWorld is a release of 16 MB programs and packages of 24 MB for each platform, all in the cache.
func benchWorld(b *testing.B) (*world, *build.Lock, int64) {
	w := newWorld(b)
	const packages, size, program = 24, 1 << 20, 8 << 20
	names := "tool-static"
	for i := range packages {
		name := fmt.Sprintf("bench%02d", i)
		names += ", " + name
		for j, arch := range []string{"amd64", "arm64"} {
			body := words(uint64(2*i+j), size)
			w.debian.Packages = append(w.debian.Packages, imgtest.Deb{Name: name, Arch: arch,
				Files: []imgtest.DebFile{{Path: "usr/lib/" + name, Body: body}}})
		}
	}
	w.debian.Publish(b)
	w.release(b, program, version)
	w.edit(b, "tool-static]", names+"]")
	l := w.lock(b, nil)
	_, err := build.Build(b.Context(), w.engine(), w.spec(b), l, w.target(b, l))
	must(b, err)
	return w, l, 2 * (packages*size + 2*program)
}

// BenchmarkBuild builds both platforms with warm inputs and no layers in the
// cache. MB/s are those of the files in the images.
func BenchmarkBuild(b *testing.B) {
	w, l, size := benchWorld(b)
	b.SetBytes(size)
	for b.Loop() {
		engine := w.engine()
		engine.Materials.Cache = b.TempDir()
		_, err := build.Build(b.Context(), engine, w.spec(b), l, w.target(b, l))
		must(b, err)
	}
}

// BenchmarkRebuild builds both platforms when nothing has changed.
func BenchmarkRebuild(b *testing.B) {
	w, l, size := benchWorld(b)
	b.SetBytes(size)
	for b.Loop() {
		_, err := build.Build(b.Context(), w.engine(), w.spec(b), l, w.target(b, l))
		must(b, err)
	}
}
