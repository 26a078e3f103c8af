//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/imgctl/imgctl/internal/vm"
)

// What a node has before a container comes. The verb is the variant of iptables
// that made it.
const (
	hint     = "iptables-%s -t mangle -N KUBE-IPTABLES-HINT"
	hint6    = "ip6tables-%s -t mangle -N KUBE-IPTABLES-HINT"
	canary   = "iptables-%s -t mangle -N KUBE-KUBELET-CANARY"
	firewall = "iptables-%s -A INPUT -s 198.51.100.0/24 -j DROP"
	wall6    = "ip6tables-%s -A INPUT -s 2001:db8::/32 -j DROP"
)

func legacy(command string) string { return fmt.Sprintf(command, "legacy") }
func nft(command string) string    { return fmt.Sprintf(command, "nft") }

// The container goes into the network namespace of a node, as the kubelet does,
// and what it writes there must go where the node's own programs have written.
func TestIptablesOfTheImageFollowsTheNode(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  []string
		variant string
	}{
		{"nothing", nil, "nft"},
		{"hint in legacy", []string{legacy(hint)}, "legacy"},
		{"hint in legacy for IPv6", []string{legacy(hint6)}, "legacy"},
		{"canary in legacy", []string{legacy(canary)}, "legacy"},
		{"hint in legacy, more rules in nft", []string{legacy(hint), nft(firewall), nft(wall6)}, "legacy"},
		{"hint in nft, more rules in legacy", []string{nft(hint), legacy(firewall), legacy(wall6)}, "nft"},
		{"hints in both", []string{legacy(hint), nft(hint)}, "nft"},
		{"rules in legacy", []string{legacy(firewall)}, "legacy"},
		{"more rules in legacy", []string{nft(firewall), legacy(firewall), legacy(wall6)}, "legacy"},
		{"as many rules in nft", []string{nft(firewall), legacy(wall6)}, "nft"},
		{"rules of nft itself", []string{"nft add table inet firewalld", "nft add chain inet firewalld input { type filter hook input priority 0 \\; }"}, "nft"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			n.must(t, nil, tt.before...)
			before := n.rules(t)
			r := n.must(t, nil, "iptables -A INPUT -s 192.0.2.1 -j DROP", "ip6tables -A INPUT -s 2001:db8:1::1 -j DROP",
				"iptables-save | iptables-restore && ip6tables-save | ip6tables-restore", links)
			if want := strings.Repeat("/usr/sbin/xtables-"+tt.variant+"-multi\n", 6); r[3].Output+"\n" != want {
				t.Errorf("after the first call: got links to\n%s\nwant\n%s", r[3].Output, want)
			}
			after := n.rules(t)
			other := map[string]string{"legacy": "nft", "nft": "legacy"}[tt.variant]
			if after[other] != before[other] {
				t.Errorf("%s: got\n%s\nwant what was there:\n%s", other, after[other], before[other])
			}
			for _, line := range append(strings.Split(before[tt.variant], "\n"), wrote[tt.variant]...) {
				if !strings.Contains(after[tt.variant], line) {
					t.Errorf("%s: got\n%s\nwant %q in it", tt.variant, after[tt.variant], line)
				}
			}
		})
	}
}

// A container whose root file system is read-only keeps its links to the
// wrapper, so that every call has to find out.
func TestIptablesOfAReadOnlyImageFollowsTheNode(t *testing.T) {
	for variant, before := range map[string][]string{"legacy": {legacy(hint)}, "nft": {nft(hint), legacy(firewall)}} {
		n := newNode(t)
		n.must(t, nil, before...)
		r := n.must(t, []string{"--read-only"}, "iptables -A INPUT -s 192.0.2.1 -j DROP", "ip6tables -A INPUT -s 2001:db8:1::1 -j DROP", links)
		if r[0].Output+r[1].Output != "" || r[2].Output+"\n" != strings.Repeat("/usr/sbin/iptables-wrapper\n", 6) {
			t.Errorf("%s: got %+v, want no word and the links as they were", variant, r)
		}
		after := n.rules(t)
		for _, line := range wrote[variant] {
			if !strings.Contains(after[variant], line) {
				t.Errorf("%s: got\n%s\nwant %q in it", variant, after[variant], line)
			}
		}
	}
}

