package bundle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/bundle/plane"
)

// Render returns the files of the bundle for one kind of machine.
//
// pin is asked for every image, with the first reference that c has for it, and
// answers with repository@sha256:…. An answer without a digest fails the
// render, and so does one that names another digest than the reference did, a
// tag or a placeholder that is left in any file, and anything that looks like a
// secret. Nothing of a secret is in the error.
func Render(c *Config, pin func(ref string) (string, error)) (Tree, error) {
	t, err := render(c, pin)
	if err != nil {
		return Tree{}, fmt.Errorf("render bundle %s: %w", c.Name, err)
	}
	return t, nil
}

func render(c *Config, pin func(ref string) (string, error)) (Tree, error) {
	if c.several() {
		return Tree{}, errors.New("it is for several kinds of machines, want one of Machines")
	}
	if err := c.Check(); err != nil {
		return Tree{}, err
	}
	images, err := pinAll(c.Images, pin)
	if err != nil {
		return Tree{}, err
	}
	files, err := renderFiles(c, images)
	if err != nil {
		return Tree{}, err
	}
	t := Tree{Name: c.Name, Version: c.Kubernetes, Machine: c.Machine(), Images: images}
	table := Files()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f, err := newFile(table, path, files[path])
		if err != nil {
			return Tree{}, err
		}
		t.Files = append(t.Files, f)
	}
	return t, t.check()
}

func pinAll(sources map[string]Sources, pin func(ref string) (string, error)) (map[string]string, error) {
	images := make(map[string]string, len(sources))
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		ref := sources[name][0]
		pinned, err := pin(ref)
		if err != nil {
			return nil, fmt.Errorf("pin image %s: %w", name, err)
		}
		if err := content.CheckPinned(pinned); err != nil {
			return nil, fmt.Errorf("pin image %s: %w", name, err)
		}
		if _, want, ok := strings.Cut(ref, "@"); ok && !strings.HasSuffix(pinned, "@"+want) {
			return nil, fmt.Errorf("pin image %s: got %s, want the digest of %s", name, pinned, ref)
		}
		images[name] = pinned
	}
	return images, nil
}

// renderFiles returns the bodies of all files by path.
func renderFiles(c *Config, images map[string]string) (map[string][]byte, error) {
	files := imageFiles(c, images)
	for path, render := range c.renderers() {
		body, err := render(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files[path] = body
	}
	if c.hasPlane() {
		plane, err := c.planeFiles(images)
		if err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
		maps.Copy(files, plane)
		return files, nil
	}
	manifests, err := plane.Rights(false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", manifestsPath, err)
	}
	for name, body := range manifests {
		files[manifestsPath+name] = body
	}
	return files, nil
}

// renderers returns what makes the node's own files, by path.
func (c *Config) renderers() map[string]func(*Config) ([]byte, error) {
	files := map[string]func(*Config) ([]byte, error){
		c.servicePath("kubelet"):        kubeletUnit,
		kubeletConfigPath:               kubeletConfig,
		unitDir + pullUnitName:          pullUnit,
		unitDir + dnsUnitName:           waitForDNSUnit,
		unitDir + "delete-node.service": deleteNodeUnit,
		deleteNodePath:                  deleteNodeScript,
		unitDir + "imgctl-pull.service": updateUnit,
		unitDir + "imgctl-pull.timer":   updateTimer,
	}
	if c.Kubelet.CredentialProviders != nil {
		files[credentialPath] = credentialConfig
	}
	if families[c.OS.Family].docker() {
		files[unitDir+"docker.service.d/10-kubernetes.conf"] = dockerDropIn
	}
	if c.Role == Controller {
		files[unitDir+"bootstrap.service"] = bootstrapUnit
		files[applyPath] = applyScript
	}
	if c.etcdMember() {
		files[c.servicePath("etcd-member")] = etcdUnit
	}
	return files
}
