package owners

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

func table(t *testing.T, ids map[string]uint32) *Table {
	t.Helper()
	made, err := New(ids)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestEveryPathIsOnceAndItsOwnersAreKnown(t *testing.T) {
	made := table(t, nil)
	seen := map[string]bool{"/etc": true, "/var/lib": true, "/var/log": true}
	for _, p := range made.Paths() {
		if seen[p.Path] {
			t.Errorf("%s is there twice", p.Path)
		}
		seen[p.Path] = true
		if !seen[path.Dir(p.Path)] {
			t.Errorf("%s comes before its directory", p.Path)
		}
		_, user := made.UID(p.Owner)
		_, group := made.GID(p.Group)
		if !user || !group || p.Why == "" || p.Type == "" || len(p.Roles) == 0 {
			t.Errorf("%s: incomplete: %+v", p.Path, p)
		}
		if perm := p.Mode.Perm(); perm&0o022 != 0 {
			t.Errorf("%s: %o: not its owner alone may write", p.Path, perm)
		}
	}
}

func TestNumbersAreStatedAndCanBeChosen(t *testing.T) {
	u, ok := table(t, nil).UserOf(APIServer)
	if !ok || u.Name != "kubeadm-kas" || u.ID != 562 {
		t.Errorf("got %+v", u)
	}
	if u, _ := table(t, map[string]uint32{"kubeadm-kas": 700}).UserOf(APIServer); u.ID != 700 {
		t.Errorf("chosen: got %+v", u)
	}
	for name, ids := range map[string]map[string]uint32{
		"unknown": {"root": 300}, "too low": {"kubeadm-kas": 199}, "too high": {"kubeadm-kas": 1000}, "taken": {"kubeadm-kas": 561},
	} {
		if _, err := New(ids); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestSystemdMakesUsersAndDirectories(t *testing.T) {
	made := table(t, nil)
	sysusers := string(made.Sysusers())
	for _, line := range []string{"g kubeadm-sa-key-readers 565\n", "u kubeadm-kas 562 \"kube-apiserver\"\n", "m kubeadm-kcm kubeadm-sa-key-readers\n"} {
		if !strings.Contains(sysusers, line) {
			t.Errorf("sysusers.d: got\n%s\nwant %q", sysusers, line)
		}
	}
	form := regexp.MustCompile(`^(#.*|[dz] /[^ ]+ 0[0-7]{3} [a-z-]+ [a-z-]+ -)$`)
	for line := range strings.SplitSeq(strings.TrimSpace(string(made.Tmpfiles(Roles()...))), "\n") {
		if !form.MatchString(line) {
			t.Errorf("tmpfiles.d: got %q", line)
		}
	}
	worker := string(made.Tmpfiles(Worker))
	if strings.Contains(worker, "kubeadm-") || !strings.Contains(worker, "z /etc/kubernetes/kubeconfig 0600 root root -\n") {
		t.Errorf("a worker: got\n%s", worker)
	}
	if both := string(made.Tmpfiles(Controller, EtcdMember)); strings.Count(both, "d /etc/kubernetes 0755") != 1 || !strings.Contains(both, "d /var/lib/etcd 0700 kubeadm-etcd kubeadm-etcd -\n") {
		t.Errorf("a controller with etcd: got\n%s", both)
	}
}
