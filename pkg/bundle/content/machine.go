package content

import (
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The annotations of an entry of the index. There is no platform in it: a bundle
// is text, the same on every architecture, and a client that looks for its own
// would take the first that has none.
const (
	FamilyAnnotation = "dev.imgctl.bundle.family"
	RoleAnnotation   = "dev.imgctl.bundle.role"
)

// Machine is a kind of machine: what one bundle of an index is made for.
type Machine struct {
	Family string `json:"family"` // of the operating system: "fcos"
	Role   string `json:"role"`   // "worker"
}

// String is what tags end in: "fcos-worker".
func (m Machine) String() string { return m.Family + "-" + m.Role }

// Annotations are those of the machine's entry in an index.
func (m Machine) Annotations() map[string]string {
	return map[string]string{FamilyAnnotation: m.Family, RoleAnnotation: m.Role}
}

// Pick returns the one entry of the index that is the bundle for m. Without one,
// or without a family or a role to go by, the error is a [*NoBundle].
func Pick(index *v1.IndexManifest, m Machine) (v1.Descriptor, error) {
	none := &NoBundle{Want: m}
	var found []v1.Descriptor
	for _, d := range index.Manifests {
		if d.ArtifactType != ArtifactType {
			continue
		}
		has := Machine{d.Annotations[FamilyAnnotation], d.Annotations[RoleAnnotation]}
		if m == has {
			found = append(found, d)
		}
		none.Have = append(none.Have, has)
	}
	switch {
	case m.Family == "" || m.Role == "" || len(found) == 0:
		return v1.Descriptor{}, none
	case len(found) > 1:
		return v1.Descriptor{}, fmt.Errorf("index: got %d bundles for %s, want one", len(found), m)
	}
	return found[0], nil
}

// maxListed is how much of a stranger's index an error repeats.
const maxListed = 12

// NoBundle means that an index has no bundle for a machine.
type NoBundle struct {
	Want Machine
	Have []Machine
}

// Error is one line.
func (n *NoBundle) Error() string {
	var have []string
	for _, m := range n.Have[:min(len(n.Have), maxListed)] {
		have = append(have, fmt.Sprintf("%.64q", m.String()))
	}
	return fmt.Sprintf("no bundle for family %q and role %q, only for %s", n.Want.Family, n.Want.Role, strings.Join(have, ", "))
}

// Hint says what the user can do about it.
func (n *NoBundle) Hint() string {
	return "--family and --role choose one; for imgctl-pull.service write IMGCTL_FAMILY and IMGCTL_ROLE into /etc/imgctl/pull.env"
}
