//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/imgctl/imgctl/internal/peers"
	"github.com/imgctl/imgctl/internal/vm"
	"github.com/imgctl/imgctl/pkg/build"
)

// tool is a command that an image must be able to run, and what it must print.
type tool struct{ command, want string }

// brought is what a package, a file of the spec or Kubernetes brings. An image
// that has it must run all of its tools.
type brought struct {
	by    string
	tools []tool
}

// A file system is made, grown and looked at as the kubelet does it.
const (
	ext4 = `truncate -s 8M /tmp/ext4 && mkfs.ext4 -q -F -m0 /tmp/ext4 && fsck.ext4 -f -y /tmp/ext4 >/tmp/fsck && ` +
		`truncate -s 16M /tmp/ext4 && resize2fs -f /tmp/ext4 2>&1 && dumpe2fs -h /tmp/ext4 2>/dev/null | grep "^Block count"`
	xfs = `truncate -s 320M /tmp/xfs && mkfs.xfs -q -f /tmp/xfs && xfs_repair -n /tmp/xfs 2>&1 | tail -n 1 && ` +
		`xfs_db -r -c "sb 0" -c "p blocksize" /tmp/xfs && blkid -p -s TYPE -o value /tmp/xfs && rm /tmp/xfs`
	reset = " && update-alternatives --quiet --auto iptables && update-alternatives --quiet --auto ip6tables"
)

