package bundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

// answers is a world of registries: what each reference points at. A reference
// that is not there is an outage where its registry is down, and else missing.
type answers struct {
	known  map[string]string
	single []string // references to images for one platform
	down   string   // prefix of the references of the registry that is down
}

var (
	errDown    = errors.New("connection refused")
	errMissing = errors.New("not found")
)

func (a answers) Ask(_ context.Context, ref string) (string, bool, error) {
	switch d, ok := a.known[ref]; {
	case a.down != "" && strings.HasPrefix(ref, a.down):
		return "", false, errDown
	case ok:
		return d, !slices.Contains(a.single, ref), nil
	}
	return "", false, errMissing
}

func (answers) Outage(err error) bool { return errors.Is(err, errDown) }

func newLock(t *testing.T, c *Config, a answers) (*Lock, error) {
	t.Helper()
	return NewLock(t.Context(), c, a)
}

const otherDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

func TestTheFirstRegistryThatAnswersIsLocked(t *testing.T) {
	c := load(t)
	c.Images = map[string]Sources{
		"kubelet": {"quay.io/poseidon/kubelet", "docker.io/psdn/kubelet"},
		"etcd":    {"registry.k8s.io/etcd:3.6.1"},
		"coredns": {"registry.k8s.io/coredns@" + digest},
	}
	a := answers{down: "quay.io/", known: map[string]string{
		"docker.io/psdn/kubelet:v1.36.2": otherDigest, "registry.k8s.io/etcd:3.6.1": digest, "registry.k8s.io/coredns@" + digest: digest,
	}}
	l, err := newLock(t, c, a)
	if err != nil {
		t.Fatal(err)
	}
	if i := l.Images["kubelet"]; i.Digest != otherDigest || i.From != "docker.io/psdn/kubelet:v1.36.2" {
		t.Errorf("kubelet: got %+v, want the second registry's", i)
	}
	if w := l.Warnings(); len(w) != 1 || !strings.Contains(w[0], "images.kubelet: quay.io/poseidon/kubelet:v1.36.2 could not be asked: connection refused") {
		t.Errorf("got %q, want one warning of the registry that is down", w)
	}
	tree, err := Render(c, c.Pin("", l))
	if err != nil {
		t.Fatal(err)
	}
	want := "COREDNS_IMAGE=registry.k8s.io/coredns@" + digest + "\nETCD_IMAGE=registry.k8s.io/etcd@" + digest + "\nKUBELET_IMAGE=quay.io/poseidon/kubelet@" + otherDigest + "\n"
	if got := body(t, tree, imagesPath); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, change := range map[string]func(){
		"got neither tag nor digest": func() { c.Images["etcd"] = Sources{"registry.k8s.io/etcd"} },
		"not found":                  func() { c.Images["etcd"] = Sources{"registry.k8s.io/etcd:4"} },
		"got digest": func() {
			c.Images["etcd"] = Sources{"registry.k8s.io/etcd:5"}
			a.known["registry.k8s.io/etcd:5"] = "sha256:../x"
		},
	} {
		change()
		if _, err := newLock(t, c, a); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "image etcd") {
			t.Errorf("got %v, want it to name the image, and %q", err, name)
		}
	}
}

// Nodes may be sent to any registry that is listed, and none of them may fail then.
func TestK08ADigestThatOneListedRegistryDoesNotHaveIsRefused(t *testing.T) {
	const first, second = "quay.io/poseidon/kubelet", "docker.io/psdn/kubelet"
	for name, tt := range map[string]struct {
		sources Sources
		missing string // of the answers that make the lock
		down    string
		want    string // in the error; nothing when it is accepted
	}{
		"everywhere":                 {Sources{first, second}, "", "", ""},
		"missing in the second":      {Sources{first, second}, second + "@" + digest, "", second + "@" + digest + ": want in every source"},
		"the second cannot be asked": {Sources{first, second}, second + "@" + digest, "docker.io/", ""},
		"tag moved on in the first":  {Sources{second, first}, second + ":v1.36.2", "", ""},
		"missing in the first":       {Sources{second, first + ":v1.36.2"}, second, "", second + "@" + digest + ": want in every source"},
		"pinned":                     {Sources{first + "@" + digest, second}, "", "", ""},
		"pinned, and nowhere":        {Sources{first + "@" + digest}, first + "@" + digest, "", first + "@" + digest},
		"pinned, missing in another": {Sources{second, first + "@" + digest}, second + "@" + digest, "", second + "@" + digest},
	} {
		t.Run(name, func(t *testing.T) {
			a := answers{down: tt.down, known: make(map[string]string)}
			for _, repository := range []string{first, second} {
				for _, ref := range []string{repository + ":v1.36.2", repository + "@" + digest} {
					if tt.missing == "" || !strings.HasPrefix(ref, tt.missing) {
						a.known[ref] = digest
					}
				}
			}
			c := load(t)
			c.Images = map[string]Sources{kubeletImage: tt.sources}
			l, err := newLock(t, c, a)
			if tt.want == "" && (err != nil || l.Images[kubeletImage].Digest != digest || len(l.Warnings()) != len(tt.down)/len("docker.io/")) {
				t.Errorf("got %+v, %v", l, err)
			}
			if tt.want != "" && (!errors.Is(err, errMissing) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// One entry of an index is easily taken for the index.
func TestK07AnImageForOnePlatformIsWarnedOf(t *testing.T) {
	c := load(t)
	const ref = "quay.io/poseidon/kubelet:v1.36.2"
	for n, single := range [][]string{nil, {ref}} {
		l, err := newLock(t, c, answers{known: map[string]string{ref: digest}, single: single})
		if err != nil {
			t.Fatal(err)
		}
		if w := l.Warnings(); len(w) != n || n > 0 && !strings.Contains(w[0], "for one platform") {
			t.Errorf("got %q, want %d", w, n)
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
	l, err := newLock(t, c, answers{known: map[string]string{"quay.io/poseidon/kubelet:v1.36.2": digest}})
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
