package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestInstallUpgradeRollBack(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	first := mustInstall(t, s, oldKit())
	sees(t, root, oldKit(), newKit(), nobody())
	second := mustInstall(t, s, newKit())
	if got := sees(t, root, oldKit(), newKit()); got != 1 {
		t.Error("the new bundle is not active")
	}
	if first.ID != 1 || second.ID != 2 || second.Previous != 1 {
		t.Errorf("got generations %d and %d after %d, want 1 and 2 after 1", first.ID, second.ID, second.Previous)
	}
	status, err := s.Status(t.Context())
	if err != nil || status.Current.ID != 2 || status.Previous.ID != 1 || len(status.Changes) != 0 {
		t.Errorf("got %+v, %v; want 2 after 1, unchanged", status, err)
	}
	back, err := s.Rollback(t.Context())
	if err != nil || back.ID != 1 {
		t.Fatalf("got generation %d, %v; want 1", back.ID, err)
	}
	if got := sees(t, root, oldKit(), newKit()); got != 0 {
		t.Error("the old bundle is not active again")
	}
	tidy(t, root)
	if _, err := s.Rollback(t.Context()); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("got %v, want ErrNoPrevious", err)
	}
	if forth, err := s.Activate(t.Context(), 2); err != nil || forth.ID != 2 {
		t.Errorf("got generation %d, %v; want 2", forth.ID, err)
	}
	sees(t, root, newKit())
	tidy(t, root)
}

// Roll-back follows what was active, not what was installed last: the bad
// generation 2 is nobody's previous one.
func TestRollbackSkipsWhatWasRolledBack(t *testing.T) {
	s := storeAt(t.TempDir())
	mustInstall(t, s, oldKit())
	mustInstall(t, s, newKit())
	if _, err := s.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := mustInstall(t, s, pack("v1.36.3", map[string]string{"/etc/kubernetes/kubelet.yaml": "third"}))
	if third.ID != 3 || third.Previous != 1 {
		t.Errorf("got generation %d after %d, want 3 after 1", third.ID, third.Previous)
	}
	if back, err := s.Rollback(t.Context()); err != nil || back.ID != 1 {
		t.Errorf("got generation %d, %v; want 1", back.ID, err)
	}
}

func TestFilesHaveTheirListedModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // CATALOGUE N26
	root := t.TempDir()
	mustInstall(t, storeAt(root), oldKit())
	for name, want := range map[string]fs.FileMode{
		"etc/systemd/system/kubelet.service":               0o644,
		"usr/local/bin/kubelet-delete":                     0o755,
		"etc/systemd/system":                               fs.ModeDir | 0o755,
		"var/lib/imgctl":                                   fs.ModeDir | 0o755,
		"var/lib/imgctl/generations/1/tree/etc/kubernetes": fs.ModeDir | 0o755,
		"var/lib/imgctl/generations/1/generation.json":     0o644,
		lockFile: 0o600,
	} {
		if fi, err := os.Stat(filepath.Join(root, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: got %v, %v; want mode %v", name, fi, err, want)
		}
	}
}

// N25: a machine that is as it should be is not written to.
func TestInstallAgainWritesNothing(t *testing.T) {
	root := t.TempDir()
	want := mustInstall(t, storeAt(root), oldKit())
	before := listing(t, root)
	var c counter
	s := storeAt(root)
	s.trap = c.trap()
	if got := mustInstall(t, s, oldKit()); got.ID != want.ID {
		t.Errorf("got generation %d, want %d", got.ID, want.ID)
	}
	if w := c.writes(); len(w) != 0 || listing(t, root) != before {
		t.Errorf("got %d writes, want none: %v", len(w), w)
	}
	if mustInstall(t, s, newKit()); len(c.writes()) == 0 {
		t.Error("the counter does not count")
	}
}

func TestInstallAfterRollbackReusesTheGeneration(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, oldKit())
	mustInstall(t, s, newKit())
	if _, err := s.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := s.plan(t.Context(), newKit().source)
	if err != nil || p.Action != DoActivate || p.Generation != 2 {
		t.Errorf("got %s of generation %d, %v; want activate of 2", p.Action, p.Generation, err)
	}
	if g := mustInstall(t, s, newKit()); g.ID != 2 {
		t.Errorf("got generation %d, want 2", g.ID)
	}
	sees(t, root, newKit())
}

func TestPlanSaysWhatInstallDoes(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	p, err := s.plan(t.Context(), oldKit().source)
	if err != nil || p.Action != DoInstall || p.Generation != 1 || len(p.Files) != 5 || p.Files[0].Action != "add" {
		t.Errorf("got %+v, %v", p, err)
	}
	if got := listing(t, root); got != "" {
		t.Errorf("planning wrote %s", got)
	}
	mustInstall(t, s, oldKit())
	p, err = s.plan(t.Context(), newKit().source)
	want := map[string]string{
		"/etc/kubernetes/kubelet.yaml":                        "keep",
		"/etc/kubernetes/rbac/bootstrap.yaml":                 "add",
		"/etc/systemd/system/kubelet.service":                 "replace",
		"/etc/systemd/system/kubelet.service.d/05-proxy.conf": "remove",
		"/etc/systemd/system/kubelet.service.d/10-image.conf": "replace",
		"/usr/local/bin/kubelet-delete":                       "remove",
	}
	if err != nil || len(p.Files) != len(want) {
		t.Fatalf("got %+v, %v", p, err)
	}
	for _, f := range p.Files {
		if f.Action != want[f.Path] {
			t.Errorf("%s: got %q, want %q", f.Path, f.Action, want[f.Path])
		}
	}
	mustInstall(t, s, newKit())
	if p, err = s.plan(t.Context(), newKit().source); err != nil || p.Action != DoNothing {
		t.Errorf("got %s, %v; want nothing", p.Action, err)
	}
}