// tools are what a node needs from the image. Packages that are in every image
// without being asked for stand at the end.
var tools = []brought{
	{"kubernetes", []tool{
		{"kubelet --version", `^Kubernetes ` + regexp.QuoteMeta(peers.KubeVersion) + `$`},
		{"kubectl version --client", regexp.QuoteMeta(peers.KubeVersion)},
	}},
	{"ca-certificates", []tool{
		{"openssl x509 -noout -subject -in /etc/ssl/certs/ISRG_Root_X1.pem", `ISRG Root X1`},
		{"openssl verify -no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt", `: OK$`},
		{"update-ca-certificates --help", `--fresh`},
	}},
	{"ceph-common", []tool{
		{"mount.ceph --help", `^usage: mount\.ceph`},
		{"rbd --version", `^ceph version \d`},
		{"rados --version", `^ceph version \d`},
		{`python3 -c "import cephfs, rados, rbd"`, `^$`}, // what the program ceph is made of
		{"ceph-authtool --gen-print-key", `^[A-Za-z0-9+/]{38}==$`},
	}},
	{"cifs-utils", []tool{{"mount.cifs -V", `mount\.cifs version`}, {"cifs.upcall -v", `version`}}},
	{"conntrack", []tool{{"conntrack --version", `^conntrack v`}, {"conntrack -L", `flow entries have been shown`}}},
	{"e2fsprogs", []tool{{ext4, `(?m)^Block count: +16384$`}, {"tune2fs -l /tmp/ext4", `Filesystem state: +clean`}, {"e2label /tmp/ext4 x && e2label /tmp/ext4", `^x$`}}},
	{"ebtables", []tool{{"ebtables-legacy --version", `^ebtables v\S+ \(legacy\)`}}},
	{"ethtool", []tool{{"ethtool --version", `^ethtool version`}, {"ethtool -k lo", `tcp-segmentation-offload: on`}}},
	{"iproute2", []tool{
		{"ip -V", `iproute2`},
		{"ip link add v0 type veth peer name v1 && ip -br link show v0", `v0@v1`},
		{"tc qdisc add dev v0 root tbf rate 1mbit burst 32k latency 1s && tc qdisc show dev v0", `^qdisc tbf`},
		{"bridge link", `^$`},
		{"ss -V", `iproute2`},
	}},
	{"ipset", []tool{{"ipset --version", `^ipset v`}, {"ipset create s hash:ip && ipset add s 192.0.2.1 && ipset list s", `192\.0\.2\.1`}}},
	{"iptables", []tool{
		{"iptables --version", `^iptables v1\.\d+\.\d+ \(nf_tables\)`},
		{"iptables-nft -A INPUT -p tcp --dport 1 -j DROP && iptables-nft-save", `-A INPUT -p tcp -m tcp --dport 1 -j DROP`},
		{"ip6tables-nft -A INPUT -i lo -j DROP && ip6tables-nft-save", `-A INPUT -i lo -j DROP`},
		{"iptables-nft-save | iptables-nft-restore && iptables-nft -S INPUT", `--dport 1 -j DROP`},
		{"iptables-legacy -A INPUT -p udp --dport 2 -j DROP && iptables-legacy-save", `-A INPUT -p udp -m udp --dport 2 -j DROP`},
		{"ip6tables-legacy -A INPUT -i lo -j DROP && ip6tables-legacy-save", `-A INPUT -i lo -j DROP`},
		{"iptables-legacy-save | iptables-legacy-restore && iptables-legacy -S INPUT", `--dport 2 -j DROP`},
		{"iptables-translate -A INPUT -j DROP", `nft 'add rule ip filter INPUT counter drop'`},
		{"ebtables -A INPUT -i lo -j DROP && ebtables -L INPUT", `-i lo -j DROP`},
		{"arptables -A INPUT -i lo -j DROP && arptables -S INPUT", `-j DROP -i lo`},
	}},
	{"/usr/sbin/iptables-wrapper", []tool{
		{"iptables-legacy -F && ip6tables-legacy -F && iptables-nft -F && ip6tables-nft -F" + reset + " && readlink -f /usr/sbin/iptables", `^/usr/sbin/iptables-wrapper$`},
		{"iptables -A INPUT -i lo -j ACCEPT && readlink -f /usr/sbin/iptables /usr/sbin/ip6tables-restore && iptables-nft -S INPUT", `(?s)^/usr/sbin/xtables-nft-multi\n/usr/sbin/xtables-nft-multi\n.*-A INPUT -i lo -j ACCEPT$`},
	}},
	{"jq", []tool{{`echo "{\"a\":[1,2]}" | jq -cM .a`, `^\[1,2\]$`}}},
	{"kmod", []tool{{"modprobe --version", `^kmod version`}, {"modinfo --version", `^kmod version`}, {"depmod --version", `^kmod version`}, {"rmmod --version", `^kmod version`}}},
	{"mount", []tool{
		{"mount -t tmpfs -o size=1m none /mnt && findmnt -no FSTYPE,SIZE /mnt && umount /mnt", `^tmpfs +1M$`},
		{"mount --bind /usr /mnt && mount --make-rshared /mnt && umount /mnt && mount --version", `^mount from util-linux`},
		{"losetup --version", `^losetup from util-linux`},
	}},
	{"nfs-common", []tool{
		{"mount.nfs -V", `^mount\.nfs: \(linux nfs-utils`},
		{"umount.nfs4 -V; test $? = 1", `^umount\.nfs4: `},
		{"rpc.statd --version", `rpc\.statd version`},
		{"rpcbind -w && rpcinfo -p 127.0.0.1", `portmapper`},
		{"showmount --version", `^showmount for`},
		{"nfsstat --version", `^nfsstat:`},
	}},
	{"nftables", []tool{{"nft --version", `^nftables v`}, {"nft add table inet t && nft list tables", `table inet t`}}},
	{"socat", []tool{{"socat -V", `socat version`}, {"echo ping | socat - EXEC:cat", `^ping$`}}},
	{"systemd-standalone-sysusers", []tool{{"systemd-sysusers --version", `^systemd \d`}}},
	{"udev", []tool{{"udevadm --version", `^\d+$`}, {"udevadm info -q path -n /dev/null", `^/devices/virtual/mem/null$`}}},
	{"util-linux", []tool{
		{"blkid -p -s TYPE -s PTTYPE -o export /tmp/ext4", `(?m)^TYPE=ext4$`},
		{"fsck -a /tmp/ext4", `^fsck from util-linux .*\nx: clean, `},
		{"nsenter --target 1 --mount --net -- true && nsenter --version", `^nsenter from util-linux`},
		{"blockdev --version && lsblk --version && flock --version && unshare --version", `(?s)^blockdev .*lsblk .*flock .*unshare from util-linux`},
	}},
	{"xfsprogs", []tool{
		{xfs, `^No modify flag set, skipping filesystem flush and exiting\.\nblocksize = 4096\nxfs$`},
		{"xfs_growfs -V && xfs_quota -V && xfs_io -V && xfs_admin -V", `(?s)^xfs_growfs version.*xfs_quota version.*xfs_io version.*xfs_admin version`},
		{"fsck.xfs /dev/null", `xfs_repair`},
	}},
	{"/usr/sbin/iscsiadm", []tool{{"iscsiadm -m session; test $? = 1", `does not lead to the machine: want a container with --privileged and --pid=host`}}},

	{"bash", []tool{{`bash -c "echo \$((6*7))"`, `^42$`}}},
	{"coreutils", []tool{{"id", `^uid=0\(root\) gid=0\(root\) groups=0\(root\)$`}, {"timeout 5 echo x", `^x$`}}},
	{"dpkg", []tool{{"dpkg -l ca-certificates", `(?m)^ii +ca-certificates `}, {"dpkg --audit", `^$`}}},
	{"libc-bin", []tool{{"getent services ssh", `22/tcp`}, {"id nobody", `^uid=65534\(nobody\) gid=65534\(nogroup\)`}, {"ldconfig -p", `libc\.so\.6`}}},
	{"perl-base", []tool{{`perl -e "print 6*7"`, `^42$`}}},
	{"python3", []tool{{`python3 -c "print(6*7)"`, `^42$`}}},
}

