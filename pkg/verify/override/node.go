package override

import (
	"fmt"
	"strings"
)

const variablesPath = "etc/kubernetes/images.override.env"

// units are those that take their image from a variable of this name.
var units = map[string]string{"kubelet": "kubelet.service", "etcd": "etcd-member.service"}

// unitFiles say it to systemd: the units of a bundle of imgctl read the variables
// themselves (docs/bundle.md), and to others a drop-in says where they are. It is
// a file and no Environment=, which would lose against a file.
func unitFiles(images []Image) []File {
	var b strings.Builder
	var files []File
	for _, im := range images {
		fmt.Fprintf(&b, "%s=%s\n", variable(im.Name), im.reference())
		if unit := units[im.Name]; unit != "" {
			files = append(files, File{"etc/systemd/system/" + unit + ".d/50-imgctl-override.conf", 0o644, []byte("[Service]\nEnvironmentFile=/" + variablesPath + "\n")})
		}
	}
	return append(files, File{variablesPath, 0o644, []byte(b.String())})
}

// variable is that of the image in the units: KUBE_APISERVER_IMAGE.
func variable(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name)) + "_IMAGE"
}

// pods are the static pods of a control plane, whose one container is named as they are.
var pods = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// patches are for static pods, as kubeadm takes them (--patches).
func patches(images []Image) []File {
	var files []File
	for _, im := range images {
		for _, pod := range pods {
			if pod == im.Name {
				body := fmt.Sprintf("spec:\n  containers:\n  - name: %s\n    image: %s\n", pod, im.reference())
				files = append(files, File{"patches/" + pod + "+strategic.yaml", 0o644, []byte(body)})
			}
		}
	}
	return files
}

// butane is the same files for a machine that is made anew.
func butane(files []File) []byte {
	var b strings.Builder
	b.WriteString("variant: fcos\nversion: 1.5.0\nstorage:\n  files:\n")
	for _, f := range files {
		fmt.Fprintf(&b, "  - path: /%s\n    mode: 0644\n    overwrite: true\n    contents:\n      inline: |\n", f.Path)
		for line := range strings.Lines(string(f.Body)) {
			if line != "\n" {
				b.WriteString("        ")
			}
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}
