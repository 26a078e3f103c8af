package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/verify"
)

// N13, N14, N06: what is not ours is never replaced, not by equal bytes either,
// and no link on the way is followed.
func TestInstallRefusesWhatIsNotItsOwn(t *testing.T) {
	const unit = "etc/systemd/system/kubelet.service"
	outside := t.TempDir()
	for name, tt := range map[string]struct {
		do   func(root string) error
		want string
	}{
		"a file":             {func(root string) error { return put(root, unit, "mine") }, "/" + unit + " (a file)"},
		"the same bytes":     {func(root string) error { return put(root, unit, oldKit().bodies["/"+unit]) }, "/" + unit + " (a file)"},
		"a directory":        {func(root string) error { return os.MkdirAll(filepath.Join(root, unit), 0o755) }, "/" + unit + " (a directory)"},
		"another link":       {func(root string) error { return link(root, unit, "/usr/lib/systemd/system/kubelet.service") }, "(a symbolic link to /usr/lib/systemd/system/kubelet.service)"},
		"a masked unit":      {func(root string) error { return link(root, unit, "/dev/null") }, "(a symbolic link to /dev/null)"},
		"a parent outside":   {func(root string) error { return link(root, "etc/systemd", outside) }, "/etc/systemd (a symbolic link, want a directory)"},
		"a parent climbs":    {func(root string) error { return link(root, "etc/systemd", "../../../../../../../..") }, "/etc/systemd (a symbolic link, want a directory)"},
		"a parent inside":    {func(root string) error { return errors.Join(os.Mkdir(root+"/usr", 0o755), link(root, "etc", "usr")) }, "/etc (a symbolic link, want a directory)"},
		"a parent is a file": {func(root string) error { return put(root, "etc/systemd", "") }, "/etc/systemd (a file, want a directory)"},
		"the store a link":   {func(root string) error { return link(root, "var/lib/imgctl", outside) }, "/var/lib/imgctl (a symbolic link, want a directory)"},
		"the store a file":   {func(root string) error { return put(root, "var/lib/imgctl", "") }, "/var/lib/imgctl (a file, want a directory)"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := tt.do(root); err != nil {
				t.Fatal(err)
			}
			before := everything(t, root)
			_, err := storeAt(root).install(t.Context(), oldKit().source)
			var c *Conflict
			if !errors.As(err, &c) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a *Conflict in one line with %q", err, tt.want)
			}
			if after := everything(t, root); after != before {
				t.Errorf("a refused installation wrote: got\n%s\nwant\n%s", after, before)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
				t.Errorf("outside of the root: got %v, %v; want nothing", entries, err)
			}
		})
	}
}

// The conflict is found before an upgrade too, and by a roll-back.
func TestConflictLeavesTheOldBundleActive(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, newKit())
	if err := put(root, "usr/local/bin/kubelet-delete", "mine"); err != nil {
		t.Fatal(err)
	}
	before := everything(t, root)
	var c *Conflict
	if _, err := s.install(t.Context(), oldKit().source); !errors.As(err, &c) || len(c.Paths) != 1 || c.Hint() == "" {
		t.Errorf("got %v, want one conflict", err)
	}
	if everything(t, root) != before {
		t.Error("a refused upgrade wrote something")
	}
	if err := os.Remove(filepath.Join(root, "usr/local/bin/kubelet-delete")); err != nil {
		t.Fatal(err)
	}
	mustInstall(t, s, oldKit()) // the sibling that must pass
	if err := put(root, "etc/kubernetes/rbac/bootstrap.yaml", "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rollback(t.Context()); !errors.As(err, &c) {
		t.Errorf("got %v, want a *Conflict", err)
	}
	sees(t, root, oldKit())
}

// Somebody's link that took the place of ours is left alone when it goes.
func TestForeignLinkSurvivesAnUpgrade(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, oldKit())
	const gone = "usr/local/bin/kubelet-delete"
	if err := errors.Join(os.Remove(filepath.Join(root, gone)), put(root, gone, "mine")); err != nil {
		t.Fatal(err)
	}
	mustInstall(t, s, newKit())
	if got, err := os.ReadFile(filepath.Join(root, gone)); err != nil || string(got) != "mine" {
		t.Errorf("got %q, %v; want it untouched", got, err)
	}
}

