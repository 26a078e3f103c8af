//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

// Each component of the control plane runs as the user of the table, without a
// capability and without a way to get one. The API server alone keeps one that its
// official binary would not start without.
func TestEveryComponentIsAUserOfItsOwn(t *testing.T) {
	c := shared.Cluster(t)
	table := newTable(t)
	for _, name := range owners.Components() {
		user, _ := table.UserOf(name)
		id := fmt.Sprint(user.ID)
		want := map[string]string{
			"Uid": strings.Repeat(id+" ", 3) + id, "Gid": strings.Repeat(id+" ", 3) + id, "Groups": id,
			"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		}
		for _, g := range user.Groups {
			gid, _ := table.GID(g)
			want["Groups"] += " " + fmt.Sprint(gid)
		}
		if name == owners.APIServer {
			want["CapBnd"], want["NoNewPrivs"] = "0000000000000400", "0"
		}
		got := c.status(t, name)
		for field, value := range want {
			if got[field] != value {
				t.Errorf("%s: %s: got %q, want %q", name, field, got[field], value)
			}
		}
	}
}

// The kubelet asks each component how it is, without a credential, and its own node
// joins the cluster that it started.
func TestControlPlaneIsWellByItsOwnProbes(t *testing.T) {
	c := shared.Cluster(t)
	c.ready(t, c.controller)
	c.kubectl(t, "wait", "--namespace=kube-system", "--for=condition=Ready", "pod", "--selector=tier=control-plane", "--timeout=2m")
	pods := strings.Fields(c.kubectl(t, "get", "pods", "--namespace=kube-system", "--selector=tier=control-plane", "--output=name"))
	if len(pods) != len(owners.Components()) {
		t.Errorf("got the pods %v, want one for each of %v", pods, owners.Components())
	}
}

// asUser returns how setpriv makes a component's user of root.
func asUser(t *testing.T, table *owners.Table, user owners.User) (flags []string) {
	t.Helper()
	groups := []string{fmt.Sprint(user.ID)}
	for _, name := range user.Groups {
		id, ok := table.GID(name)
		if !ok {
			t.Fatalf("group %s: got none", name)
		}
		groups = append(groups, fmt.Sprint(id))
	}
	return []string{fmt.Sprintf("--reuid=%d", user.ID), fmt.Sprintf("--regid=%d", user.ID), "--groups=" + strings.Join(groups, ","), "--"}
}

// Not the API server's own user but its group reads the key that signs tokens.
func TestAPIServerOutsideTheGroupOfTheKeyDoesNotStart(t *testing.T) {
	c := shared.Cluster(t)
	p, err := c.controller.Process(owners.APIServer)
	if err != nil {
		t.Fatal(err)
	}
	table := newTable(t)
	user, _ := table.UserOf(owners.APIServer)
	member := asUser(t, table, user)
	outside := slices.Clone(member)
	outside[2] = "--clear-groups"
	for want, flags := range map[string][]string{
		"open /etc/kubernetes/service-account/sa.key: permission denied": outside,
		"listen tcp 0.0.0.0:6443: bind: address already in use":          member, // by the one that runs
	} {
		out := refused(t, c.controller.Command(t.Context(), "setpriv", slices.Concat(flags, p.Args)...))
		if !strings.Contains(out, want) {
			t.Errorf("%v: got %s, want: %s", flags, out, want)
		}
	}
}

// What the table calls a secret is read by those that it names, and by nobody else.
func TestEachUserReadsItsOwnSecretsAlone(t *testing.T) {
	c := shared.Cluster(t)
	table := newTable(t)
	var secrets []owners.Path
	script := []string{"sh", "-c", `for file; do test ! -r "$file" || echo "$file"; done`, "sh"}
	for _, p := range table.Of(owners.Controller, owners.EtcdMember) {
		if p.Secret() && p.Mode.IsRegular() && !strings.Contains(p.Path, "*") {
			secrets = append(secrets, p)
			script = append(script, p.Path)
		}
	}
	for _, user := range table.Users() {
		var want []string
		for _, p := range secrets {
			if p.Owner == user.Name || p.Mode.Perm()&0o040 != 0 && slices.Contains(user.Groups, p.Group) {
				want = append(want, p.Path)
			}
		}
		got := strings.Fields(c.on(t, c.controller, "setpriv", append(asUser(t, table, user), script...)...))
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", user.Name, got, want)
		}
	}
}

// A machine on which a cluster runs is as the table says, and is made so again
// when it is not.
func TestAuditSeesAndRepairsAMachine(t *testing.T) {
	c := shared.Cluster(t)
	audit := []string{"bundle", "audit", "--role", "controller", "--role", "etcd"}
	if found := c.imgctl(t, c.controller, audit...); found != "" {
		t.Errorf("got %s, want nothing", found)
	}
	c.on(t, c.controller, "sh", "-ec", "cd /etc/kubernetes; chmod 0644 service-account/sa.key; chown 0 kube-scheduler/scheduler.conf")
	want := []string{
		"/etc/kubernetes/service-account/sa.key: mode: got 0644, want 0640",
		"/etc/kubernetes/kube-scheduler/scheduler.conf: owner: got 0:564, want 564:564",
	}
	seen := refused(t, c.controller.Command(t.Context(), shared.Bin+"/imgctl", audit...))
	repaired := c.imgctl(t, c.controller, append(audit, "--repair")...)
	for _, line := range want {
		if !strings.Contains(seen, "differs  "+line) || !strings.Contains(repaired, "repaired "+line) {
			t.Errorf("got\n%s, then\n%s, want in both %s", seen, repaired, line)
		}
	}
	if left := c.imgctl(t, c.controller, audit...); left != "" {
		t.Errorf("after the repair: got %s, want nothing", left)
	}
}

func newTable(t *testing.T) *owners.Table {
	t.Helper()
	table, err := owners.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}
