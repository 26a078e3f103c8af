// Package kubelet is a directory of specs. It has only tests: of the scripts that
// image.yaml puts into the image, played on this machine's shells.
package kubelet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// A node, as the save commands of both variants show it. The first word of a key
// is the variant, the second the family.
type rules map[string]string

const (
	hint   = "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
	canary = "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
	other  = "*mangle\n:KUBE-IPTABLES-HINTS - [0:0]\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n"
	one    = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n"
	two    = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n"
)

// What a real iptables-nft-save says, and its exit codes.
const (
	denied      = "iptables-save v1.8.11 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n"
	unsupported = "iptables-save v1.8.11 (nf_tables): Could not fetch rule set generation id: Invalid argument\n"
)

func TestWrapperFollowsTheNode(t *testing.T) {
	for _, tt := range []struct {
		name    string
		node    rules
		code    int // of nft's save commands
		variant string
		kept    bool
		quick   bool // the hint is enough
	}{
		{name: "nothing anywhere", variant: "nft", kept: true},
		{name: "hint in nft", node: rules{"nft iptables": hint, "legacy iptables": two}, variant: "nft", kept: true, quick: true},
		{name: "hint in nft for IPv6", node: rules{"nft ip6tables": hint, "legacy iptables": two}, variant: "nft", kept: true, quick: true},
		{name: "hint in legacy", node: rules{"legacy iptables": hint, "nft iptables": two}, variant: "legacy", kept: true},
		{name: "hint in legacy for IPv6", node: rules{"legacy ip6tables": hint, "nft iptables": two}, variant: "legacy", kept: true},
		{name: "canary in nft", node: rules{"nft iptables": canary, "legacy iptables": two}, variant: "nft", kept: true, quick: true},
		{name: "canary in legacy", node: rules{"legacy iptables": canary, "nft iptables": two}, variant: "legacy", kept: true},
		{name: "hints in both", node: rules{"nft iptables": hint, "legacy iptables": hint}, variant: "nft", kept: true, quick: true},
		{name: "chains with similar names", node: rules{"legacy iptables": other}, variant: "nft", kept: true},
		{name: "rules in nft only", node: rules{"nft iptables": one}, variant: "nft", kept: true},
		{name: "rules in legacy only", node: rules{"legacy iptables": one}, variant: "legacy", kept: true},
		{name: "more rules in legacy", node: rules{"nft iptables": one, "legacy iptables": two}, variant: "legacy", kept: true},
		{name: "more rules in legacy, counting IPv6", node: rules{"nft iptables": two, "legacy iptables": two, "legacy ip6tables": one}, variant: "legacy", kept: true},
		{name: "as many in both", node: rules{"nft iptables": one, "nft ip6tables": one, "legacy iptables": two}, variant: "nft", kept: true},
		{name: "no nft in the kernel", node: rules{"nft iptables": unsupported}, code: 4, variant: "legacy"},
		{name: "not even netlink in the kernel", node: rules{"nft iptables": unsupported}, code: 1, variant: "legacy"},
		{name: "no permission", node: rules{"nft iptables": denied}, code: 4, variant: "nft"},
		{name: "no permission for nft, hint in legacy", node: rules{"nft iptables": denied, "legacy iptables": hint}, code: 4, variant: "legacy"},
		{name: "nft too slow", code: 124, variant: "nft"},
		{name: "nft too slow, rules in legacy", node: rules{"legacy iptables": one}, code: 124, variant: "legacy"},
		{name: "nft cannot be run", code: 126, variant: "nft"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, sh := range shells() {
				p := newPlay(t, "/usr/sbin/iptables-wrapper")
				for key, text := range tt.node {
					p.write("answers/"+key, text)
				}
				if tt.code != 0 {
					p.write("answers/nft code", fmt.Sprint(tt.code))
				}
				r := p.run(sh, "iptables", "-S")
				if want := tt.variant + " [iptables] [-S]\n"; r.stdout != want || r.stderr != "" || r.code != 0 {
					t.Errorf("%s: got %+v, want %q", sh, r, want)
				}
				var kept string
				if tt.kept {
					kept = fmt.Sprintf("--set iptables SBIN/iptables-%s\n--set ip6tables SBIN/ip6tables-%[1]s\n", tt.variant)
				}
				if got := p.read("alternatives"); got != kept {
					t.Errorf("%s: update-alternatives got %q, want %q", sh, got, kept)
				}
				asked := p.read("asked")
				if strings.Contains(asked, "legacy iptables-save -t") {
					t.Errorf("%s: asked %q, want no table of legacy, which would be made", sh, asked)
				}
				if mangle := "nft ip6tables-save -t mangle\nnft iptables-save -t mangle\n"; tt.quick && asked != mangle {
					t.Errorf("%s: asked %q, want no more than %q of a node with many rules", sh, asked, mangle)
				}
			}
		})
	}
}

