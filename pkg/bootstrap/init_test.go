package bootstrap

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Whatever the umask, only what is public can be read by others, and only by
// those who are let into the directory.
func TestK05ModesDoNotDependOnTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		old := syscall.Umask(mask)
		dir := filepath.Join(t.TempDir(), "secrets")
		_, err := Init(t.Context(), dir, parsed(t), nil, noon)
		if err == nil {
			_, err = CreateToken(t.Context(), dir, TokenOptions{TTL: time.Hour}, noon)
		}
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		checkModes(t, dir)
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		want := secretMode
		body, _ := os.ReadFile(path)
		switch {
		case e.IsDir():
			want = dirMode
		case e.Name() == lockFile:
			return nil
		case !bytes.Contains(body, []byte("PRIVATE KEY")) && !bytes.Contains(body, []byte("key-data")) && !bytes.Contains(body, []byte("token")):
			want = publicMode
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s: got mode %04o, want %04o", path, fi.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestASecondRunKeepsEverything(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	before := tree(t, dir)
	steps, err := Init(t.Context(), dir, c, nil, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.Outcome != Kept {
			t.Errorf("%s was %s, want kept", s.Path, s.Outcome)
		}
	}
	if !maps.Equal(before, tree(t, dir)) {
		t.Error("files differ")
	}
}