// N19: size and time stamp are restored; only the hash tells.
func TestStatusFindsWhatWasChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(path string) error
		what string
	}{
		"content": {func(p string) error {
			fi, err := os.Stat(p)
			if err != nil {
				return err
			}
			if err := os.WriteFile(p, make([]byte, fi.Size()), 0); err != nil {
				return err
			}
			return os.Chtimes(p, fi.ModTime(), fi.ModTime())
		}, "content"},
		"size":   {func(p string) error { return os.Truncate(p, 3) }, "size"},
		"mode":   {func(p string) error { return os.Chmod(p, 0o666) }, "mode"},
		"setuid": {func(p string) error { return os.Chmod(p, 0o644|fs.ModeSetuid) }, "mode"},
		"gone":   {os.Remove, "file"},
		"a directory": {func(p string) error {
			return errors.Join(os.Remove(p), os.Mkdir(p, 0o755))
		}, "file"},
		"a link": {func(p string) error {
			return errors.Join(os.Rename(p, p+".moved"), os.Symlink(filepath.Base(p)+".moved", p))
		}, "file"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := storeAt(root)
			mustInstall(t, s, oldKit())
			mustInstall(t, s, newKit())
			const victim = "/etc/systemd/system/kubelet.service"
			if err := tt.do(filepath.Join(root, dirOf(2), treeName, victim)); err != nil {
				t.Fatal(err)
			}
			status, err := s.Status(t.Context())
			if err != nil || len(status.Changes) != 1 || status.Changes[0].Path != victim || status.Changes[0].What != tt.what {
				t.Fatalf("got %v, %v; want %s of %s", status.Changes, err, tt.what, victim)
			}
			var d *Damaged
			if _, err := s.Activate(t.Context(), 2); !errors.As(err, &d) || d.ID != 2 {
				t.Errorf("got %v, want a *Damaged", err)
			}
			g := mustInstall(t, s, newKit())
			if g.ID != 3 || g.Previous != 1 {
				t.Errorf("repaired by generation %d after %d, want 3 after 1", g.ID, g.Previous)
			}
			sees(t, root, newKit())
			tidy(t, root)
		})
	}
}

func TestRollbackRefusesADamagedGeneration(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, oldKit())
	mustInstall(t, s, newKit())
	victim := filepath.Join(root, dirOf(1), treeName, "etc/kubernetes/kubelet.yaml")
	if err := os.WriteFile(victim, []byte("kind: KubeletConfiguratioN\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := listing(t, root)
	var d *Damaged
	if _, err := s.Rollback(t.Context()); !errors.As(err, &d) || d.ID != 1 || d.Changes[0].What != "content" {
		t.Errorf("got %v, want content of generation 1", err)
	}
	if listing(t, root) != before {
		t.Error("a refused roll-back wrote something")
	}
}

func TestInstallMakesLostLinksAgain(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	mustInstall(t, s, oldKit())
	if err := os.Remove(filepath.Join(root, "etc/systemd/system/kubelet.service")); err != nil {
		t.Fatal(err)
	}
	status, err := s.Status(t.Context())
	if err != nil || len(status.Changes) != 1 || status.Changes[0].What != "link" {
		t.Errorf("got %v, %v; want one lost link", status.Changes, err)
	}
	if p, err := s.plan(t.Context(), oldKit().source); err != nil || p.Action != DoRelink {
		t.Errorf("got %s, %v; want relink", p.Action, err)
	}
	if g := mustInstall(t, s, oldKit()); g.ID != 1 {
		t.Errorf("got generation %d, want 1", g.ID)
	}
	sees(t, root, oldKit())
}

func TestPruneKeepsCurrentAndPrevious(t *testing.T) { // N18
	root := t.TempDir()
	s := storeAt(root)
	for _, v := range []string{"v1.36.0", "v1.36.1", "v1.36.2", "v1.36.3"} {
		mustInstall(t, s, pack(v, map[string]string{"/etc/kubernetes/kubelet.yaml": v}))
	}
	if _, err := s.Rollback(t.Context()); err != nil { // to 3, whose previous one is 2
		t.Fatal(err)
	}
	removed, err := s.Prune(t.Context(), 0)
	if err != nil || len(removed) != 2 || removed[0].ID != 1 || removed[1].ID != 4 {
		t.Errorf("removed %v, %v; want 1 and 4", removed, err)
	}
	left, err := s.List(t.Context())
	if err != nil || len(left) != 2 || left[0].ID != 3 || left[1].ID != 2 {
		t.Errorf("left %v, %v; want 3 and 2", left, err)
	}
	if removed, err := s.Prune(t.Context(), 5); err != nil || len(removed) != 0 {
		t.Errorf("removed %v, %v; want none", removed, err)
	}
	tidy(t, root)
	if _, err := s.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEmptyMachine(t *testing.T) {
	root := t.TempDir()
	s := storeAt(root)
	if status, err := s.Status(t.Context()); err != nil || status.Current != nil || status.Previous != nil {
		t.Errorf("got %+v, %v; want nothing and no error", status, err)
	}
	_, rollback := s.Rollback(t.Context())
	_, prune := s.Prune(t.Context(), 1)
	for _, err := range []error{rollback, prune} {
		if !errors.Is(err, ErrNothingInstalled) {
			t.Errorf("got %v, want ErrNothingInstalled", err)
		}
	}
	if _, err := s.Activate(t.Context(), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("refused calls wrote %v, %v", entries, err)
	}
	s.Root = filepath.Join(root, "absent")
	if _, err := s.install(t.Context(), oldKit().source); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v, want the root that does not exist", err)
	}
}