func TestFirstCallsOfIptablesAtOnce(t *testing.T) {
	const twenty = "for i in $(seq 20); do iptables -w -A INPUT -s 192.0.2.$i -j DROP || echo failed $i & done; wait"
	for _, variant := range []string{"legacy", "nft"} {
		n := newNode(t)
		n.must(t, nil, fmt.Sprintf(hint, variant))
		r := n.must(t, nil, twenty, links, "ls /etc/alternatives /var/lib/dpkg/alternatives | grep dpkg-; update-alternatives --query ip6tables")
		if r[0].Output != "" || r[1].Output+"\n" != strings.Repeat("/usr/sbin/xtables-"+variant+"-multi\n", 6) {
			t.Errorf("%s: got %q, and links to\n%s", variant, r[0].Output, r[1].Output)
		}
		if !strings.HasPrefix(r[2].Output, "Name: ip6tables\n") || !strings.Contains(r[2].Output, "Value: /usr/sbin/ip6tables-"+variant) {
			t.Errorf("%s: got %s, want the choice and nothing half-made", variant, r[2].Output)
		}
		if got := strings.Count(n.rules(t)[variant], "192.0.2."); got != 20 {
			t.Errorf("%s: got %d rules, want 20", variant, got)
		}
	}
}

// Only legacy iptables knows the lock; finding out does not wait for it, and the
// program that is called treats it as always.
func TestIptablesWhileTheLockIsHeld(t *testing.T) {
	const locked = "flock /run/xtables.lock iptables -w 1 -A INPUT -s 192.0.2.1 -j DROP"
	for variant, code := range map[string]int{"legacy": 4, "nft": 0} {
		n := newNode(t)
		n.must(t, nil, fmt.Sprintf(hint, variant))
		r := n.run(t, nil, locked, links, "iptables -w 1 -A INPUT -s 192.0.2.2 -j DROP")
		if r[0].Code != code || r[2].Code != 0 || !strings.HasPrefix(r[1].Output, "/usr/sbin/xtables-"+variant+"-multi\n") {
			t.Errorf("%s: got %+v, want code %d under the lock, 0 without it", variant, r, code)
		}
	}
}

// Without the right to ask there is no answer, and what was not answered is not kept.
func TestIptablesWithoutPermissionKeepsNoChoice(t *testing.T) {
	p := shared.Podman(t)
	script := vm.Commands([]string{"iptables -A INPUT -i lo -j DROP", links})
	out := output(t, p.run(t, []string{"--network", "none", "--cap-drop", "all"}, "sh", "-c", "exec 2>&1\n"+string(script)))
	r := vm.Results(out, []string{"", ""})
	if len(r) != 2 || r[0].Code != 4 || !strings.Contains(r[0].Output, "(nf_tables)") || !strings.HasPrefix(r[1].Output, "/usr/sbin/iptables-wrapper\n") {
		t.Errorf("got %+v, want nft's refusal and the links as they were", r)
	}
}

// links shows where the six names lead.
const links = "for n in iptables ip6tables; do readlink -f /usr/sbin/$n /usr/sbin/$n-save /usr/sbin/$n-restore; done"

// wrote is how rules that a test has the image write look where they went.
var wrote = map[string][]string{
	"legacy": {"-A INPUT -s 192.0.2.1/32 -j DROP", "-A INPUT -s 2001:db8:1::1/128 -j DROP"},
	"nft":    {"ip saddr 192.0.2.1 counter", "ip6 saddr 2001:db8:1::1 counter"},
}

// node is the network of a node: a namespace that is there as long as the file is open.
type node struct{ namespace *os.File }

func newNode(t *testing.T) *node {
	t.Helper()
	type answer struct {
		file *os.File
		err  error
	}
	answers := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the function
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			answers <- answer{nil, fmt.Errorf("unshare network: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		answers <- answer{f, err}
	}()
	a := <-answers
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Cleanup(func() { a.file.Close() })
	return &node{a.file}
}

// run starts a container in the node's network and executes the commands there,
// whatever their exit codes.
func (n *node) run(t *testing.T, options []string, commands ...string) []vm.Result {
	t.Helper()
	options = append([]string{"--privileged", "--network", fmt.Sprintf("ns:/proc/%d/fd/%d", os.Getpid(), n.namespace.Fd())}, options...)
	out := output(t, shared.Podman(t).run(t, options, "sh", "-c", "exec 2>&1\n"+string(vm.Commands(commands))))
	results := vm.Results(out, commands)
	if len(results) != len(commands) {
		t.Fatalf("got %d results of %d:\n%s", len(results), len(commands), out)
	}
	return results
}

// must is run for commands that must not fail.
func (n *node) must(t *testing.T, options []string, commands ...string) []vm.Result {
	t.Helper()
	results := n.run(t, options, commands...)
	for _, r := range results {
		if r.Code != 0 {
			t.Fatalf("%s: got code %d:\n%s", r.Command, r.Code, r.Output)
		}
	}
	return results
}

// rules are all that the node has, by the variant that made them: legacy's tables
// with their rules, and nft's rule set.
func (n *node) rules(t *testing.T) map[string]string {
	t.Helper()
	r := n.must(t, nil, "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names; (iptables-legacy-save; ip6tables-legacy-save) | grep -v '^#'; true",
		"nft list ruleset 2>/dev/null")
	return map[string]string{"legacy": r[0].Output, "nft": r[1].Output}
}
