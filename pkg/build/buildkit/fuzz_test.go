package buildkit

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"
)

// What a worker sends is not to be trusted before it is compared.
func FuzzResult(f *testing.F) {
	opt, file := recorded(f)
	response, err := newAnswer(opt).send(opt)
	if err != nil {
		f.Fatal(err)
	}
	image := response.ExporterResponse["containerimage.digest"]
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, image)
	f.Add(good[:len(good)/2], image)
	f.Add([]byte{}, "sha256:")
	f.Fuzz(func(t *testing.T, data []byte, image string) {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		r := &result{file: file}
		defer r.Close()
		if _, err := file.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := r.read(image, job{platform: arm64, layers: 1}); err == nil && len(r.layers) != 1 {
			t.Errorf("got %d layers, want 1", len(r.layers))
		}
	})
}

// recorded is how an engine asks for an arm64 image, and where it puts the answer.
func recorded(t testing.TB) (client.SolveOpt, string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "result"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	opt, err := job{platform: arm64, epoch: created}.options(&result{file: file})
	if err != nil {
		t.Fatal(err)
	}
	return opt, file.Name()
}

func FuzzLayer(f *testing.F) {
	f.Add(archiveOf(tar.Header{Name: "usr/share/doc/a/copyright", Size: 10}, tar.Header{Name: "usr/share/doc/b", Typeflag: tar.TypeSymlink, Linkname: "a"}))
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, err := v1.NewHash(digestOf(data))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := copyLayer(&out, bytes.NewReader(data), want, created); err == nil && !bytes.Equal(out.Bytes(), data) {
			t.Error("got other bytes than were sent")
		}
		other, _ := v1.NewHash(digestOf([]byte("other")))
		if _, err := copyLayer(io.Discard, bytes.NewReader(data), other, created.Add(100*365*24*time.Hour)); err == nil {
			t.Error("another digest: got no error")
		}
	})
}
