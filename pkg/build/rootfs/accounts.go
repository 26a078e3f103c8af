package rootfs

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// accounts are who there is in the image, by name.
type accounts struct {
	uid, gid map[string]int
	primary  map[string]int // the group of each user
}

// accountFiles are the four files that say so, under construction.
type accountFiles struct {
	passwd, group, shadow, gshadow strings.Builder
	changed                        int64 // day of the last password change: shadow(5)
	hidden                         bool  // passwords stand in files of their own
	names                          accounts
	ids                            struct{ uid, gid map[int]string }
}

// masters are where base-passwd has the accounts of every Debian system.
const (
	masterGroups = "/usr/share/base-passwd/group.master"
	masterUsers  = "/usr/share/base-passwd/passwd.master"
)

// writeAccounts makes passwd, group, shadow and gshadow of base-passwd's masters
// and of the Config; without base-passwd there are root and nobody. Nobody has a
// password, and without the package passwd there are no files for passwords.
func (t *Tree) writeAccounts(cfg Config) (*accounts, error) {
	f := &accountFiles{changed: cfg.Created.Unix() / 86400, hidden: t.packages["passwd"]}
	f.names = accounts{uid: make(map[string]int), gid: make(map[string]int), primary: make(map[string]int)}
	f.ids.uid, f.ids.gid = make(map[int]string), make(map[int]string)
	if err := f.addMasters(t); err != nil {
		return nil, err
	}
	for _, g := range cfg.Groups {
		if err := f.addGroup(g.Name, g.GID, g.Members, "!"); err != nil {
			return nil, err
		}
	}
	for _, u := range cfg.Users {
		if err := f.addUser(u, "!"); err != nil {
			return nil, err
		}
	}
	return &f.names, f.write(t)
}

// addMasters adds the accounts of every system.
func (f *accountFiles) addMasters(t *Tree) error {
	if t.has(masterGroups) && t.has(masterUsers) {
		if err := t.eachRecord(masterGroups, 4, f.addMasterGroup); err != nil {
			return err
		}
		return t.eachRecord(masterUsers, 7, f.addMasterUser)
	}
	for _, name := range []string{"root", "nobody"} {
		id, home, group := 0, "/root", name
		if name == "nobody" {
			id, home, group = 65534, "", "nogroup"
		}
		if err := f.addGroup(group, id, nil, "*"); err != nil {
			return err
		}
		if err := f.addUser(User{Name: name, UID: id, GID: id, Comment: name, Home: home}, "*"); err != nil {
			return err
		}
	}
	return nil
}

// eachRecord calls add for each line of a file in the manner of passwd(5).
func (t *Tree) eachRecord(path string, want int, add func([]string) error) error {
	data, err := t.read(path)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) != want {
			return fmt.Errorf("%s:%d: got %d fields, want %d", path, i+1, len(fields), want)
		}
		if err := add(fields); err != nil {
			return fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return nil
}

func (f *accountFiles) addMasterGroup(r []string) error {
	gid, err := strconv.Atoi(r[2])
	if err != nil {
		return err
	}
	var members []string
	if r[3] != "" {
		members = strings.Split(r[3], ",")
	}
	return f.addGroup(r[0], gid, members, "*")
}

func (f *accountFiles) addMasterUser(r []string) error {
	uid, err := strconv.Atoi(r[2])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(r[3])
	if err != nil {
		return err
	}
	return f.addUser(User{Name: r[0], UID: uid, GID: gid, Comment: r[4], Home: r[5], Shell: r[6]}, "*")
}

func (f *accountFiles) addGroup(name string, gid int, members []string, password string) error {
	if other, ok := f.ids.gid[gid]; ok {
		return fmt.Errorf("group %s: gid %d is that of %s", name, gid, other)
	}
	if _, ok := f.names.gid[name]; ok {
		return fmt.Errorf("group %s: already there", name)
	}
	f.names.gid[name], f.ids.gid[gid] = gid, name
	list := strings.Join(members, ",")
	fmt.Fprintf(&f.group, "%s:%s:%d:%s\n", name, f.public(password), gid, list)
	fmt.Fprintf(&f.gshadow, "%s:%s::%s\n", name, password, list)
	return nil
}

func (f *accountFiles) addUser(u User, password string) error {
	if other, ok := f.ids.uid[u.UID]; ok {
		return fmt.Errorf("user %s: uid %d is that of %s", u.Name, u.UID, other)
	}
	if _, ok := f.names.uid[u.Name]; ok {
		return fmt.Errorf("user %s: already there", u.Name)
	}
	if _, ok := f.ids.gid[u.GID]; !ok {
		return fmt.Errorf("user %s: there is no group with gid %d", u.Name, u.GID)
	}
	if u.Home == "" {
		u.Home = "/nonexistent"
	}
	if u.Shell == "" {
		u.Shell = "/usr/sbin/nologin"
	}
	f.names.uid[u.Name], f.names.primary[u.Name], f.ids.uid[u.UID] = u.UID, u.GID, u.Name
	fmt.Fprintf(&f.passwd, "%s:%s:%d:%d:%s:%s:%s\n", u.Name, f.public(password), u.UID, u.GID, u.Comment, u.Home, u.Shell)
	fmt.Fprintf(&f.shadow, "%s:%s:%d:0:99999:7:::\n", u.Name, password, f.changed)
	return nil
}

// public is what everybody sees of a password.
func (f *accountFiles) public(password string) string {
	if f.hidden {
		return "x"
	}
	return password
}

// write puts the files into the tree. Those with passwords are for root and the
// group shadow alone, as Debian has them.
func (f *accountFiles) write(t *Tree) error {
	shadow := f.names.gid["shadow"]
	for _, file := range []struct {
		path string
		text *strings.Builder
		mode int64
		gid  int
	}{
		{"etc/passwd", &f.passwd, 0o644, 0},
		{"etc/group", &f.group, 0o644, 0},
		{"etc/shadow", &f.shadow, 0o640, shadow},
		{"etc/gshadow", &f.gshadow, 0o640, shadow},
	} {
		if !f.hidden && strings.Contains(file.path, "shadow") {
			continue
		}
		if err := t.putFile(file.path, file.mode, []byte(file.text.String())); err != nil {
			return err
		}
		t.entries[file.path].GID = file.gid
	}
	return nil
}

// resolveOwners gives each file the number that its owner's name has in this
// image. A package's own number is the right one only for names that every
// system has.
func (t *Tree) resolveOwners(a *accounts) {
	for _, e := range t.entries {
		if uid, ok := a.uid[e.user]; ok {
			e.UID = uid
		}
		if gid, ok := a.gid[e.group]; ok {
			e.GID = gid
		}
	}
}

// own applies what a spec says about the owner of e.
func (a *accounts) own(e *Entry, o Owner, mode int64) error {
	e.Mode = mode
	if o.Mode != "" {
		m, err := strconv.ParseInt(o.Mode, 8, 64)
		if err != nil || m < 0 || m > 0o7777 {
			return fmt.Errorf("/%s: mode %q: want an octal number such as 0755", e.Path, o.Mode)
		}
		e.Mode = m
	}
	e.user, e.group, e.UID, e.GID = "", "", 0, 0
	var known bool
	if e.UID, known = a.uid[o.User]; !known && o.User != "" {
		return fmt.Errorf("/%s: there is no user %q", e.Path, o.User)
	}
	if e.GID, known = a.gid[o.Group]; !known && o.Group != "" {
		return fmt.Errorf("/%s: there is no group %q, only %s", e.Path, o.Group, strings.Join(sortedNames(a.gid), " "))
	}
	return nil
}

func sortedNames(m map[string]int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