func TestWrapperChangesNothingOfTheCall(t *testing.T) {
	p := newPlay(t, "/usr/sbin/iptables-wrapper")
	p.write("exit", "7")
	p.stdin = "*filter\nCOMMIT\n"
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		for _, sh := range shells() {
			r := p.run(sh, name, "-m", "comment", "--comment", "two  words", "", "*", "$(id)\n")
			want := "nft [" + name + "] [-m] [comment] [--comment] [two  words] [] [*] [$(id)\n]\n" + p.stdin
			if r.stdout != want || r.code != 7 || r.stderr != "" {
				t.Errorf("%s %s: got %+v, want %q and code 7", sh, name, r, want)
			}
		}
	}
}

func TestWrapperNeverCallsItself(t *testing.T) {
	p := newPlay(t, "/usr/sbin/iptables-wrapper")
	for _, name := range []string{"iptables-wrapper", "iptables-nft", "xtables-nft-multi-of-mine"} {
		if r := p.run("", name, "-S"); r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, "got the name "+name) {
			t.Errorf("%s: got %+v, want code 2 and its name", name, r)
		}
	}
	p.write("alternatives code", "1") // nothing can be set: the root file system is read-only
	for range 2 {
		if r := p.run("", "iptables", "-S"); r.code != 0 || r.stdout != "nft [iptables] [-S]\n" || r.stderr != "" {
			t.Errorf("links that stay: got %+v, want nft each time and no word about it", r)
		}
	}
	p.write("flock code", "1") // another one is setting them
	p.remove("alternatives code")
	if r := p.run("", "iptables", "-S"); r.code != 0 || r.stdout != "nft [iptables] [-S]\n" || p.read("alternatives") != "" {
		t.Errorf("while another sets the links: got %+v, want nft and no second one", r)
	}
	p.remove("sbin/xtables-nft-multi")
	if r := p.run("", "iptables", "-S"); r.code != 126 && r.code != 127 {
		t.Errorf("without the program: got %+v, want what a shell says of a missing command", r)
	}
}

func TestIscsiadmRunsTheMachinesOwn(t *testing.T) {
	for _, tt := range []struct {
		name, iscsid, other string // namespaces of iscsid and of one whose name is similar
		want                string
	}{
		{name: "starts with the first call", want: " [--target] [1] [--mount] [--net] [--] [iscsiadm] [-m] [node x]\n"},
		{name: "runs", iscsid: "mnt:[3]", want: " [--target] [77] [--mount] [--net] [--] [iscsiadm] [-m] [node x]\n"},
		{name: "another runs", other: "mnt:[3]", want: " [--target] [1] [--mount] [--net] [--] [iscsiadm] [-m] [node x]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, sh := range shells() {
				p := newPlay(t, "/usr/sbin/iscsiadm")
				p.process("1", "systemd", "mnt:[1]")
				p.process("self", "sh", "mnt:[2]")
				p.process("8", "sh", "mnt:[2]")
				if tt.iscsid != "" {
					p.process("77", "iscsid", tt.iscsid)
				}
				if tt.other != "" {
					p.process("78", "iscsiuio", tt.other)
				}
				p.write("exit", "21")
				if r := p.run(sh, "iscsiadm", "-m", "node x"); r.stdout != tt.want || r.code != 21 || r.stderr != "" {
					t.Errorf("%s: got %+v, want %q and code 21", sh, r, tt.want)
				}
			}
		})
	}
}

func TestIscsiadmNeverCallsItself(t *testing.T) {
	for name, machine := range map[string]string{"no --pid=host": "mnt:[2]", "no --privileged": ""} {
		t.Run(name, func(t *testing.T) {
			p := newPlay(t, "/usr/sbin/iscsiadm")
			p.process("1", "kubelet", machine)
			p.process("self", "sh", "mnt:[2]")
			r := p.run("", "iscsiadm", "-m", "node")
			if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "--pid=host") {
				t.Errorf("got %+v, want code 1 and what the container lacks", r)
			}
		})
	}
}

// shells are what a script may be run by: the kernel, which reads its first line
// and so takes /bin/sh, and the other POSIX shells of this machine.
func shells() []string {
	found := []string{""}
	sh, _ := filepath.EvalSymlinks("/bin/sh")
	for _, name := range []string{"dash", "bash", "mksh"} { // not busybox: it takes its own timeout and flock
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if path, err = filepath.EvalSymlinks(path); err == nil && path != sh {
			found = append(found, path)
		}
	}
	return found
}

// play is a stage for one script: a directory in which all that it calls is
// played by scripts of a few lines.
type play struct {
	t     *testing.T
	dir   string
	stdin string
}

type result struct {
	stdout, stderr string
	code           int
}