// kernelTools need a kernel from which modules can be taken away, and come first:
// later the modules are in use. A kernel may have only one of the two kinds of iptables.
var kernelTools = []brought{{"/usr/sbin/iptables-wrapper", []tool{
	{"uname -m", `^aarch64$`},
	{without("ip_tables") + "iptables -A INPUT -s 192.0.2.1 -j DROP; iptables-legacy -S; iptables-nft -S; readlink -f /usr/sbin/iptables",
		`(?s)\(legacy\): can't initialize iptables table.*-A INPUT -s 192\.0\.2\.1/32 -j DROP\n/usr/sbin/xtables-nft-multi$`},
	{"iptables-nft -F && modprobe -r nf_tables" + reset, `^$`},
	{without("nf_tables") + "iptables -A INPUT -s 192.0.2.2 -j DROP; iptables-nft -S; iptables-legacy -S; readlink -f /usr/sbin/iptables",
		`(?s)\(nf_tables\): Could not fetch.*-A INPUT -s 192\.0\.2\.2/32 -j DROP\n/usr/sbin/iptables-wrapper$`},
	{"iptables-legacy -F; rm /etc/modprobe.d/e2e.conf; iptables --version", `^iptables v\S+ \(nf_tables\)$`},
}}}

// without keeps the kernel from loading a module.
func without(module string) string {
	return "echo install " + module + " /bin/false >/etc/modprobe.d/e2e.conf; "
}

// Every program that matters, in both flavours, on both processors: amd64 in a
// container, arm64 on a kernel of its own.
func TestToolsOfTheImageRun(t *testing.T) {
	t.Parallel() // a machine of one emulated processor
	spec, lock := loadImage(t)
	var table columns
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		for _, variant := range spec.Variants {
			t.Run(platform+" "+variant.Name, func(t *testing.T) {
				has := contents(t, spec, lock, variant, platform)
				run := toolsOf(has, platform)
				table.add(platform+" "+variant.Name, check(t, run, runOn(t, platform, variant.Name, run)))
			})
		}
	}
	t.Logf("tools of the image, and what they said:\n%s", &table)
}

// A package that nobody tried is a package of which nobody knows whether it works.
func TestEveryPackageOfTheSpecHasATool(t *testing.T) {
	spec, lock := loadImage(t)
	asked := slices.Clone(spec.Packages.Install)
	for _, variant := range spec.Variants {
		asked = append(asked, variant.Install...)
		for _, f := range slices.Concat(spec.Files, variant.Files) {
			if f.Mode == "0755" {
				asked = append(asked, f.Path)
			}
		}
	}
	for _, name := range asked {
		if !slices.ContainsFunc(tools, func(b brought) bool { return b.by == name && len(b.tools) > 0 }) {
			t.Errorf("%s: no tool in the table, want one that shows that it works", name)
		}
	}
	full := contents(t, spec, lock, spec.Variants[len(spec.Variants)-1], "linux/amd64")
	for _, b := range tools {
		if !full[b.by] {
			t.Errorf("%s: tools in the table, but not in the image", b.by)
		}
	}
}

