//go:build e2e

package e2e

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/internal/vm"
	"github.com/imgctl/imgctl/pkg/bundle/lint"
	"github.com/imgctl/imgctl/pkg/bundle/unit"
)

// Where the units are that give labels, and one that the test adds to them.
const (
	unitPath    = "/etc/systemd/system/"
	kubeletPath = unitPath + "kubelet.service"
	etcdPath    = unitPath + "etcd-member.service"
	backupPath  = unitPath + "backup.service"
)

// containerFile is the label of files for containers, without the level.
const containerFile = "system_u:object_r:container_file_t:"

// confined is the label of a container that may use the files of its own
// categories, and those without any.
var confined = regexp.MustCompile(`^system_u:system_r:container_t:(s0:c\d+,c\d+)$`)

// backupUnit runs a container that looks at what others have; OPTIONS are how it
// mounts etcd's data.
const backupUnit = `[Service]
ExecStart=/usr/bin/podman run --name=backup --pull=never --network=host --log-driver=k8s-file --volume=/var/lib/etcd:/var/lib/etcd:OPTIONS --volume=/var/lib/kubelet:/var/lib/kubelet:ro --volume=/var/log:/var/log:ro ${KUBELET_IMAGE} backup
`

// What the containers run instead of the kubelet, of etcd and of the backup. Each
// says first which label it has. Etcd reads its data when it starts, and when it is told to.
const (
	labelOf   = `tr -d "\0" </proc/self/attr/current; echo; `
	readAll   = labelOf + `for d in /var/lib/etcd /var/lib/kubelet /var/log; do cat $d/data 2>&1; done; true`
	readTwice = labelOf + `cat /var/lib/etcd/data && echo ready; until [ -e /etc/ssl/certs/again ]; do sleep 1; done; cat /var/lib/etcd/data; echo again`
)

// The plan of labels that lint prints is what podman does to the files of a
// machine with SELinux: the containers have the options and volumes of the rendered
// units, and the kernel says which label everything has and refuses the others.
// What lint refuses goes wrong there.
func TestSELinuxLabelsAreThoseOfThePlan(t *testing.T) {
	t.Parallel() // an emulated machine
	files := etcdMember(t, "fcos", false)
	plan := lint.Plan(files)
	reader, thief := withBackup(files, "ro"), withBackup(files, "ro,Z")
	kubelet, etcd := podmanRun(t, files, kubeletPath), podmanRun(t, files, etcdPath)
	paths := append(sources(kubelet), sources(etcd)...)
	if len(plan) < 6 || len(paths) < len(plan)+6 {
		t.Fatalf("got the labels %+v of the paths %q, want more of both", plan, paths)
	}

	var s script
	before := s.prepare(plan, paths)
	asKubelet := s.podman(kubelet, readAll)
	s.add("podman " + quote(inTiny(etcd, readTwice)) + " >/run/etcd 2>&1 & until grep ready /run/etcd; do kill -0 $! || exit 1; sleep 0.2; done")
	asEtcd := s.add("head -n 1 /run/etcd")
	after := s.labels(plan, paths)
	asReader := s.podman(append(podmanRun(t, reader, backupPath), "--rm"), readAll)
	asThief := s.podman(append(podmanRun(t, thief, backupPath), "--rm"), readAll)
	stolen := s.add("stat -c %C /var/lib/etcd/data; touch /etc/ssl/etcd/again; n=0; until grep -q again /run/etcd || [ $((n+=1)) -gt 300 ]; do sleep 0.2; done; cat /run/etcd")
	said := s.run(t, openGuest(t))

	own := level(t, said[asEtcd])
	checkPlan(t, plan, labelsIn(said[before]), labelsIn(said[after]), own)
	checkLook(t, said[asKubelet], "No such file or directory", "data of /var/lib/kubelet", "data of /var/log")
	if label, _, _ := strings.Cut(said[asKubelet].Output, "\n"); confined.MatchString(label) {
		t.Errorf("kubelet: got the label %s, want it not confined: it is privileged", label)
	}

	const private = "/var/lib/etcd gets a private label (:Z), and "
	locked := "etcd-member.service: " + private + backupPath + " backup mounts /var/lib/etcd"
	checkLint(t, files)
	checkLint(t, reader, locked)
	checkLook(t, said[asReader], "Permission denied", "data of /var/lib/kubelet", "Permission denied")
	checkLint(t, thief, "backup.service: "+private+etcdPath+" etcd mounts /var/lib/etcd", locked)
	checkLook(t, said[asThief], "data of /var/lib/etcd", "data of /var/lib/kubelet", "Permission denied")
	if got := level(t, said[asThief]); got == own || got == level(t, said[asReader]) {
		t.Errorf("got the categories %s of two containers, want each to have its own", got)
	}
	label, again, _ := strings.Cut(said[stolen].Output, "\n")
	if label != containerFile+level(t, said[asThief]) || !strings.Contains(again, "Permission denied") {
		t.Errorf("etcd's data after the backup gave it a label: got %s, and of etcd\n%s\nwant the backup's, and etcd locked out", label, again)
	}
}