// N27: who cannot give files away is told so before anything is written.
func TestOwnersNeedRoot(t *testing.T) {
	root := t.TempDir()
	k := oldKit()
	k.bundle.Files[0].UID++
	s := storeAt(root)
	s.trap.who = &identity{uid: os.Geteuid() + 1000, groups: []int{os.Getegid()}}
	if _, err := s.install(t.Context(), k.source); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "want root") {
		t.Errorf("got %v, want fs.ErrPermission", err)
	}
	if got := everything(t, root); got != "" {
		t.Errorf("a refused installation wrote %s", got)
	}
	s.UnsafeOwners = true
	s.trap.who = nil
	g := mustInstall(t, s, k)
	if got := g.Bundle.Files[0].UID; got != uint32(os.Geteuid()) || k.bundle.Files[0].UID == got {
		t.Errorf("got owner %d, want the caller", got)
	}
	if status, err := s.Status(t.Context()); err != nil || len(status.Changes) != 0 {
		t.Errorf("got %v, %v; want no change", status.Changes, err)
	}
	if again := mustInstall(t, s, k); again.ID != g.ID {
		t.Errorf("got generation %d, want %d", again.ID, g.ID)
	}
}

// Root gives files to anybody; who is not root and gets past the first check is
// stopped by the kernel, and the machine is as it was.
func TestFilesHaveTheirListedOwners(t *testing.T) {
	root := t.TempDir()
	mustInstall(t, storeAt(root), newKit())
	before := listing(t, root)
	k := oldKit()
	k.bundle.Files[0].UID, k.bundle.Files[0].GID = 4711, 4712
	s := storeAt(root)
	s.trap.who = &identity{uid: 0}
	g, err := s.install(t.Context(), k.source)
	if os.Geteuid() != 0 {
		if !errors.Is(err, fs.ErrPermission) || listing(t, root) != before {
			t.Errorf("got %v, want fs.ErrPermission and nothing changed", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(root, k.bundle.Files[0].Path))
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(fi); uid != 4711 || gid != 4712 {
		t.Errorf("got owner %d:%d, want 4711:4712", uid, gid)
	}
	if status, err := s.Status(t.Context()); err != nil || len(status.Changes) != 0 || status.Current.ID != g.ID {
		t.Errorf("got %+v, %v; want no change", status, err)
	}
}

// A zero key opens nothing.
func TestOnlyAVerifiedBundleIsInstalled(t *testing.T) {
	root := t.TempDir()
	for _, v := range []*verify.Verified{nil, {}} {
		if _, err := storeAt(root).Install(t.Context(), v); !errors.Is(err, errNotVerified) {
			t.Errorf("got %v, want it refused", err)
		}
		if _, err := storeAt(root).Plan(t.Context(), v); !errors.Is(err, errNotVerified) {
			t.Errorf("got %v, want it refused", err)
		}
	}
	if got := everything(t, root); got != "" {
		t.Errorf("a refused installation wrote %s", got)
	}
}

// A bundle cannot replace the store that it is installed in.
func TestStorePathsAreRefused(t *testing.T) {
	for _, p := range []string{"/var/lib/imgctl/current", "/var/lib/imgctl/generations/1/generation.json", "/var/lib/imgctl", "/var/lib", "/var"} {
		k := pack("v1.36.2", map[string]string{p: "x"})
		if err := checkContent(&k.bundle); err == nil {
			t.Errorf("%s: accepted", p)
		}
	}
	for _, p := range []string{"/var/lib/imgctl2/x", "/var/lib/kubelet/config.yaml", "/etc/var/lib/imgctl"} {
		k := pack("v1.36.2", map[string]string{p: "x"})
		if err := checkContent(&k.bundle); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A record that was spoiled costs its generation and nothing else.
func TestSpoiledRecords(t *testing.T) {
	for name, record := range map[string]string{
		"empty": "", "not json": "{", "another id": `{"id":7}`, "unknown key": `{"id":1,"x":1}`, "two values": "{}{}",
		"climbs": strings.Replace(goodRecord(t), "/etc/kubernetes/kubelet.yaml", "/etc/../../kubelet.yaml", 1),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := storeAt(root)
			mustInstall(t, s, oldKit())
			mustInstall(t, s, newKit())
			if err := os.WriteFile(filepath.Join(root, dirOf(1), recordName), []byte(record), 0o644); err != nil {
				t.Fatal(err)
			}
			var d *Damaged
			if _, err := s.Rollback(t.Context()); !errors.As(err, &d) || d.ID != 1 || d.Err == nil {
				t.Errorf("got %v, want generation 1 damaged", err)
			}
			if all, err := s.List(t.Context()); err != nil || len(all) != 1 {
				t.Errorf("got %d generations, %v; want 1", len(all), err)
			}
			if g := mustInstall(t, s, oldKit()); g.ID != 3 {
				t.Errorf("got generation %d, want 3", g.ID)
			}
			sees(t, root, oldKit())
			if _, err := s.Prune(t.Context(), 9); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(root, dirOf(1))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want the spoiled generation gone", err)
			}
		})
	}
}

// The active generation's own record: said by Status, mended by Install.
func TestSpoiledActiveRecord(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, oldKit())
	if err := os.WriteFile(filepath.Join(root, dirOf(1), recordName), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var d *Damaged
	if _, err := s.Status(t.Context()); !errors.As(err, &d) {
		t.Errorf("got %v, want a *Damaged", err)
	}
	if g := mustInstall(t, s, oldKit()); g.ID != 2 {
		t.Errorf("got generation %d, want 2", g.ID)
	}
	sees(t, root, oldKit())
}

func goodRecord(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	data, err := os.ReadFile(filepath.Join(root, dirOf(1), recordName))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestForeignCurrentIsAnError(t *testing.T) {
	for _, target := range []string{"/etc", "generations/../../x", "generations/01", "generations/0", "generations/-1", "1"} {
		root := t.TempDir()
		if err := link(root, currentLink, target); err != nil {
			t.Fatal(err)
		}
		if _, err := storeAt(root).install(t.Context(), oldKit().source); err == nil || !strings.Contains(err.Error(), "want one to generations/N") {
			t.Errorf("current -> %s: got %v", target, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":1,"digest":"","repository":"","source":"","installed":"2026-07-01T12:00:00Z","bundle":{"apiVersion":"imgctl.dev/v1","kind":"BundleContent","name":"a","version":"v1","files":[{"path":"/etc/a","mode":"0644","uid":0,"gid":0,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}]}}`))
	f.Add([]byte(`{"id":1,"previous":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseRecord(data)
		if err != nil {
			return
		}
		for _, file := range g.Bundle.Files {
			if !filepath.IsLocal(rel(file.Path)) || g.ID <= g.Previous || strings.HasPrefix(rel(file.Path), storeDir) && rel(file.Path)[len(storeDir):][0] == '/' {
				t.Errorf("accepted %q in generation %d after %d", file.Path, g.ID, g.Previous)
			}
		}
	})
}

func FuzzLocks(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 4073 08:01:131090 0 EOF\n", uint64(131090))
	f.Fuzz(func(t *testing.T, locks string, inode uint64) {
		flockHolder(strings.NewReader(locks), inode)
	})
}

func put(root, name, body string) error {
	p := filepath.Join(root, name)
	return errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(body), 0o644))
}

func link(root, name, target string) error {
	p := filepath.Join(root, name)
	return errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.Symlink(target, p))
}

// everything is [listing] with the directories.
func everything(t *testing.T, root string) string {
	t.Helper()
	var dirs strings.Builder
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && p != root {
			dirs.WriteString(p + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs.String() + listing(t, root)
}
