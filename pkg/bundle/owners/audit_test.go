package owners

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a root whose files belong to whoever runs the test. The audit is by
// number, so what it says of owners is checked as what it finds.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, body := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	passwd = "root:x:0:0::/root:/bin/sh\nkubeadm-etcd:x:561:561::/:/usr/sbin/nologin\nkubeadm-kas:x:562:562::/:/x\nkubeadm-kcm:x:563:563::/:/x\n"
	group  = "root:x:0:\nkubeadm-etcd:x:561:\nkubeadm-kas:x:562:\nkubeadm-kcm:x:563:\nkubeadm-sa-key-readers:x:565:kubeadm-kas,kubeadm-kcm\n"
	// The scheduler's are on the image, and in a record of systemd.
	altPasswd = "kubeadm-ks:x:564:564::/:/x\n"
	altGroup  = `{"groupName": "kubeadm-ks", "gid": 564}`
)

func accounts(more map[string]string) map[string]string {
	files := map[string]string{"etc/passwd": passwd, "etc/group": group, "usr/lib/passwd": altPasswd, "run/userdb/kubeadm-ks.group": altGroup}
	for name, body := range more {
		files[name] += body
	}
	return files
}

func found(t *testing.T, root, what string, repair bool, roles ...Role) []Finding {
	t.Helper()
	all, err := table(t, nil).Audit(root, repair, roles...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f Finding) bool { return f.What != what })
}

func TestNumbersAreFreeOrRightlyUsedWhereverUsersAreKept(t *testing.T) {
	if got := found(t, machine(t, accounts(nil)), "account", false); len(got) != 0 {
		t.Errorf("as it should be: got %+v", got)
	}
	for file, line := range map[string]string{
		"etc/passwd":            "other:x:562:1::/:/x\n",
		"usr/lib/passwd":        "kubeadm-kas:x:700:700::/:/x\n",
		"usr/lib/group":         "other:x:565:\n",
		"etc/userdb/x.user":     `{"userName": "other", "uid": 563}`,
		"run/userdb/x.group":    `{"groupName": "other", "gid": 561}`,
		"usr/lib/userdb/a.user": `{"userName": "kubeadm-ks", "uid": 1}`,
	} {
		got := found(t, machine(t, accounts(map[string]string{file: line})), "account", false)
		if len(got) != 1 || got[0].Path != "/"+file {
			t.Errorf("%s: got %+v, want one finding there", file, got)
		}
	}
	if got := found(t, machine(t, nil), "account", false); len(got) != 9 || !strings.HasPrefix(got[0].Got, "no user") {
		t.Errorf("no users at all: got %+v", got)
	}
}

func TestModesAreFoundAndRepaired(t *testing.T) {
	root := machine(t, accounts(map[string]string{"etc/kubernetes/admin.conf": "secret"}))
	if os.Getuid() != 0 {
		t.Skip("repair sets owners, which only root may")
	}
	path := filepath.Join(root, "etc/kubernetes/admin.conf")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	got := found(t, root, "mode", false, Controller)
	want := Finding{Path: "/etc/kubernetes/admin.conf", What: "mode", Got: "0644", Want: "0600"}
	if len(got) != 1 || got[0] != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	want.Repaired = true
	if got := found(t, root, "mode", true, Controller); len(got) != 1 || got[0] != want {
		t.Errorf("repair: got %+v", got)
	}
	if got := found(t, root, "mode", false, Controller); len(got) != 0 {
		t.Errorf("repaired: got %+v", got)
	}
}

func TestOwnersAreFoundByNumberAlsoBelowADirectory(t *testing.T) {
	root := machine(t, accounts(map[string]string{"var/lib/etcd/member/wal": "x", "etc/kubernetes/service-account/sa.key": "x"}))
	var paths []string
	for _, f := range found(t, root, "owner", false, Roles()...) {
		paths = append(paths, f.Path)
	}
	for _, want := range []string{"/var/lib/etcd", "/var/lib/etcd/member", "/var/lib/etcd/member/wal", "/etc/kubernetes/service-account/sa.key"} {
		if !slices.Contains(paths, want) {
			t.Errorf("%s was not found among %v", want, paths)
		}
	}
	if slices.Contains(paths, "/etc/kubernetes/admin.conf") {
		t.Error("a file that is not there was found")
	}
	for _, f := range found(t, root, "owner", false, Worker) {
		if strings.Contains(f.Path, "etcd") {
			t.Errorf("a worker has no %s", f.Path)
		}
	}
}

func TestLinksAreFoundAndNeverFollowed(t *testing.T) {
	root := machine(t, accounts(map[string]string{"victim": "x", "etc/kubernetes/kubeconfig": "x"}))
	victim := filepath.Join(root, "victim")
	if err := os.Chmod(victim, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../victim", filepath.Join(root, "etc/kubernetes/admin.conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../..", filepath.Join(root, "etc/kubernetes/etcd")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "etc/kubernetes/kubeconfig")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(victim, filepath.Join(root, "etc/kubernetes/kubeconfig")); err != nil {
		t.Fatal(err)
	}
	all, err := table(t, nil).Audit(root, os.Getuid() == 0, Roles()...)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, f := range all {
		if f.What == "kind" && f.Got == "symbolic link" {
			kinds++
		}
		if f.Path == "/etc/kubernetes/kubeconfig" && f.Repaired {
			t.Error("a file with another name was changed")
		}
	}
	if kinds < 2 {
		t.Errorf("got %d links among %+v, want both", kinds, all)
	}
	if info, err := os.Stat(victim); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the file behind the links was changed: %v, %v", info.Mode(), err)
	}
}

func FuzzParseAccounts(f *testing.F) {
	f.Add(passwd, altGroup)
	f.Fuzz(func(t *testing.T, list, text string) {
		for _, r := range parseList("f", list) {
			if r.name == "" || strings.ContainsAny(r.name, ":\n") {
				t.Errorf("got %q", r.name)
			}
		}
		parseRecord("f", []byte(text), "groupName", "gid")
	})
}