// level is the one of the container that said so first.
func level(t *testing.T, said vm.Result) string {
	t.Helper()
	label, _, _ := strings.Cut(said.Output, "\n")
	found := confined.FindStringSubmatch(label)
	if found == nil {
		t.Fatalf("got the label %q, want %s", label, confined)
	}
	return found[1]
}

// checkLint compares with what lint refuses of the labels in files.
func checkLint(t *testing.T, files map[string][]byte, want ...string) {
	t.Helper()
	var refused []string
	for _, f := range lint.Lint(files, peers.KubeVersion) {
		if strings.Contains(f.Message, " label") {
			refused = append(refused, path.Base(f.File)+": "+f.Message)
		}
	}
	if !slices.Equal(refused, want) {
		t.Errorf("lint: got %q, want %q", refused, want)
	}
}

// checkPlan compares the labels of paths before and after the units started: those
// of the plan have changed, the private ones to the categories of etcd, and no other has.
func checkPlan(t *testing.T, plan []lint.Label, before, after map[string]string, categories string) {
	t.Helper()
	planned := make(map[string]string)
	for _, l := range plan {
		planned[l.Path], planned[l.Path+"/data"] = l.Label, l.Label
	}
	counts := make(map[string]int)
	for path, got := range after {
		want := before[path]
		switch planned[path] {
		case "shared":
			want = containerFile + "s0"
		case "private":
			want = containerFile + categories
		}
		if got != want || want == "" || planned[path] != "" && before[path] == want {
			t.Errorf("%s: got %s before and %s after, want %s (%q in the plan)", path, before[path], got, want, planned[path])
		}
		counts[planned[path]]++
	}
	t.Logf("%d paths got the shared label, %d that of etcd's container (%s), %d kept theirs", counts["shared"], counts["private"], categories, counts[""])
	if counts["shared"]+counts["private"] != 2*len(plan) || counts[""] == 0 {
		t.Errorf("got the labels of %d paths, want two for each of %+v and others", len(after), plan)
	}
}

// checkLook compares what a container said of the data that it would read, after its label.
func checkLook(t *testing.T, said vm.Result, want ...string) {
	t.Helper()
	lines := strings.Split(said.Output, "\n")[1:]
	for i, end := range want {
		if i >= len(lines) || !strings.HasSuffix(lines[i], end) {
			t.Errorf("%s:\ngot\n%s\nwant a label and %q", said.Command, said.Output, want)
		}
	}
}

// script is what the guest runs, command by command.
type script struct{ commands []string }

// add returns the number of the command's result.
func (s *script) add(command string) int {
	s.commands = append(s.commands, command)
	return len(s.commands) - 1
}

