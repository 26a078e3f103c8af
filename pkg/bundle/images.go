package bundle

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/bundle/flags"
)

// The one place that says which images the units of a machine run.
//
// It is a file and not a drop-in, since a drop-in belongs to one unit and the
// others would keep asking the registry that is gone. What the machine's own
// file sets wins; systemd reads the files in order. Environment= in a drop-in
// does not: systemd lets a file win over that, whatever the order.
const (
	imagesPath       = "/etc/kubernetes/images.env"
	imagesChoicePath = "/etc/kubernetes/images.override.env" // the machine's own, or a link to one of these:
	imagesOtherPath  = "/etc/kubernetes/images.d/"           // one file for each registry that has the same bytes
)

// imageFiles returns the files that name the images, by path.
func imageFiles(c *Config, images map[string]string) map[string][]byte {
	files := map[string][]byte{imagesPath: imageLines(images)}
	for registry, others := range alternatives(c, images) {
		files[imagesOtherPath+registry+".env"] = imageLines(others)
	}
	return files
}

// imageLines needs no quotes: a pinned reference holds nothing that would want them.
func imageLines(images map[string]string) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(images)) {
		fmt.Fprintf(&b, "%s=%s\n", imageName(name), images[name])
	}
	return []byte(b.String())
}

// imageName is the variable of an image: KUBE_APISERVER_IMAGE.
func imageName(name string) string {
	return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_IMAGE"
}

// alternatives returns the images that another registry has than the first, by
// registry and name. The digest is the same one: it is what makes them the same image.
func alternatives(c *Config, images map[string]string) map[string]map[string]string {
	found := make(map[string]map[string]string)
	for name, sources := range c.Images {
		_, digest, _ := strings.Cut(images[name], "@")
		for _, source := range sources[1:] {
			repository := repositoryOf(source)
			registry, _, _ := strings.Cut(repository, "/")
			if found[registry] == nil {
				found[registry] = make(map[string]string)
			}
			if found[registry][name] == "" {
				found[registry][name] = repository + "@" + digest
			}
		}
	}
	return found
}

// sourceForm is a repository, perhaps with a tag, perhaps with a digest.
var sourceForm = regexp.MustCompile(`^(.+?)(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$`)

// repositoryOf returns a source without its tag and digest.
func repositoryOf(source string) string {
	m := sourceForm.FindStringSubmatch(source)
	if m == nil {
		return source
	}
	return m[1]
}

// checkSource reports why source names no image in full.
func checkSource(source string) error {
	if err := content.CheckPinned(repositoryOf(source) + "@sha256:" + strings.Repeat("0", 64)); err != nil {
		return fmt.Errorf("got %q, want registry and repository in full, in lower case, perhaps with a tag or a digest", source)
	}
	return nil
}

// oneDigest reports sources that name different bytes.
func oneDigest(sources Sources) error {
	digest := ""
	for i, source := range sources {
		_, d, ok := strings.Cut(source, "@")
		if ok && digest != "" && d != digest {
			return fmt.Errorf("alternative %d: got %s, want the digest of the other, %s", i+1, d, digest)
		}
		if ok {
			digest = d
		}
	}
	return nil
}

// checkVersions holds the tags of Kubernetes' own images against each other
// (CATALOGUE K14). One without such a tag is of the bundle's version.
func (c *Config) checkVersions() error {
	apiservers := c.Images["kube-apiserver"]
	if len(apiservers) == 0 {
		apiservers = Sources{""}
	}
	for _, name := range []string{kubeletImage, "kube-proxy", "kube-controller-manager", "kube-scheduler"} {
		for _, source := range c.Images[name] {
			for _, apiserver := range apiservers {
				if err := flags.Skew(name, c.versionOf(source), c.versionOf(apiserver)); err != nil {
					return fmt.Errorf("images.%s: %w", name, err)
				}
			}
		}
	}
	return nil
}

// versionOf is the version of Kubernetes that a source's tag is.
func (c *Config) versionOf(source string) string {
	if m := sourceForm.FindStringSubmatch(source); m != nil && m[2] != "" && semver.IsValid(m[2][1:]) {
		return m[2][1:]
	}
	return c.Kubernetes
}

// imageEnvironment makes a unit read which images there are.
func (u *unit) imageEnvironment() {
	u.set("EnvironmentFile", imagesPath)
	u.set("EnvironmentFile", "-"+imagesChoicePath)
}

// pullUnit returns the unit that pulls what the others run. They never pull, so
// that none is "active" while its image is missing, and a slow registry is not
// killed by the time-out of a unit that has other things to do.
//
// It does not remain active: each start of a unit that wants it runs it again,
// and an image that is there is never asked for again. The others want it and do
// not require it, or one failure at boot would keep them from being restarted.
func pullUnit(c *Config) ([]byte, error) {
	f := families[c.OS.Family]
	var u unit
	u.section("Unit")
	u.set("Description", "Pull the images that this machine's units run")
	u.set("Wants", "network-online.target wait-for-dns.service")
	u.set("After", f.after("wait-for-dns.service"))
	u.section("Service")
	u.set("Type", "oneshot")
	u.imageEnvironment()
	names := []string{kubeletImage}
	if c.etcdMember() {
		names = append(names, etcdImage)
	}
	for _, name := range names {
		u.exec("ExecStart", "", "/usr/bin/sh", "-c", word(f.pull(imageName(name))))
	}
	u.set("TimeoutStartSec", "15min")
	return u.bytes()
}

// Pin returns what [Render] asks: the kubelet is kubelet, which was just made or
// verified, and every other image is what the bundle itself says by digest, or
// its lock. With kubelet "" it is locked like the others. The lock may be nil.
func (c *Config) Pin(kubelet string, l *Lock) func(ref string) (string, error) {
	return func(ref string) (string, error) {
		if ref == c.Images[kubeletImage][0] && kubelet != "" {
			return kubelet, nil
		}
		if _, digest, ok := strings.Cut(ref, "@"); ok {
			return repositoryOf(ref) + "@" + digest, nil
		}
		if digest, ok := l.digestOf(ref); ok {
			return repositoryOf(ref) + "@" + digest, nil
		}
		return "", fmt.Errorf("%s has no digest: imgctl bundle lock asks for it, or write repository@sha256:…", ref)
	}
}
