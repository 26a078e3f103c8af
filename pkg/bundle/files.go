package bundle

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// FileRow is a row of the table of what a bundle puts on a machine. Each rendered
// file is as its row says.
type FileRow struct {
	Path         string // absolute; a pattern of package path
	Mode         fs.FileMode
	Owner, Group string
	Type         string // of SELinux
	Where        string // which machines have it
	Why          string
}

// The SELinux types of the table. Below /etc/kubernetes it is that of what
// containers read: the kubelet's container gives it to all of the directory.
const (
	typeContainer = "container_file_t"
	typeUnit      = "systemd_unit_file_t"
	typeEtc       = "etc_t"
)

// Which machines have a file.
const (
	everywhere    = "everywhere"
	onControllers = "controllers"
	withPlane     = "controllers with `controlPlane`"
)

// Files returns the table. The first row that matches a path is its own.
func Files() []FileRow {
	rows := []FileRow{
		{Path: imagesPath, Where: everywhere, Why: "which images the units run, by digest: `KUBELET_IMAGE`, `ETCD_IMAGE`, …"},
		{Path: imagesOtherPath + "*.env", Where: "where bundle.yaml names alternatives", Why: "the same digests in another registry"},
		{Path: kubeletConfigPath, Where: everywhere, Why: "the kubelet's KubeletConfiguration: all that need not be a flag"},
		{Path: credentialPath, Where: "with `kubelet.credentialProviders`", Why: "the kubelet's CredentialProviderConfig"},
		{Path: deleteNodePath, Where: everywhere, Why: "what delete-node.service runs"},
		{Path: applyPath, Where: onControllers, Why: "what bootstrap.service runs"},
		{Path: manifestsPath + "*.yaml", Where: everywhere, Why: "the manifests that bootstrap.service applies"},
		{Path: manifestsPath + "*/*.yaml", Where: "with `controlPlane.addOns`", Why: "the user's own manifests"},
		{Path: "/etc/kubernetes/manifests/*.yaml", Where: withPlane, Why: "static pods: kube-apiserver, kube-controller-manager, kube-scheduler and, with members, etcd, each as its own user"},
		{Path: "/etc/kubernetes/config/*", Where: withPlane, Why: "configuration of those components"},
		{Path: unitDir + "kubelet.service", Where: everywhere, Why: "the kubelet in a container, with `--pull=never`"},
		{Path: unitDir + pullUnitName, Where: everywhere, Why: "pulls the images, before any unit that runs one, with 15 minutes to do it; what is there is not asked for again"},
		{Path: unitDir + dnsUnitName, Where: everywhere, Why: "waits up to 5 minutes for a name server"},
		{Path: unitDir + "imgctl-pull.service", Where: everywhere, Why: "installs the bundle that `/etc/imgctl/pull.env` names"},
		{Path: unitDir + "imgctl-pull.timer", Where: everywhere, Why: "starts that every hour or so"},
		{Path: unitDir + "delete-node.service", Where: everywhere, Why: "takes the node out of the cluster, see [bundle.md](bundle.md)"},
		{Path: unitDir + "bootstrap.service", Where: onControllers, Why: "applies the manifests"},
		{Path: unitDir + "etcd-member.service", Where: "controllers with `options.etcdMember`", Why: "etcd, with `/etc/etcd/etcd.env` and the keys in `/etc/ssl/etcd`"},
		{Path: quadletDir + "kubelet.container", Where: "with `options.quadlet`, in place of kubelet.service", Why: "the same container, of which podman's generator makes the unit"},
		{Path: quadletDir + "etcd-member.container", Where: "with `options.quadlet`, in place of etcd-member.service", Why: "the same container, of which podman's generator makes the unit"},
		{Path: unitDir + "docker.service.d/*.conf", Where: "flatcar", Why: "docker without bridge, iptables and masquerading"},
		{Path: sysusersPath, Where: withPlane, Why: "the users of the static pods ([owners.md](owners.md))"},
		{Path: tmpfilesPath, Where: withPlane, Why: "who owns which directory ([owners.md](owners.md))"},
	}
	for i := range rows {
		rows[i].Mode, rows[i].Owner, rows[i].Group, rows[i].Type = 0o644, "root", "root", typeOf(rows[i].Path)
	}
	return rows
}

func typeOf(name string) string {
	switch {
	case strings.HasPrefix(name, "/etc/kubernetes/"):
		return typeContainer
	case strings.HasPrefix(name, unitDir):
		return typeUnit
	}
	return typeEtc
}

// newFile is a file as the table has it. All of them are root's, number 0: a
// bundle is installed before any other user need be there.
func newFile(table []FileRow, name string, body []byte) (File, error) {
	for _, r := range table {
		if ok, _ := path.Match(r.Path, name); ok {
			return File{Path: name, Mode: r.Mode, Owner: r.Owner, Group: r.Group, Type: r.Type, Body: body}, nil
		}
	}
	return File{}, fmt.Errorf("%s: the table of files does not say who owns it", name)
}

// FilesPage returns the table as Markdown.
func FilesPage() []byte {
	var b bytes.Buffer
	b.WriteString("# The files of a bundle\n\n")
	b.WriteString("Made from the code by `make docs`. What a bundle puts on a machine, and what its `bundle.lock` says of each file besides its sha256. What is secret is in no bundle: [owners.md](owners.md) has those files.\n\n")
	b.WriteString("| file | mode | owner:group | SELinux type | on | why |\n|---|---|---|---|---|---|\n")
	for _, r := range Files() {
		fmt.Fprintf(&b, "| %s | %04o | %s:%s | %s | %s | %s |\n", strings.ReplaceAll(r.Path, "*", `\*`), r.Mode, r.Owner, r.Group, r.Type, r.Where, r.Why)
	}
	return b.Bytes()
}
