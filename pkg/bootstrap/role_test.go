package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rows are the files of a role as "MODE OWNER:GROUP PATH", in order.
func rows(t *testing.T, dir string, r Role) []string {
	t.Helper()
	a, err := RoleFiles(t.Context(), dir, "example", r, noon)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range a.Files {
		all = append(all, strings.Join([]string{f.Mode.String(), f.Owner + ":" + f.Group, f.Path}, " "))
	}
	slices.Sort(all)
	return all
}

// The owners and modes of KEP-2568, with a directory for each component.
func TestEachRoleIsGivenWhatItNeedsAndNoMore(t *testing.T) {
	dir := initialized(t, parsed(t))
	id := onlyGrant(t, dir, noon).Token.ID()
	for role, want := range map[Role]string{
		Worker: `
-rw------- root:root /etc/kubernetes/kubeconfig`,
		EtcdMember: `
-rw------- kubeadm-etcd:kubeadm-etcd /etc/kubernetes/etcd/peer.key
-rw------- kubeadm-etcd:kubeadm-etcd /etc/kubernetes/etcd/server.key
-rw------- root:root /etc/kubernetes/etcd/healthcheck-client.key
-rw-r--r-- root:root /etc/kubernetes/etcd/ca.crt
-rw-r--r-- root:root /etc/kubernetes/etcd/healthcheck-client.crt
-rw-r--r-- root:root /etc/kubernetes/etcd/peer.crt
-rw-r--r-- root:root /etc/kubernetes/etcd/server.crt`,
		Controller: `
-rw------- kubeadm-kas:kubeadm-kas /etc/kubernetes/kube-apiserver/apiserver-etcd-client.key
-rw------- kubeadm-kas:kubeadm-kas /etc/kubernetes/kube-apiserver/apiserver-kubelet-client.key
-rw------- kubeadm-kas:kubeadm-kas /etc/kubernetes/kube-apiserver/apiserver.key
-rw------- kubeadm-kas:kubeadm-kas /etc/kubernetes/kube-apiserver/front-proxy-client.key
-rw------- kubeadm-kcm:kubeadm-kcm /etc/kubernetes/kube-controller-manager/ca.key
-rw------- kubeadm-kcm:kubeadm-kcm /etc/kubernetes/kube-controller-manager/controller-manager.conf
-rw------- kubeadm-ks:kubeadm-ks /etc/kubernetes/kube-scheduler/scheduler.conf
-rw------- root:root /etc/kubernetes/admin.conf
-rw------- root:root /etc/kubernetes/bootstrap-secrets/bootstrap-token-ID.yaml
-rw------- root:root /etc/kubernetes/bootstrap-secrets/super-admin.conf
-rw------- root:root /etc/kubernetes/kubeconfig
-rw-r----- root:kubeadm-sa-key-readers /etc/kubernetes/service-account/sa.key
-rw-r--r-- root:root /etc/kubernetes/bootstrap-secrets/access.yaml
-rw-r--r-- root:root /etc/kubernetes/bootstrap-secrets/cluster-info.yaml
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/apiserver-etcd-client.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/apiserver-kubelet-client.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/apiserver.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/ca.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/etcd-ca.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/front-proxy-ca.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/front-proxy-client.crt
-rw-r--r-- root:root /etc/kubernetes/kube-apiserver/sa.pub
-rw-r--r-- root:root /etc/kubernetes/kube-controller-manager/ca.crt
-rw-r--r-- root:root /etc/kubernetes/kube-controller-manager/front-proxy-ca.crt`,
	} {
		got := strings.Join(rows(t, dir, role), "\n")
		if want := strings.ReplaceAll(strings.TrimSpace(want), "ID", id); got != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", role, got, want)
		}
	}
}

// What signs for the whole cluster stays with the operator, but for the one key
// with which the controller manager signs.
func TestKeysOfAuthoritiesStayWhereTheyWereMade(t *testing.T) {
	dir := initialized(t, parsed(t))
	for _, role := range Roles() {
		a, err := RoleFiles(t.Context(), dir, "example", role, noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			for _, ca := range []string{etcdCA, frontProxyCA} {
				if string(f.Body) == string(read(t, dir, "pki/"+ca+".key")) {
					t.Errorf("%s: %s is the key of %s", role, f.Path, ca)
				}
			}
			if role != Controller && string(f.Body) == string(read(t, dir, "pki/ca.key")) {
				t.Errorf("%s: %s is the key of the CA", role, f.Path)
			}
		}
	}
}

func TestARoleIsNotSealedWithoutAllOfItsFiles(t *testing.T) {
	dir := initialized(t, parsed(t))
	if err := os.Remove(filepath.Join(dir, "pki/etcd/peer.key")); err != nil {
		t.Fatal(err)
	}
	var d *Differs
	if _, err := RoleFiles(t.Context(), dir, "example", EtcdMember, noon); !errors.As(err, &d) || d.Path != "pki/etcd/peer.key" {
		t.Errorf("got %v, want *Differs of that file", err)
	}
	if _, err := RoleFiles(t.Context(), dir, "example", Worker, noon); err != nil {
		t.Error(err)
	}
}

// An expired token opens nothing, and is not handed out.
func TestExpiredTokensAreNotGivenToMachines(t *testing.T) {
	dir := initialized(t, parsed(t))
	before, err := RoleFiles(t.Context(), dir, "example", Controller, noon)
	if err != nil {
		t.Fatal(err)
	}
	after, err := RoleFiles(t.Context(), dir, "example", Controller, noon.Add(3*time.Hour))
	if err != nil || len(after.Files) != len(before.Files)-1 {
		t.Errorf("got %d files and %v, want one less than %d", len(after.Files), err, len(before.Files))
	}
}
