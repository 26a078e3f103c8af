package imgtest_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// release writes a release of one architecture without signatures.
func release(t *testing.T) string {
	t.Helper()
	binaries, err := imgtest.WritePrograms(t.TempDir(), "v1.36.2", 3_000_000, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (imgtest.Kube{Version: "v1.36.2", Binaries: binaries}).Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && resp.ContentLength == int64(len(data)) {
		t.Fatal(err)
	}
	return resp.StatusCode, data
}

func TestTheNodeTarballIsReproducible(t *testing.T) {
	path := upstream.NodeTarball("v1.36.2", "amd64")
	var first []byte
	for range 2 {
		data, err := os.ReadFile(filepath.Join(release(t), path))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(data, first) {
			t.Error("two tarballs of the same files differ")
		}
	}
}

func TestEachPathCanBeScripted(t *testing.T) {
	dir := release(t)
	s, err := imgtest.ServeKube(dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path := upstream.Binary("v1.36.2", "amd64", "kubelet")
	original, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, code int, body []byte) {
		t.Helper()
		if gotCode, got := get(t, s.URL+"/"+path); gotCode != code || body != nil && !bytes.Equal(got, body) {
			t.Errorf("%s: got %d and %d bytes", what, gotCode, len(got))
		}
	}
	expect("original", 200, original)
	s.Missing(path)
	expect("missing", 404, nil)
	s.Status(path, 503)
	expect("status", 503, nil)
	s.Replace(path, []byte("other"))
	expect("replaced", 200, []byte("other"))
	s.Flip(path, 1_000_000)
	flipped := bytes.Clone(original)
	flipped[1_000_000] ^= 1
	expect("flipped", 200, flipped)
	s.Script(path, s.CutAfter(1000))
	expect("cut", 200, original[:1000])
	s.Script(path, nil)
	expect("original again", 200, original)
	if code, _ := get(t, s.URL+"/../../etc/passwd"); code != 404 {
		t.Errorf("outside of the directory: got %d", code)
	}
	r := s.Requests()
	if len(r) != 8 || !slices.Contains(r, "GET "+path) || len(s.Requests()) != 0 {
		t.Errorf("recorded %q", r)
	}
}

func TestChannelsNameTheRelease(t *testing.T) {
	dir := release(t)
	for _, channel := range []string{"stable", "stable-1.36", "latest"} {
		data, err := os.ReadFile(filepath.Join(dir, "release", channel+".txt"))
		if err != nil || strings.TrimSpace(string(data)) != "v1.36.2" {
			t.Errorf("%s: got %q, %v", channel, data, err)
		}
	}
}
