package rootfs

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/imgctl/imgctl/pkg/build/rootfs/pam"
)

// writePAM does what pam-auth-update(8) does, where it is in the image.
func (t *Tree) writePAM() error {
	if !t.has("/usr/sbin/pam-auth-update") {
		return nil
	}
	profiles, templates := make(map[string]string), make(map[string]string)
	for _, file := range t.glob([]string{"*"}, "/usr/share/pam-configs") {
		data, err := t.read(file)
		if err != nil {
			return err
		}
		profiles[path.Base(file)] = string(data)
	}
	for _, kind := range pam.Kinds() {
		data, err := t.read("/usr/share/pam/common-" + kind)
		if err != nil {
			return err
		}
		templates[kind] = string(data)
	}
	files, err := pam.Configure(profiles, templates)
	if err != nil {
		return fmt.Errorf("/usr/share/pam-configs: %w", err)
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := t.putMissing(p[1:], 0o644, []byte(files[p])); err != nil {
			return err
		}
	}
	return nil
}
