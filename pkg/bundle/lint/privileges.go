package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// Privilege is something that a file lets somebody do or be.
type Privilege struct {
	Of   string `json:"of"`   // the file and the container in it, or the role
	Kind string `json:"kind"` // "image", "flag", "mount", "right" or "rule"
	What string `json:"what"` // in words that are the same for the same privilege
}

// Privileges returns what the units and manifests of a tree let containers and
// users do, sorted, each once: the images that run, their flags, the host's paths
// that they see, what confines them less than others, and the rules of roles.
func Privileges(files map[string][]byte) []Privilege {
	l := &linter{}
	l.read(files)
	var all []Privilege
	for _, c := range l.containers {
		all = append(all, c.privileges()...)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name)) {
			for _, doc := range documents(files[name]) {
				all = append(all, rules(doc)...)
			}
		}
	}
	slices.SortFunc(all, func(a, b Privilege) int {
		return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(all)
}

func (c container) privileges() []Privilege {
	var all []Privilege
	add := func(kind, what string) { all = append(all, Privilege{c.id(), kind, what}) }
	add("image", c.image)
	for _, a := range c.args {
		add("flag", a)
	}
	for _, m := range c.mounts {
		mode := "read and write"
		if m.ReadOnly {
			mode = "read"
		}
		text := fmt.Sprintf("%s at %s: %s", m.Source, m.Target, mode)
		if m.Propagation != "" {
			text += ", " + m.Propagation
		}
		if m.Label != "" {
			text += ", label " + m.Label
		}
		add("mount", text)
	}
	for _, r := range c.rights {
		add("right", r)
	}
	if c.privileged && !slices.Contains(c.rights, "privileged") {
		add("right", "not confined by SELinux")
	}
	return all
}

// podRights says how a container of a pod is confined less than it could be.
func podRights(c *corev1.Container, pod *corev1.PodSpec) []string {
	var rights []string
	for name, has := range map[string]bool{"host network": pod.HostNetwork, "host PIDs": pod.HostPID, "host IPC": pod.HostIPC} {
		if has {
			rights = append(rights, name)
		}
	}
	s := c.SecurityContext
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	if s.Privileged != nil && *s.Privileged {
		rights = append(rights, "privileged")
	}
	if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
		rights = append(rights, "may gain privileges")
	}
	if s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
		rights = append(rights, "the engine's capabilities")
	}
	if s.Capabilities != nil {
		for _, name := range s.Capabilities.Add {
			rights = append(rights, "capability "+string(name))
		}
	}
	slices.Sort(rights)
	return append(rights, "user "+userOf(s, pod.SecurityContext))
}

// userOf is whom a container runs as.
func userOf(s *corev1.SecurityContext, pod *corev1.PodSecurityContext) string {
	id := s.RunAsUser
	if id == nil && pod != nil {
		id = pod.RunAsUser
	}
	if id == nil {
		return "of the image"
	}
	return fmt.Sprint(*id)
}

// rules returns what a document of roles or bindings grants; nil for any other.
func rules(doc []byte) []Privilege {
	var o object
	if yaml.Unmarshal(doc, &o) != nil {
		return nil // Lint says so
	}
	of := o.Kind + " " + strings.TrimPrefix(o.Metadata.Namespace+"/"+o.Metadata.Name, "/")
	var all []Privilege
	switch o.Kind {
	case "Role", "ClusterRole":
		var r rbacv1.ClusterRole
		if yaml.Unmarshal(doc, &r) == nil {
			for _, rule := range r.Rules {
				all = append(all, Privilege{of, "rule", ruleText(rule)})
			}
		}
	case "RoleBinding", "ClusterRoleBinding":
		var b rbacv1.ClusterRoleBinding
		if yaml.Unmarshal(doc, &b) == nil {
			for _, s := range b.Subjects {
				who := strings.TrimPrefix(s.Namespace+"/"+s.Name, "/")
				all = append(all, Privilege{of, "rule", fmt.Sprintf("%s %s is %s %s", s.Kind, who, b.RoleRef.Kind, b.RoleRef.Name)})
			}
		}
	}
	return all
}

func ruleText(r rbacv1.PolicyRule) string {
	r.Verbs, r.Resources = slices.Sorted(slices.Values(r.Verbs)), slices.Sorted(slices.Values(r.Resources))
	text := strings.Join(r.Verbs, ",") + " " + strings.Join(append(r.Resources, r.NonResourceURLs...), ",")
	if groups := strings.Trim(strings.Join(r.APIGroups, ","), ","); groups != "" {
		text += " of " + groups
	}
	if len(r.ResourceNames) > 0 {
		names, err := json.Marshal(r.ResourceNames)
		if err == nil {
			text += " named " + string(names)
		}
	}
	return text
}
