package bundle

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Machine is the kind of machine that c renders; of one for several kinds, see
// [Config.Machines], it is none.
func (c *Config) Machine() content.Machine { return content.Machine{Family: c.OS.Family, Role: c.Role} }

// Machines returns the bundle of each kind of machine that c is for: of every
// family and every role, ascending. What they have in common is shared.
func (c *Config) Machines() []*Config {
	families, roles := []string{c.OS.Family}, []string{c.Role}
	if len(c.OS.Families) > 0 {
		families = slices.Sorted(slices.Values(c.OS.Families))
	}
	if len(c.Roles) > 0 {
		roles = slices.Sorted(maps.Keys(c.Roles))
	}
	var all []*Config
	for _, family := range families {
		for _, role := range roles {
			all = append(all, c.machine(family, role))
		}
	}
	return all
}

// machine is the bundle of one family and role.
func (c *Config) machine(family, role string) *Config {
	one := *c
	one.OS, one.Role = OS{Family: family}, role
	if len(c.Roles) == 0 {
		return &one
	}
	one.Roles = nil
	one.Kubelet = c.Kubelet.with(c.Roles[role])
	if role != Controller {
		one.ControlPlane = nil
	}
	return &one
}

// with returns what nodes are given by both; of two values for one label, and of
// two lists of credential providers, it is the more special one.
func (k Kubelet) with(role Kubelet) Kubelet {
	labels := maps.Clone(k.NodeLabels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, role.NodeLabels)
	both := Kubelet{NodeLabels: labels, Taints: slices.Concat(k.Taints, role.Taints), CredentialProviders: k.CredentialProviders}
	if role.CredentialProviders != nil {
		both.CredentialProviders = role.CredentialProviders
	}
	return both
}

// several tells whether c is for more kinds of machines than one render gives.
func (c *Config) several() bool { return len(c.OS.Families) > 0 || len(c.Roles) > 0 }

// checkSeveral reports what is said twice, or in both ways.
func (c *Config) checkSeveral() error {
	if len(c.OS.Families) > 0 && c.OS.Family != "" {
		return fmt.Errorf("os.families: got os.family as well, want one of them")
	}
	if len(c.Roles) > 0 && c.Role != "" {
		return fmt.Errorf("roles: got role as well, want one of them")
	}
	for i, f := range c.OS.Families {
		if _, ok := families[f]; !ok {
			return fmt.Errorf("os.families[%d]: got %q, want one of %s", i, f, strings.Join(familyNames(), ", "))
		}
		if slices.Contains(c.OS.Families[:i], f) {
			return fmt.Errorf("os.families[%d]: got %s twice", i, f)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(c.Roles)) {
		if !slices.Contains(roleNames(), role) {
			return fmt.Errorf("roles.%s: got %q, want one of %s", role, role, strings.Join(roleNames(), ", "))
		}
	}
	if _, ok := c.Roles[Controller]; c.ControlPlane != nil && len(c.Roles) > 0 && !ok {
		return fmt.Errorf("controlPlane: it runs on a controller, and there is none among roles")
	}
	return nil
}

func familyNames() []string { return slices.Sorted(maps.Keys(families)) }

func roleNames() []string { return []string{Controller, Worker} }

// RenderAll renders the bundle of each kind of machine that c is for, see [Render].
func RenderAll(c *Config, pin func(ref string) (string, error)) ([]Tree, error) {
	var trees []Tree
	for _, one := range c.Machines() {
		t, err := Render(one, pin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Machine(), err)
		}
		trees = append(trees, t)
	}
	return trees, nil
}