// A run that ends after any file is finished by the next: what was there stays.
func TestARunThatWasCutOffIsFinished(t *testing.T) {
	c := parsed(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	order, err := Init(t.Context(), dir, c, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	full := tree(t, dir)
	for cut := range order {
		half := filepath.Join(t.TempDir(), "secrets")
		for _, s := range order[:cut] {
			os.MkdirAll(filepath.Dir(filepath.Join(half, s.Path)), 0o700)
			fi, err := os.Stat(filepath.Join(dir, s.Path))
			if err != nil {
				t.Fatal(err)
			}
			write(t, half, s.Path, []byte(full[s.Path]), fi.Mode())
		}
		os.MkdirAll(half, 0o700)
		if _, err := Init(t.Context(), half, c, nil, noon); err != nil {
			t.Fatalf("after %d files: %v", cut, err)
		}
		got := tree(t, half)
		for _, s := range order[:cut] {
			if got[s.Path] != full[s.Path] {
				t.Errorf("after %d files: %s is another", cut, s.Path)
			}
		}
		if cut == len(order)-1 && len(got) != len(full) {
			t.Errorf("got %d files, want %d", len(got), len(full))
		}
	}
}

// What no longer answers the cluster file, or cannot be trusted, is refused; it
// is made anew when that is asked for, and nothing else is touched.
func TestWhatDoesNotFitIsRefusedUntilRenewalIsAskedFor(t *testing.T) {
	c := parsed(t)
	good := initialized(t, c)
	other := initialized(t, c)
	for name, tt := range map[string]struct {
		spoil func(dir string)
		now   time.Time
		want  string
		renew string
	}{
		"expired":             {func(string) {}, noon.Add(4380 * time.Hour), "pki/apiserver.crt: expired at", "apiserver"},
		"another's key":       {func(dir string) { write(t, dir, "pki/apiserver.key", read(t, other, "pki/apiserver.key"), 0o600) }, noon, "pki/apiserver.crt: certificate is not about the key", "apiserver"},
		"no key":              {func(dir string) { os.Remove(filepath.Join(dir, "pki/etcd/peer.key")) }, noon, "pki/etcd/peer.crt: ", "etcd/peer"},
		"another's CA":        {func(dir string) { write(t, dir, "admin.conf", read(t, other, "admin.conf"), 0o600) }, noon, "admin.conf: got another server", "admin"},
		"no kubeconfig":       {func(dir string) { write(t, dir, "scheduler.conf", []byte("x: ["), 0o600) }, noon, "scheduler.conf: kubeconfig: not understood", "scheduler"},
		"no certificate":      {func(dir string) { write(t, dir, "pki/front-proxy-client.crt", []byte("x"), 0o644) }, noon, "no certificate in PEM", "front-proxy-client"},
		"a key others read":   {func(dir string) { os.Chmod(filepath.Join(dir, "pki/apiserver.key"), 0o640) }, noon, "pki/apiserver.key: got mode -rw-r-----", "apiserver"},
		"super-admin of yore": {func(string) {}, noon.Add(13 * time.Hour), "super-admin.conf: expired at", "super-admin"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secrets")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			modesOf(t, good, dir)
			tt.spoil(dir)
			before := tree(t, dir)
			_, err := Init(t.Context(), dir, c, nil, tt.now)
			var d *Differs
			if !errors.As(err, &d) || !strings.Contains(err.Error(), tt.want) || d.Renew != tt.renew {
				t.Fatalf("got %v (renew %q), want *Differs with %q (%q)", err, d.Renew, tt.want, tt.renew)
			}
			if !maps.Equal(before, tree(t, dir)) {
				t.Error("a file was changed")
			}
			renew := []string{tt.renew}
			if tt.now != noon {
				renew = Renewable()
			}
			if _, err := Init(t.Context(), dir, c, renew, tt.now); err != nil {
				t.Fatal(err)
			}
			if _, err := Init(t.Context(), dir, c, nil, tt.now); err != nil {
				t.Errorf("after the renewal: %v", err)
			}
		})
	}
}

// modesOf gives the files of a copy the modes of the original.
func modesOf(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, strings.TrimPrefix(path, from)), fi.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnotherNameInTheClusterFileAsksForRenewal(t *testing.T) {
	dir := initialized(t, parsed(t))
	changed := parsed(t, "certSANs: [192.0.2.10,", "certSANs: [192.0.2.11,")
	_, err := Init(t.Context(), dir, changed, nil, noon)
	if err == nil || !strings.Contains(err.Error(), "pki/apiserver.crt: names: got") {
		t.Fatalf("got %v, want names that differ", err)
	}
	keep := read(t, dir, "pki/apiserver-kubelet-client.key")
	if _, err := Init(t.Context(), dir, changed, []string{"apiserver"}, noon); err != nil {
		t.Fatal(err)
	}
	if leaf(t, dir, "apiserver").VerifyHostname("192.0.2.11") != nil {
		t.Error("the new name is not in the certificate")
	}
	if !bytes.Equal(keep, read(t, dir, "pki/apiserver-kubelet-client.key")) {
		t.Error("another key was changed")
	}
}

// The keys of the authorities may be somebody else's to keep, as long as nothing has to be signed.
func TestAnAuthorityMayBeKeptElsewhere(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	if err := os.Remove(filepath.Join(dir, "pki/ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
		t.Fatal(err)
	}
	_, err := Init(t.Context(), dir, c, []string{"admin"}, noon)
	if err == nil || !strings.Contains(err.Error(), "key of kubernetes-ca is not here") {
		t.Errorf("got %v, want that the key is not here", err)
	}
}

func TestTheServiceAccountKeyIsNeverMadeTwice(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	key := read(t, dir, serviceAccountKey)
	if err := os.Remove(filepath.Join(dir, serviceAccountKey)); err != nil {
		t.Fatal(err)
	}
	var d *Differs
	if _, err := Init(t.Context(), dir, c, nil, noon); !errors.As(err, &d) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want *Differs: the tokens of the cluster would not verify any more", err)
	}
	write(t, dir, serviceAccountKey, key, 0o600)
	if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
		t.Error(err)
	}
}

func TestADirectoryThatOthersMayEnterIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var d *Differs
	if _, err := Init(t.Context(), dir, parsed(t), nil, noon); !errors.As(err, &d) || len(tree(t, dir)) > 0 {
		t.Errorf("got %v and %d files, want *Differs and none", err, len(tree(t, dir)))
	}
}

func TestRenewingWhatDoesNotExistIsAMistake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	for _, name := range []string{"ca", "etcd/ca", "sa", "nobody", ""} {
		if _, err := Init(t.Context(), dir, parsed(t), []string{name}, noon); err == nil {
			t.Errorf("renewed %q", name)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was written")
	}
}

