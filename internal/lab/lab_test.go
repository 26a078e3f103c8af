package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

func TestSpecsNameOnlyTheLabsRegistries(t *testing.T) {
	root := t.TempDir()
	write(t, root, "release.yaml", "destinations:\n- repository: quay.io/poseidon/kubelet\n- repository: docker.io/psdn/kubelet\n")
	write(t, root, "images/kubelet/image.yaml", "a: b\n")
	write(t, root, "images/kubelet/image.lock.json", `{}`)
	write(t, root, "images/kubelet/keyring.gpg", "quay.io/untouched")
	write(t, root, "bundles/typhoon/bundle.yaml", "images: {kubelet: quay.io/poseidon/kubelet}\n")
	write(t, root, "policies/kubelet.yaml", "sources: [docker.io/psdn/kubelet]\n")
	write(t, root, "policies/embed.go", "package policies\n")
	l := newLab(t)
	if err := l.copySpecs(t.Context(), Options{Root: root}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"release.yaml":                "destinations:\n- repository: 127.0.0.1:5001/poseidon/kubelet\n- repository: 127.0.0.2:5002/psdn/kubelet\n",
		"bundles/typhoon/bundle.yaml": "images: {kubelet: 127.0.0.1:5001/poseidon/kubelet}\n",
		"policies/kubelet.yaml":       "sources: [127.0.0.2:5002/psdn/kubelet]\n",
		"images/kubelet/keyring.gpg":  "quay.io/untouched", // only YAML names registries
	} {
		if got := read(t, l.Dir, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"policies/embed.go", "images/kubelet/image.lock.json"} {
		if _, err := os.Stat(filepath.Join(l.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it left out", name, err)
		}
	}
}

func TestReleaseElsewhereIsRefused(t *testing.T) {
	root := t.TempDir()
	write(t, root, "release.yaml", "destinations:\n- repository: quay.io/poseidon/kubelet\n- repository: ghcr.io/psdn/kubelet\n")
	for _, name := range []string{"images/kubelet/image.yaml", "bundles/typhoon/bundle.yaml", "policies/kubelet.yaml"} {
		write(t, root, name, "")
	}
	err := newLab(t).copySpecs(t.Context(), Options{Root: root})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.2:5002/psdn/kubelet") {
		t.Errorf("got %v, want an error that names the destination that is missing", err)
	}
}

func TestCopyReleasesToOtherRepositories(t *testing.T) {
	l, to := newLab(t), t.TempDir()
	write(t, l.Dir, "release.yaml", "repository: 127.0.0.1:5001/poseidon/kubelet\nrepository: 127.0.0.2:5002/psdn/kubelet\n")
	for _, name := range []string{"images/kubelet/image.yaml", "bundles/typhoon/bundle.yaml", "policies/kubelet.yaml", "release.key", "release.pub"} {
		write(t, l.Dir, name, name)
	}
	if err := l.CopyTo(to, "copy7"); err != nil {
		t.Fatal(err)
	}
	want := "repository: 127.0.0.1:5001/copy7/kubelet\nrepository: 127.0.0.2:5002/copy7/kubelet\n"
	if got := read(t, to, "release.yaml"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if fi, err := os.Stat(filepath.Join(to, "release.key")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("private key: got %v, %v; want mode 0600", fi, err)
	}
}

func TestCommandsSeeTheLabAndNotTheUsersSettings(t *testing.T) {
	t.Setenv("IMGCTL_UPSTREAM", "https://example.com")
	t.Setenv("IMGCTL_KEY_PASSWORD", "the user's own")
	t.Setenv("IMGCTL_CACHE", "/cache")
	l := newLab(t)
	l.env = []string{"IMGCTL_UPSTREAM=http://127.0.0.1:9"}
	env := l.Command(t.Context(), "version").Env
	var got []string
	for _, v := range env {
		if strings.HasPrefix(v, "IMGCTL_") {
			got = append(got, v)
		}
	}
	if want := []string{"IMGCTL_CACHE=/cache", "IMGCTL_UPSTREAM=http://127.0.0.1:9"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCloseStopsEverythingInReverseOrderWhateverFails(t *testing.T) {
	var order []int
	cause := errors.New("cause")
	l := &Lab{}
	for i := range 3 {
		l.close = append(l.close, func() error { order = append(order, i); return map[int]error{1: cause}[i] })
	}
	if err := l.Close(); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	if err := l.Close(); err != nil || !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("got order %v and %v from the second Close, want 2 1 0 and nothing", order, err)
	}
}

func TestFailedStartIsTheErrorAndLeavesNothing(t *testing.T) {
	t.Setenv("IMGCTL_CACHE", t.TempDir())
	_, err := Open(t.Context(), Options{Root: t.TempDir(), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "build imgctl") {
		t.Errorf("got %v, want: build imgctl", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Root: t.TempDir(), Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
}

func TestReleaseRecordMustBeWhole(t *testing.T) {
	const whole = `{"artifacts":[
		{"name":"kubelet","digest":"sha256:i","platforms":[{"platform":"linux/amd64","digest":"sha256:a"},{"platform":"linux/arm64","digest":"sha256:b"}]},
		{"name":"typhoon","digest":"sha256:c","tags":["typhoon-v1.36.2"],
			"platforms":[{"platform":"fcos-worker","digest":"sha256:d"},{"platform":"fcos-worker-flux","digest":"sha256:e"}]}]}`
	dir := t.TempDir()
	write(t, dir, "release.lock.json", whole)
	r, err := ReadReleased(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Image().Digest != "sha256:i" || r.Bundle().Digest != "sha256:c" || r.Platform("linux/arm64") != "sha256:b" || r.Platform("linux/riscv64") != "" {
		t.Errorf("got %+v", r)
	}
	for name, text := range map[string]string{
		"one platform": strings.Replace(whole, `,{"platform":"linux/arm64","digest":"sha256:b"}`, "", 1),
		"no Flux":      strings.Replace(whole, `,{"platform":"fcos-worker-flux","digest":"sha256:e"}`, "", 1),
		"no tag":       strings.Replace(whole, `["typhoon-v1.36.2"]`, "[]", 1),
		"cut":          whole[:100],
	} {
		write(t, dir, "release.lock.json", text)
		if r, err := ReadReleased(dir); err == nil {
			t.Errorf("%s: got %+v, want an error", name, r)
		}
	}
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	return &Lab{Dir: t.TempDir(), Registries: [2]*peers.Registry{{Addr: "127.0.0.1:5001"}, {Addr: "127.0.0.2:5002"}}}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
