package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

// answers is a world of registries: what each reference points at.
func answers(known map[string]string) func(string) (string, error) {
	return func(ref string) (string, error) {
		if d, ok := known[ref]; ok {
			return d, nil
		}
		return "", errors.New("nobody answers")
	}
}

func TestTheFirstRegistryThatAnswersIsLocked(t *testing.T) {
	c := load(t)
	c.Images = map[string]Sources{
		"kubelet": {"quay.io/poseidon/kubelet", "docker.io/psdn/kubelet"},
		"etcd":    {"registry.k8s.io/etcd:3.6.1"},
		"coredns": {"registry.k8s.io/coredns@" + digest},
	}
	const other = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	known := map[string]string{"docker.io/psdn/kubelet:v1.36.2": other, "registry.k8s.io/etcd:3.6.1": digest}
	l, err := NewLock(c, answers(known))
	if err != nil {
		t.Fatal(err)
	}
	if i := l.Images["kubelet"]; i.Digest != other || i.From != "docker.io/psdn/kubelet:v1.36.2" {
		t.Errorf("kubelet: got %+v, want the second registry's", i)
	}
	tree, err := Render(c, c.Pin("", l))
	if err != nil {
		t.Fatal(err)
	}
	want := "COREDNS_IMAGE=registry.k8s.io/coredns@" + digest + "\nETCD_IMAGE=registry.k8s.io/etcd@" + digest + "\nKUBELET_IMAGE=quay.io/poseidon/kubelet@" + other + "\n"
	if got := body(t, tree, imagesPath); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, change := range map[string]func(){
		"got neither tag nor digest": func() { c.Images["etcd"] = Sources{"registry.k8s.io/etcd"} },
		"nobody answers":             func() { c.Images["etcd"] = Sources{"registry.k8s.io/etcd:4"} },
		"got digest": func() {
			c.Images["etcd"] = Sources{"registry.k8s.io/etcd:5"}
			known["registry.k8s.io/etcd:5"] = "sha256:../x"
		},
	} {
		change()
		if _, err := NewLock(c, answers(known)); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "image etcd") {
			t.Errorf("got %v, want it to name the image, and %q", err, name)
		}
	}
}

// A lock is for what bundle.yaml says now, and holds digests and nothing else.
func TestALockOfSomethingElseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(typhoon)); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := LoadLock(c); l != nil || err != nil {
		t.Errorf("without one: got %v, %v", l, err)
	}
	l, err := NewLock(c, answers(map[string]string{"quay.io/poseidon/kubelet:v1.36.2": digest}))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Save(c); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadLock(c); err != nil {
		t.Errorf("as it was made: %v", err)
	}
	good, err := os.ReadFile(filepath.Join(dir, LockFile))
	if err != nil {
		t.Fatal(err)
	}
	for old, replacement := range map[string]string{digest: "sha256:abc", `"quay.io/poseidon/kubelet"`: `"quay.io/other/kubelet"`, lockKind: "ImageLock", `"from"`: `"of"`} {
		changed := strings.Replace(string(good), old, replacement, 1)
		if changed == string(good) {
			t.Fatalf("%q is not in the lock", old)
		}
		if err := os.WriteFile(filepath.Join(dir, LockFile), []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		var se *strict.Error
		if _, err := LoadLock(c); !errors.As(err, &se) {
			t.Errorf("%s: got %v, want a *strict.Error", replacement, err)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"imgctl.dev/v1","kind":"BundleLock","images":{"kubelet":{"sources":["quay.io/poseidon/kubelet"],"from":"quay.io/poseidon/kubelet:v1.36.2","digest":"` + digest + `"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := load(t)
		c.file = filepath.Join(t.TempDir(), "bundle.yaml")
		if err := os.WriteFile(filepath.Join(filepath.Dir(c.file), LockFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := LoadLock(c)
		if err != nil {
			return
		}
		if _, err := Render(c, c.Pin("", l)); err != nil {
			t.Errorf("a lock that is accepted does not render: %v", err)
		}
	})
}