// The actors. They print their arguments in brackets, and what else their part
// is; DIR is the stage.
const (
	xtables = `#!/bin/sh
variant=${0##*/xtables-}
variant=${variant%-multi}
answer() {
	[ ! -e "DIR/answers/$variant ${1%-save}" ] || cat "DIR/answers/$variant ${1%-save}"
	code=0
	[ ! -e "DIR/answers/$variant code" ] || code=$(cat "DIR/answers/$variant code")
	exit $code
}
if [ -n "${ASKED-}" ]; then
	cat >/dev/null
	echo "$variant $*" >>DIR/asked
	case $# in
	1) answer "$1" ;;
	*) answer "$1" | sed -n '/mangle/,/COMMIT/p; /iptables-save v/p'; [ ! -e "DIR/answers/$variant code" ] || exit "$(cat "DIR/answers/$variant code")" ;;
	esac
	exit
fi
printf '%s' "$variant"` + say
	nsenter            = "#!/bin/sh" + say
	timeout            = "#!/bin/sh\nshift\nASKED=yes exec \"$@\"\n"
	flock              = "#!/bin/sh\n[ ! -e 'DIR/flock code' ] || exit 1\n"
	updateAlternatives = "#!/bin/sh\ncat\necho a word about it; echo another >&2\n[ ! -e 'DIR/alternatives code' ] || exit 1\necho \"$*\" >>DIR/alternatives\n"

	say = `
for a; do printf ' [%s]' "$a"; done
echo
cat
[ ! -e DIR/exit ] || exit "$(cat DIR/exit)"
`
)

// newPlay takes the script that the image has at path. Its paths, and nothing
// else of it, become those of the stage.
func newPlay(t *testing.T, path string) *play {
	t.Helper()
	p := &play{t: t, dir: t.TempDir()}
	text := script(t, path)
	text = strings.Replace(text, "#!/bin/sh /usr/sbin/", "#!/bin/sh "+p.dir+"/sbin/", 1)
	for _, name := range []string{"sbin=/usr/sbin\n", "proc=/proc\n"} {
		variable, path, _ := strings.Cut(name, "=")
		text = strings.Replace(text, name, variable+"="+p.dir+"/"+filepath.Base(path), 1)
	}
	p.program("sbin/"+filepath.Base(path), text)
	for name, text := range map[string]string{"sbin/xtables-nft-multi": xtables, "sbin/xtables-legacy-multi": xtables, "bin/nsenter": nsenter,
		"bin/timeout": timeout, "bin/flock": flock, "bin/update-alternatives": updateAlternatives} {
		p.program(name, strings.ReplaceAll(text, "DIR", p.dir))
	}
	return p
}

// script returns a file that the spec or one of its variants puts into the image.
func script(t *testing.T, path string) string {
	t.Helper()
	spec, err := build.LoadSpec(".")
	if err != nil {
		t.Fatal(err)
	}
	files := spec.Files
	for _, v := range spec.Variants {
		files = slices.Concat(files, v.Files)
	}
	i := slices.IndexFunc(files, func(f rootfs.File) bool { return f.Path == path })
	if i < 0 || files[i].Mode != "0755" {
		t.Fatalf("%s: got file %d of the spec, want one with mode 0755", path, i)
	}
	return files[i].Content
}

// run executes the script under a name, with stdin.
func (p *play) run(shell, name string, args ...string) result {
	p.t.Helper()
	called := filepath.Join(p.dir, "sbin", name)
	if _, err := os.Lstat(called); errors.Is(err, os.ErrNotExist) {
		if err := os.Symlink("iptables-wrapper", called); err != nil {
			p.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(p.t.Context(), called, args...)
	if shell != "" {
		var by []string
		if name != "iscsiadm" { // as the kernel does it, by the wrapper's first line
			by = []string{filepath.Join(p.dir, "sbin/iptables-wrapper")}
		}
		cmd = exec.CommandContext(p.t.Context(), shell, slices.Concat(by, []string{called}, args)...)
	}
	cmd.Env = []string{"PATH=" + p.dir + "/bin:/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(p.stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// process makes a process that the script can see. A namespace "" cannot be read.
func (p *play) process(pid, name, namespace string) {
	p.t.Helper()
	p.write("proc/"+pid+"/comm", name+"\n")
	if namespace == "" {
		return
	}
	ns := filepath.Join(p.dir, "proc", pid, "ns")
	if err := errors.Join(os.MkdirAll(ns, 0o755), os.Symlink(namespace, filepath.Join(ns, "mnt"))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) program(name, text string) {
	p.t.Helper()
	p.write(name, text)
	if err := os.Chmod(filepath.Join(p.dir, name), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// read returns a file, "" when there is none, with the stage's directory taken out.
func (p *play) read(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), p.dir+"/sbin", "SBIN")
}

func (p *play) remove(name string) {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
}
