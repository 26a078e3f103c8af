package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
)

func TestWhatInstallingLeavesBehindIsNotInTheImage(t *testing.T) {
	pkg := imgtest.Deb{Name: "messy", Files: []imgtest.DebFile{
		{Path: "run/messy/pid", Body: "1"}, imgtest.Dir("run/messy/empty/deep", 0), {Path: "tmp/left", Body: "x"},
		{Path: "var/cache/messy/cache", Body: "x"}, {Path: "var/log/messy/log", Body: "x"}, imgtest.Dir("var/log/journal", 0),
		{Path: "usr/lib/python3/__pycache__/x.pyc", Body: "x"}, {Path: "usr/lib/python3/x.py", Body: "x"},
		{Path: "etc/machine-id", Body: "random"}, {Path: "etc/passwd-", Body: "backup"}, {Path: "etc/rc2.d/S01messy", Symlink: "../init.d/messy"},
		{Path: "etc/rc2.d/README", Body: "x"}, {Path: "etc/machine-id.d/x", Body: "x"},
	}}
	tree := assemble(t, Config{}, system(pkg)...)
	for path, want := range map[string]bool{
		"/run": true, "/run/lock": true, "/run/messy": false, "/tmp": true, "/tmp/left": false,
		"/var/cache/messy": true, "/var/cache/messy/cache": false, "/var/log/messy": true, "/var/log/messy/log": false, "/var/log/journal": false,
		"/usr/lib/python3/__pycache__": false, "/usr/lib/python3/x.py": true,
		"/etc/machine-id": false, "/etc/machine-id.d/x": true, "/etc/passwd-": false, "/etc/passwd": true, "/etc/rc2.d": true,
	} {
		if got := tree.entries[path[1:]] != nil; got != want {
			t.Errorf("%s: there: %v, want %v", path, got, want)
		}
	}
	tree = assemble(t, Config{Files: []File{{Path: "/run/own/file"}}, Directories: []Directory{{Path: "/run/dir"}}, Links: []Link{{Path: "/var/log/own", Target: "x"}},
		Exclude: []string{"/var/log/*"}}, system(pkg)...)
	for _, path := range []string{"run/own/file", "run/dir", "var/log/own"} {
		if tree.entries[path] == nil {
			t.Errorf("/%s: what the Config asks for is gone", path)
		}
	}
}

// The command and the rule must agree on every path, or the two engines do not.
func TestTheSweepIsTheRule(t *testing.T) {
	find, err := exec.LookPath("find")
	if err != nil {
		t.Skip("no find(1)")
	}
	cfg := Config{Exclude: []string{"/usr/share/doc/*", "/var/lib/drop*"}, Keep: []string{"/usr/share/doc/*/copyright"},
		Files: []File{{Path: "/run/own"}, {Path: "/tmp/odd[*]?\\"}}, Directories: []Directory{{Path: "/run/dir"}}}
	paths := []string{"run/lock/", "run/own", "run/other", "run/dir/", "run/deep/er/", "tmp/odd[*]?\\", "tmp/oddity", "tmp/dir/file",
		"usr/share/doc/a/copyright", "usr/share/doc/a/changelog", "usr/share/doc/b/changelog", "usr/share/doc/c/", "usr/lib/python3/__pycache__/x",
		"usr/lib/python3/__pycache__x", "usr/local/lib/python3.13/dist-packages/", "usr/local/lib/python3.13/keep/file", "etc/rc0.d/K01x", "etc/rc0.d/", "etc/rcS.d/S01x", "etc/rc.d/x",
		"etc/machine-id", "etc/passwd-", "etc/passwd", "var/lib/dpkg/status", "var/lib/dpkg/status-old", "var/lib/dpkg/diversions", "var/lib/ucf/cache/x",
		"var/lib/dropped/file", "var/lib/drop", "var/log/journal/", "var/log/daemon/", "var/log/daemon/x", "var/cache/x/y"}
	root := t.TempDir()
	tree := &Tree{entries: make(map[string]*Entry)}
	for _, p := range paths {
		name := strings.TrimSuffix(p, "/")
		if name != p {
			must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
			must(t, tree.mkdirs(name))
			continue
		}
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
		must(t, tree.putFile(name, 0o644, nil))
	}
	argv := cfg.Sweep()
	argv[0], argv[1] = find, root
	for i, a := range argv {
		if i > 0 && argv[i-1] == "-path" {
			argv[i] = root + a
		}
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	f, err := newFilter(cfg.Exclude, cfg.Keep)
	must(t, err)
	tree.prune(cfg, f)
	var got, want []string
	must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if p != root {
			got = append(got, strings.TrimPrefix(p, root+"/"))
		}
		return err
	}))
	for _, e := range tree.Entries() {
		want = append(want, e.Path)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("find leaves\n%q\nthe rule leaves\n%q", got, want)
	}
	if tree.entries["run/lock"] == nil || tree.entries["run/deep"] != nil || tree.entries["usr/share/doc/a/copyright"] == nil || tree.entries["usr/share/doc/b"] != nil {
		t.Errorf("got %q", want)
	}
}

func TestEveryResidueIsAGlob(t *testing.T) {
	seen := make(map[string]bool)
	for _, glob := range Residue() {
		if err := CheckGlob(glob); err != nil || seen[glob] {
			t.Errorf("%s: %v, there already: %v", glob, err, seen[glob])
		}
		seen[glob] = true
	}
	if got := (Config{}).Sweep(); slices.Contains(got, "") || got[0] != "find" || got[len(got)-1] != "-delete" {
		t.Errorf("got %q", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