// Several runs at once take turns: what one has made the others keep.
func TestRunsAtTheSameTimeMakeOneCluster(t *testing.T) {
	c := parsed(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	var g errgroup.Group
	created := make([]int, 4)
	for i := range created {
		g.Go(func() error {
			steps, err := Init(t.Context(), dir, c, nil, noon)
			for _, s := range steps {
				if s.Outcome == Created {
					created[i]++
				}
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(created)
	if created[3] == 0 || created[0]+created[1]+created[2] != 0 {
		t.Errorf("files made by each run: %v, want all of them by one", created)
	}
	if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
		t.Error(err)
	}
}

// An authority that cannot vouch any more, or is not ours to use, is never
// replaced, not even when renewal is asked for.
func TestAnAuthorityThatDoesNotFitIsNeverReplaced(t *testing.T) {
	c := parsed(t)
	good, other := initialized(t, c), initialized(t, c)
	for name, tt := range map[string]struct {
		spoil func(dir string)
		now   time.Time
		want  string
	}{
		"expired":       {func(string) {}, noon.Add(43800 * time.Hour), "pki/ca.crt: no certificate authority, or expired at 2031-"},
		"another's key": {func(dir string) { write(t, dir, "pki/ca.key", read(t, other, "pki/ca.key"), 0o600) }, noon, "pki/ca.crt: certificate is not about the key"},
		"no authority": {func(dir string) {
			write(t, dir, "pki/etcd/ca.crt", read(t, good, "pki/etcd/peer.crt"), 0o644)
			os.Remove(filepath.Join(dir, "pki/etcd/ca.key"))
		}, noon, "pki/etcd/ca.crt: no certificate authority"},
		"no key at all": {func(dir string) { write(t, dir, "pki/ca.key", []byte("x"), 0o600) }, noon, "pki/ca.crt: no private key in PEM"},
		"two of them": {func(dir string) {
			write(t, dir, "pki/ca.crt", append(read(t, good, "pki/ca.crt"), read(t, other, "pki/ca.crt")...), 0o644)
		}, noon, "pki/ca.crt: got 2 certificates, want one"},
		"a public half":  {func(dir string) { write(t, dir, "pki/sa.pub", read(t, other, "pki/sa.pub"), 0o644) }, noon, "pki/sa.pub: is not of the key beside it"},
		"another answer": {func(dir string) { write(t, dir, clusterInfoFile, read(t, other, clusterInfoFile), 0o644) }, noon, "manifests/cluster-info.yaml: is about another server or certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "secrets")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			modesOf(t, good, dir)
			if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
				t.Fatal(err) // the sibling that passes
			}
			tt.spoil(dir)
			spoiled := tree(t, dir)
			_, err := Init(t.Context(), dir, c, Renewable(), tt.now)
			var d *Differs
			if !errors.As(err, &d) || !strings.Contains(err.Error(), tt.want) || d.Renew != "" {
				t.Fatalf("got %v (renew %q), want *Differs with %q", err, d.Renew, tt.want)
			}
			for _, file := range []string{"pki/ca.crt", "pki/ca.key", "pki/etcd/ca.crt", "pki/sa.key", "pki/sa.pub", clusterInfoFile} {
				if after := tree(t, dir); after[file] != spoiled[file] {
					t.Errorf("%s was replaced", file)
				}
			}
		})
	}
}

// The bootstrap kubeconfig follows from the tokens, and comes back with the one that lasts longest.
func TestABootstrapKubeconfigThatIsLostComesBack(t *testing.T) {
	c := parsed(t)
	dir := initialized(t, c)
	made, err := CreateToken(t.Context(), dir, TokenOptions{TTL: 48 * time.Hour}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, bootstrapConfig)); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
		t.Fatal(err)
	}
	_, who, err := parseConfig(read(t, dir, bootstrapConfig), 1)
	if err != nil || !strings.HasPrefix(who.Token, made.ID+".") {
		t.Errorf("got %v and a token other than %s", err, made.ID)
	}
}
