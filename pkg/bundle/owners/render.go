package owners

import (
	"bytes"
	"fmt"
	"strings"
)

// Where systemd reads what [Table.Sysusers] and [Table.Tmpfiles] return.
const (
	SysusersPath = "/etc/sysusers.d/kubernetes.conf"
	TmpfilesPath = "/etc/tmpfiles.d/kubernetes.conf"
)

// Sysusers returns the file by which systemd-sysusers makes users and groups
// (sysusers.d(5)). Nobody logs in as one.
func (t *Table) Sysusers() []byte {
	var b bytes.Buffer
	b.WriteString("# The components of the control plane, each as a user of its own.\n")
	for _, g := range t.groups {
		fmt.Fprintf(&b, "g %s %d\n", g.Name, g.ID)
	}
	for _, u := range t.users {
		fmt.Fprintf(&b, "u %s %d \"%s\"\n", u.Name, u.ID, u.Component)
		for _, g := range u.Groups {
			fmt.Fprintf(&b, "m %s %s\n", u.Name, g)
		}
	}
	return b.Bytes()
}

// Tmpfiles returns the file by which systemd-tmpfiles makes the directories of
// machines of the roles and corrects files that are there (tmpfiles.d(5)).
func (t *Table) Tmpfiles(roles ...Role) []byte {
	var b bytes.Buffer
	b.WriteString("# Who owns what: docs/owners.md says why.\n")
	for _, p := range t.Of(roles...) {
		kind := "z"
		if p.Mode.IsDir() {
			kind = "d"
		}
		fmt.Fprintf(&b, "%s %s %04o %s %s -\n", kind, p.Path, p.Mode.Perm(), p.Owner, p.Group)
	}
	return b.Bytes()
}

// Page returns the table as Markdown.
func (t *Table) Page() []byte {
	var b bytes.Buffer
	b.WriteString("# Who owns what\n\nMade from the code by `make docs`. `sysusers.d`, `tmpfiles.d`, the static pods and sealed secrets follow the same table, and `imgctl bundle audit` compares a machine with it.\n\n")
	b.WriteString("Each component of the control plane runs as a user of its own ([KEP-2568](https://kep.k8s.io/2568)). A user's own group has its name and number.\n")
	fmt.Fprintf(&b, "Other numbers can be chosen, from %d to %d.\n\n", MinID, MaxID)
	b.WriteString("| user or group | number | is |\n|---|---:|---|\n")
	for _, u := range t.users {
		fmt.Fprintf(&b, "| %s | %d | %s |\n", strings.Join(append([]string{u.Name}, u.Groups...), ", in "), u.ID, u.Component)
	}
	for _, g := range t.groups {
		fmt.Fprintf(&b, "| %s (group) | %d | %s |\n", g.Name, g.ID, g.Purpose)
	}
	fmt.Fprintf(&b, "\nThe SELinux type of all of them is `%s`, level `s0`: several containers use each.\n\n", containerFile)
	b.WriteString("| path | mode | owner:group | on | why |\n|---|---|---|---|---|\n")
	for _, p := range t.Paths() {
		name, roles := p.Path, make([]string, 0, len(p.Roles))
		if p.Mode.IsDir() {
			name += "/"
		}
		for _, r := range p.Roles {
			roles = append(roles, string(r))
		}
		fmt.Fprintf(&b, "| %s | %04o | %s:%s | %s | %s |\n", strings.ReplaceAll(name, "*", `\*`), p.Mode.Perm(), p.Owner, p.Group, strings.Join(roles, ", "), p.Why)
	}
	return b.Bytes()
}