// toolsOf are the tools of an image, by what it has.
func toolsOf(has map[string]bool, platform string) (all []tool) {
	rows := tools
	if platform == "linux/arm64" {
		rows = slices.Concat(kernelTools, tools)
	}
	for _, b := range rows {
		if has[b.by] {
			all = append(all, b.tools...)
		}
	}
	return all
}

// loadImage reads the spec of the image and its lock in the lab.
func loadImage(t *testing.T) (*build.Spec, *build.Lock) {
	t.Helper()
	spec, err := build.LoadSpec(shared.at("images/kubelet"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := build.LoadLock(shared.at("images/kubelet"))
	if err != nil {
		t.Fatal(err)
	}
	return spec, lock
}

// contents are the packages of an image, the programs that its spec adds, and Kubernetes.
func contents(t *testing.T, spec *build.Spec, lock *build.Lock, variant build.Variant, platform string) map[string]bool {
	t.Helper()
	has := map[string]bool{"kubernetes": true}
	for _, p := range lock.Debian.Packages[variant.Name][platform] {
		has[p.Name] = true
	}
	for _, f := range slices.Concat(spec.Files, variant.Files) {
		has[f.Path] = true
	}
	if len(has) < 80 {
		t.Fatalf("%s %s: got %d packages and files, want more than 80", variant.Name, platform, len(has))
	}
	return has
}

// runOn runs the tools in the image on a kernel for its platform.
func runOn(t *testing.T, platform, variant string, tools []tool) []vm.Result {
	t.Helper()
	var commands []string
	for _, tool := range tools {
		commands = append(commands, tool.command)
	}
	if platform == "linux/arm64" {
		return runOnArm64(t, variant, commands)
	}
	out := output(t, shared.Podman(t).of(t, variant).run(t, asKubelet, "sh", "-c", "exec 2>&1\n"+string(vm.Commands(commands))))
	return vm.Results(out, commands)
}

// check compares the results of tools with what they should be, and returns the
// first line of each.
func check(t *testing.T, tools []tool, results []vm.Result) map[string]string {
	t.Helper()
	said := make(map[string]string)
	for i, tool := range tools {
		if i == len(results) {
			t.Fatalf("%s: no result", tool.command)
		}
		r := results[i]
		r.Output = colour.ReplaceAllString(r.Output, "")
		said[tool.command], _, _ = strings.Cut(strings.TrimSpace(r.Output), "\n")
		if r.Code != 0 || !regexp.MustCompile(tool.want).MatchString(r.Output) {
			said[tool.command] = failed
			t.Errorf("%s: got code %d:\n%s\nwant %s", tool.command, r.Code, r.Output, tool.want)
		}
	}
	return said
}

// failed is what the table says of a tool that did not do what it should.
const failed = "FAILED"

// colour is what some tools add to their words when they find a console.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// columns is a table of tools, with a column for each image.
type columns struct {
	images []string
	said   []map[string]string
}

func (c *columns) add(image string, said map[string]string) {
	c.images, c.said = append(c.images, image), append(c.said, said)
}

// String prints the table: ok, FAILED, or a dash for what an image is not meant
// to have, and at the end what the command said on the last image that has it.
func (c *columns) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "FROM\tCOMMAND\t%s\tSAID\n", strings.ToUpper(strings.Join(c.images, "\t")))
	for _, from := range slices.Concat(tools, kernelTools) {
		for _, tool := range from.tools {
			verdicts, last := make([]string, len(c.images)), ""
			for i, said := range c.said {
				verdicts[i] = "–"
				if line, ok := said[tool.command]; ok {
					verdicts[i], last = "ok", line
				}
				if said[tool.command] == failed {
					verdicts[i] = failed
				}
			}
			fmt.Fprintf(w, "%s\t%.60s\t%s\t%.60s\n", from.by, tool.command, strings.Join(verdicts, "\t"), last)
		}
	}
	w.Flush()
	return b.String()
}
