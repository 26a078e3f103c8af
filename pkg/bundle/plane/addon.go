package plane

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	k8syaml "sigs.k8s.io/yaml"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Limits of add-ons.
const (
	maxAddons    = 64
	maxAddonSize = 1 << 20
)

// ReadAddons returns the manifests of dir, a directory below in, the user's own:
// every *.yaml in it, by file name. A way that leads out of in, a file that is no
// regular one, or a symbolic link, is an error (CATALOGUE K11), and so is one
// that [CheckManifest] refuses.
func ReadAddons(in *os.Root, dir string) (Files, error) {
	root, err := in.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read add-on %s: %w", dir, err)
	}
	defer root.Close()
	names, err := fs.Glob(root.FS(), "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("read add-on %s: %w", dir, err)
	}
	if len(names) == 0 || len(names) > maxAddons {
		return nil, fmt.Errorf("read add-on %s: got %d files *.yaml, want 1 to %d", dir, len(names), maxAddons)
	}
	files := make(Files)
	for _, name := range names {
		body, err := readAddon(root, name)
		if err == nil {
			err = CheckManifest(body)
		}
		if err != nil {
			return nil, fmt.Errorf("read add-on %s: %w", filepath.Join(dir, name), err)
		}
		files[name] = body
	}
	return files, nil
}

func readAddon(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("got %s, want a regular file", info.Mode().Type())
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxAddonSize+1))
	if err == nil && len(body) > maxAddonSize {
		err = fmt.Errorf("got more than %d bytes", maxAddonSize)
	}
	return body, err
}

// CheckManifest reports why no API server would take the documents of body as
// they are meant, or why they do not belong into a public bundle: a key that is
// there twice or that its kind does not have, a Secret, an image without digest.
// The documents are read as kubectl reads them.
func CheckManifest(body []byte) error {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(body)))
	found := false
	for n := 1; ; n++ {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
		var object map[string]any
		if err := k8syaml.UnmarshalStrict(text, &object); err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
		if object == nil {
			continue // a comment
		}
		if err := checkObject(object); err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
		found = true
	}
	if !found {
		return errors.New("no document in it")
	}
	return nil
}

func checkObject(object map[string]any) error {
	version, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	metadata, _ := object["metadata"].(map[string]any)
	if name, _ := metadata["name"].(string); version == "" || kind == "" || name == "" {
		return errors.New("want apiVersion, kind and metadata.name")
	}
	if version == "v1" && kind == "Secret" {
		return errors.New("a Secret; a bundle is public")
	}
	if strings.HasSuffix(kind, "List") {
		return fmt.Errorf("kind %s: want its items as documents of their own", kind)
	}
	if err := checkImages(object); err != nil {
		return err
	}
	into := known(version, kind)
	if into == nil {
		return nil // of a custom resource only the cluster knows what it may say
	}
	// By way of JSON, as it gets to an API server: "yes" is a truth value there
	// and no string (CATALOGUE K03).
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	unknown, err := kjson.UnmarshalStrict(text, into)
	if err := errors.Join(append(unknown, err)...); err != nil {
		return fmt.Errorf("%s %s: %w", version, kind, err)
	}
	return nil
}

// checkImages looks at every key "image" that names one, at any depth.
func checkImages(v any) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := checkImages(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, value := range v {
			if ref, ok := value.(string); ok && key == "image" {
				if err := content.CheckPinned(ref); err != nil {
					return fmt.Errorf("image %w", err)
				}
			} else if err := checkImages(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// known returns an empty object of Kubernetes' own kinds that add-ons are made of.
func known(version, kind string) any {
	kinds := map[string]map[string]any{
		"v1": {
			"ConfigMap": new(corev1.ConfigMap), "Namespace": new(corev1.Namespace), "Pod": new(corev1.Pod),
			"Service": new(corev1.Service), "ServiceAccount": new(corev1.ServiceAccount),
		},
		"apps/v1":  {"DaemonSet": new(appsv1.DaemonSet), "Deployment": new(appsv1.Deployment), "StatefulSet": new(appsv1.StatefulSet)},
		"batch/v1": {"CronJob": new(batchv1.CronJob), "Job": new(batchv1.Job)},
		"rbac.authorization.k8s.io/v1": {
			"ClusterRole": new(rbacv1.ClusterRole), "ClusterRoleBinding": new(rbacv1.ClusterRoleBinding),
			"Role": new(rbacv1.Role), "RoleBinding": new(rbacv1.RoleBinding),
		},
	}
	return kinds[version][kind]
}