// podman adds a unit's command with a program of the shell.
func (s *script) podman(run []string, program string) int {
	return s.add("podman " + quote(inTiny(run, program)))
}

// inTiny adds to a command of podman what to run: a program of the shell, in a
// container that has a shell and little else.
func inTiny(run []string, program string) []string {
	return append(slices.Clone(run), "--rootfs", "/opt/tiny", "/bin/sh", "-c", program)
}

// run runs the commands in the guest; each must end well.
func (s *script) run(t *testing.T, g *guest) []vm.Result {
	t.Helper()
	results := g.run(t, s.commands)
	for _, r := range results {
		if r.Code != 0 {
			t.Errorf("%s: got code %d:\n%s", r.Command, r.Code, r.Output)
		}
	}
	return results
}

// prepare makes the guest a node before its units start, with a file in each
// directory that is to get a label, and returns the number of the labels.
func (s *script) prepare(plan []lint.Label, paths []string) int {
	s.add("mkdir -p /dev/shm /dev/pts && mount -t tmpfs tmpfs /dev/shm && mount -t devpts devpts /dev/pts && mount -t cgroup2 cgroup2 /sys/fs/cgroup")
	s.add("load_policy -i && getenforce")
	s.add("touch /etc/machine-id /etc/resolv.conf && mkdir -p /etc/etcd && echo ETCD_NAME=node1 >/etc/etcd/etcd.env")
	s.add("for p in " + quote(paths) + `; do [ -e "$p" ] || mkdir -p "$p"; done`)
	s.add("for p in " + quote(labelled(plan)) + ` /var/log; do echo "data of $p" >"$p/data"; done`)
	s.add("restorecon -R /etc /opt /run /var")
	return s.labels(plan, paths)
}

// labels reads those of all paths, and of the files in those that the plan names.
func (s *script) labels(plan []lint.Label, paths []string) int {
	for _, p := range labelled(plan) {
		paths = append(paths, p+"/data")
	}
	return s.add("stat -L -c '%n %C' " + quote(paths))
}

// labelsIn reads them.
func labelsIn(r vm.Result) map[string]string {
	labels := make(map[string]string)
	for line := range strings.Lines(r.Output) {
		name, label, _ := strings.Cut(strings.TrimSpace(line), " ")
		labels[name] = label
	}
	return labels
}

// labelled are the paths of a plan.
func labelled(plan []lint.Label) (paths []string) {
	for _, l := range plan {
		paths = append(paths, l.Path)
	}
	return paths
}

// withBackup is a bundle with the unit of a backup added.
func withBackup(files map[string][]byte, options string) map[string][]byte {
	more := maps.Clone(files)
	more[backupPath] = []byte(strings.Replace(backupUnit, "OPTIONS", options, 1))
	return more
}

// podmanRun is the command of a unit up to the image, without podman itself.
func podmanRun(t *testing.T, files map[string][]byte, path string) []string {
	t.Helper()
	f, err := unit.Parse(files[path])
	if err != nil {
		t.Fatal(err)
	}
	start := f.All("Service", "ExecStart")
	if len(start) != 1 {
		t.Fatalf("%s: got %d commands, want one", path, len(start))
	}
	commands, err := start[0].Commands()
	if err != nil {
		t.Fatal(err)
	}
	words := commands[0].Words
	image := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "${") })
	if words[0] != "/usr/bin/podman" || image < 0 {
		t.Fatalf("%s: got %q, want podman run and an image", path, words)
	}
	return words[1:image]
}

// sources are the host's paths of the volumes in a command.
func sources(command []string) (paths []string) {
	for _, w := range command {
		if v, ok := strings.CutPrefix(w, "--volume="); ok {
			path, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(path, "/var/run/") { // a symbolic link, which the plan follows
				path = path[len("/var"):]
			}
			paths = append(paths, path)
		}
	}
	return paths
}

// quote spells words for a shell.
func quote(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(quoted, " ")
}
