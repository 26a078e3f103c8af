package bundle

import (
	"fmt"
	"testing"

	"github.com/imgctl/imgctl/pkg/bundle/owners"
	"github.com/imgctl/imgctl/pkg/bundle/plane"
)

// Nothing of a whole cluster is taken for a placeholder (K06), a tag (K07) or a
// secret (K12), and what is one is found among it.
func TestTheControlPlaneIsFitForABundle(t *testing.T) {
	table, err := owners.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &plane.Cluster{
		Images: map[string]string{}, Host: "api.example.com", Port: 6443, ServiceCIDRs: []string{"10.3.0.0/16"}, PodCIDRs: []string{"10.2.0.0/16"},
		Domain: "cluster.local", DNSServiceIP: "10.3.0.10", Members: map[string]string{"node1": "10.0.0.1"}, CNI: "flannel", Audit: true, Owners: table,
	}
	for _, name := range c.ImageNames() {
		c.Images[name] = fmt.Sprintf("quay.io/example/%s@sha256:%064x", name, 1)
	}
	for name, render := range map[string]func(*plane.Cluster) (plane.Files, error){"controller": plane.Controller, "manifests": plane.Manifests} {
		files, err := render(c)
		if err != nil {
			t.Fatal(err)
		}
		for path, body := range files {
			for _, refuse := range []func([]byte) error{secret, placeholder, unpinned} {
				if err := refuse(body); err != nil {
					t.Errorf("%s: %s: %v", name, path, err)
				}
			}
			if secret(append(body, "client-key-data: AAAA\n"...)) == nil {
				t.Errorf("%s: %s: a key was not found", name, path)
			}
		}
	}
	for _, body := range [][]byte{table.Sysusers(), table.Tmpfiles(owners.Roles()...)} {
		if err := secret(body); err != nil {
			t.Error(err)
		}
	}
}
