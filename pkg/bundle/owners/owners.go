// Package owners holds the one table of who owns what on a machine of a cluster.
//
// Each component of the control plane runs as a user of its own and can read
// what it needs itself (KEP-2568). [New] returns the [Table]: users and groups
// with their numbers, and every path with mode, owner, SELinux type and reason.
// From it come sysusers.d and tmpfiles.d, what static pods run as, the owners of
// sealed secrets, and a page of docs; [Table.Audit] compares a machine with it.
package owners

import (
	"fmt"
	"maps"
	"slices"
)

// The components of the control plane, by the names of their static pods.
const (
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Etcd              = "etcd"
)

// Components returns the names of all components.
func Components() []string { return []string{Etcd, APIServer, ControllerManager, Scheduler} }

// root is both a user and a group; it is on every machine.
const root = "root"

// The names are those of KEP-2568.
const (
	userEtcd              = "kubeadm-etcd"
	userAPIServer         = "kubeadm-kas"
	userControllerManager = "kubeadm-kcm"
	userScheduler         = "kubeadm-ks"
	groupKeyReaders       = "kubeadm-sa-key-readers"
)

// Numbers that may be given to users and groups of the system. Below are those
// that distributions have handed out for good.
const (
	MinID = 200
	MaxID = 999
)

// User is one component's user. Its own group has the same name and number.
type User struct {
	Name      string
	Component string
	ID        uint32
	Groups    []string // besides its own
}

// Group is a group that is not just one user's own.
type Group struct {
	Name    string
	ID      uint32
	Purpose string
}

// Table is who owns what. Make one with [New].
type Table struct {
	users  []User
	groups []Group
}

// New returns the table. ids has other numbers for some names than the stated
// ones, which are the same on every machine. They must be in the system's range
// and differ from one another.
func New(ids map[string]uint32) (*Table, error) {
	t := &Table{
		// The middle of the range: packages count up from its start, and
		// systemd-sysusers counts down from its end.
		users: []User{
			{userEtcd, Etcd, 561, nil},
			{userAPIServer, APIServer, 562, []string{groupKeyReaders}},
			{userControllerManager, ControllerManager, 563, []string{groupKeyReaders}},
			{userScheduler, Scheduler, 564, nil},
		},
		groups: []Group{{groupKeyReaders, 565, "reads the key that signs the tokens of service accounts"}},
	}
	numbers := make(map[string]*uint32)
	for i := range t.users {
		numbers[t.users[i].Name] = &t.users[i].ID
	}
	for i := range t.groups {
		numbers[t.groups[i].Name] = &t.groups[i].ID
	}
	for name, id := range ids {
		if numbers[name] == nil {
			return nil, fmt.Errorf("ids: got %q, want one of %v", name, slices.Sorted(maps.Keys(numbers)))
		}
		*numbers[name] = id
	}
	return t, checkNumbers(numbers)
}

func checkNumbers(numbers map[string]*uint32) error {
	taken := make(map[uint32]string)
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		id := *numbers[name]
		if id < MinID || id > MaxID {
			return fmt.Errorf("ids.%s: got %d, want %d to %d", name, id, MinID, MaxID)
		}
		if other, ok := taken[id]; ok {
			return fmt.Errorf("ids.%s: %d is of %s already", name, id, other)
		}
		taken[id] = name
	}
	return nil
}

// Users returns all users.
func (t *Table) Users() []User { return slices.Clone(t.users) }

// Groups returns the groups that are not just one user's own.
func (t *Table) Groups() []Group { return slices.Clone(t.groups) }

// UserOf returns the user that the component runs as.
func (t *Table) UserOf(component string) (User, bool) {
	i := slices.IndexFunc(t.users, func(u User) bool { return u.Component == component })
	if i < 0 {
		return User{}, false
	}
	return t.users[i], true
}

// UID returns the number of a user's name.
func (t *Table) UID(name string) (uint32, bool) {
	i := slices.IndexFunc(t.users, func(u User) bool { return u.Name == name })
	if i < 0 {
		return 0, name == root
	}
	return t.users[i].ID, true
}

// GID returns the number of a group's name.
func (t *Table) GID(name string) (uint32, bool) {
	if i := slices.IndexFunc(t.groups, func(g Group) bool { return g.Name == name }); i >= 0 {
		return t.groups[i].ID, true
	}
	return t.UID(name)
}
