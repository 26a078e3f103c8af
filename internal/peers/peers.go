// Package peers provides the real programs that imgctl must get along with: the
// kubelet and kubectl that go into an image, registries that it is pushed to, and
// cosign, crane, oras and regctl that look at it.
//
// Nothing is downloaded as a binary. Every program is compiled from its Go module
// at a version written here, checked by go.sum or the checksum database, and
// kept in a cache below the user's cache directory, so that the second run of the
// demo or of the end-to-end tests starts at once. [Start] runs such a program for
// as long as the caller needs it.
package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KubeVersion is the Kubernetes version that tools/kube pins.
const KubeVersion = "v1.36.2"

// Recipe says how programs are made from one module. Equal recipes make equal
// programs: the hash of a recipe is their name in the cache.
type Recipe struct {
	Name     string   // for messages: "cosign v2.6.5"
	Packages []string // import paths of the main packages; the last element names the program
	Version  string   // of the module; for `go install package@version` when Dir is ""
	Dir      string   // module whose go.mod and go.sum pin the packages, "" for none
	Arch     string   // GOARCH; "" is this machine's, the only one possible without Dir
	Flags    []string // more flags for the go command, such as -trimpath
}

// Cosign2 makes cosign of the second major version, which most users still run.
func Cosign2() Recipe {
	return installed("cosign", "github.com/sigstore/cosign/v2/cmd/cosign", "v2.6.5")
}

// Cosign3 makes the current cosign.
func Cosign3() Recipe {
	return installed("cosign", "github.com/sigstore/cosign/v3/cmd/cosign", "v3.1.3")
}

// Distribution makes the CNCF distribution registry; its program is called
// "registry". It has no referrers API, so that clients must use the fallback tag.
func Distribution() Recipe {
	return installed("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2")
}

// Crane makes crane.
func Crane() Recipe {
	return installed("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1")
}

// Regctl makes regctl of regclient.
func Regctl() Recipe {
	return installed("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7")
}

// Oras makes oras. The module that pins it is tools/oras of the checkout at root,
// see [Root]: module proxies that serve the version but no list of versions do not
// let `go install` have it.
func Oras(root string) Recipe {
	return Recipe{Name: "oras v1.3.1", Packages: []string{"oras.land/oras/cmd/oras"}, Dir: filepath.Join(root, "tools", "oras")}
}

// Quadlet makes the generator by which podman makes units of containers, of a
// major version: 4 is the first one that has it, podman 4.4. The module that pins
// it is tools/quadlet of the checkout at root.
func Quadlet(root string, major int) Recipe {
	return Recipe{
		Name:     fmt.Sprintf("quadlet of podman %d", major),
		Packages: []string{fmt.Sprintf("github.com/containers/podman/v%d/cmd/quadlet", major)},
		Dir:      filepath.Join(root, "tools", "quadlet"),
	}
}

// Snippets makes tools/snippets of the checkout at root, which reads Butane,
// Ignition and Terraform with their own modules.
func Snippets(root string) Recipe {
	return Recipe{Name: "snippets", Packages: []string{"github.com/imgctl/imgctl/tools/snippets"}, Dir: filepath.Join(root, "tools", "snippets")}
}

// Flux makes a program around the client of Flux, which unpacks an artifact as its
// source-controller does. It is tools/flux of the checkout at root; see [Root].
func Flux(root string) Recipe {
	return Recipe{Name: "flux client v0.68.1", Packages: []string{"github.com/imgctl/imgctl/tools/flux"}, Dir: filepath.Join(root, "tools", "flux")}
}

// Syft makes syft, which lists the packages of an image as vulnerability scanners do.
func Syft() Recipe {
	r := installed("syft", "github.com/anchore/syft/cmd/syft", "v1.52.0")
	r.Flags = []string{"-trimpath", "-ldflags", "-s -w"} // no debugger will look at it
	return r
}

// Fulcio makes the certificate authority of a Sigstore.
func Fulcio() Recipe {
	return installed("fulcio", "github.com/sigstore/fulcio", "v1.8.8")
}

// Rekor2 makes Rekor v2, the log of a Sigstore, on plain files; its program is
// called "posix".
func Rekor2() Recipe {
	return installed("rekor-tiles", "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix", "v2.3.0")
}

// TSA makes the timestamp authority of a Sigstore.
func TSA() Recipe {
	return installed("timestamp-server", "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server", "v2.1.3")
}

func installed(name, pkg, version string) Recipe {
	return Recipe{Name: name + " " + version, Packages: []string{pkg}, Version: version}
}

// Kube makes kubelet and kubectl of [KubeVersion] for linux on arch ("amd64" or
// "arm64"), static and stamped as Kubernetes stamps its own. The module that pins
// them is tools/kube of the checkout at root; see [Root].
func Kube(root, arch string) Recipe {
	return Recipe{
		Name:     "kubelet and kubectl " + KubeVersion + " (" + arch + ")",
		Packages: []string{"k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/cmd/kubectl"},
		Dir:      filepath.Join(root, "tools", "kube"),
		Arch:     arch,
		Flags:    kubeFlags(),
	}
}

// Cluster makes the program kube, which is all components of [KubeVersion], and
// etcd: it acts as the one by whose name it is called. It is of this machine's
// architecture, and of the same module as [Kube].
func Cluster(root string) Recipe {
	return Recipe{
		Name:     "a cluster's components " + KubeVersion,
		Packages: []string{"github.com/imgctl/imgctl/tools/kube"},
		Dir:      filepath.Join(root, "tools", "kube"),
		Flags:    kubeFlags(),
	}
}

// kubeFlags stamp programs as Kubernetes stamps its own.
func kubeFlags() []string {
	var ld strings.Builder
	ld.WriteString("-s -w")
	minor := strings.Split(KubeVersion, ".")[1]
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, v := range [][2]string{
			{"gitVersion", KubeVersion}, {"gitMajor", "1"}, {"gitMinor", minor}, {"gitTreeState", "archive"},
			{"gitCommit", strings.Repeat("0", 40)}, {"buildDate", "1970-01-01T00:00:00Z"},
		} {
			fmt.Fprintf(&ld, " -X %s.%s=%s", pkg, v[0], v[1])
		}
	}
	return []string{"-trimpath", "-ldflags", ld.String()}
}

// Root finds the checkout of imgctl that the working directory is in.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/imgctl/imgctl\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the checkout of imgctl: no go.mod of it in %s or above", start)
		}
	}
}
