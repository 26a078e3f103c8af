package buildkit

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// bare is the root file system of an image without packages: what the spec asks
// for and nothing else. There is no shell in it that could make it.
type bare struct {
	cfg     rootfs.Config
	uid     map[string]int
	gid     map[string]int
	entries map[string]bareEntry // by path, relative
}

type bareEntry struct {
	header tar.Header
	body   string
}

// writeBare returns the root file system as a tar archive.
func writeBare(cfg rootfs.Config) ([]byte, error) {
	b := &bare{cfg: cfg, entries: make(map[string]bareEntry)}
	if len(cfg.Alternatives) > 0 {
		a := cfg.Alternatives[0]
		return nil, fmt.Errorf("alternatives: %s: %s is not in the image, which has no packages", a.Name, a.Path)
	}
	for _, add := range []func() error{b.addAccounts, b.addDirectories, b.addFiles, b.addLinks} {
		if err := add(); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[name]
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// addAccounts adds passwd(5) and group(5), with those that every system has.
func (b *bare) addAccounts() error {
	users := append([]rootfs.User{
		{Name: "root", Comment: "root", Home: "/root"},
		{Name: "nobody", UID: 65534, GID: 65534, Comment: "nobody"},
	}, b.cfg.Users...)
	groups := append([]rootfs.Group{{Name: "root"}, {Name: "nogroup", GID: 65534}}, b.cfg.Groups...)
	b.uid, b.gid = make(map[string]int), make(map[string]int)
	l := make(lists)
	for i, u := range users {
		b.uid[u.Name] = u.UID
		if err := l.addUser(u, password(i)); err != nil {
			return err
		}
	}
	for i, g := range groups {
		b.gid[g.Name] = g.GID
		if err := l.addGroup(g, password(i)); err != nil {
			return err
		}
	}
	for _, name := range []string{"group", "passwd"} {
		if err := b.add("/etc/"+name, tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}, l[name]); err != nil {
			return err
		}
	}
	return nil
}

// password is the word for "none" that Debian uses, for the first two accounts,
// which are its own, and for others.
func password(i int) string {
	if i < 2 {
		return "*"
	}
	return "!"
}

func (b *bare) addDirectories() error {
	for _, d := range b.cfg.Directories {
		h, err := b.header(d.Owner, 0o755)
		if err != nil {
			return fmt.Errorf("directories: %s: %w", d.Path, err)
		}
		h.Typeflag = tar.TypeDir
		if err := b.add(d.Path, h, ""); err != nil {
			return fmt.Errorf("directories: %w", err)
		}
	}
	return nil
}

func (b *bare) addFiles() error {
	for _, f := range b.cfg.Files {
		if f.Copy != "" {
			return fmt.Errorf("files: copy to %s: %s is not in the image, which has no packages", f.Path, f.Copy)
		}
		h, err := b.header(f.Owner, 0o644)
		if err != nil {
			return fmt.Errorf("files: %s: %w", f.Path, err)
		}
		h.Typeflag = tar.TypeReg
		if err := b.add(f.Path, h, f.Content); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	return nil
}

func (b *bare) addLinks() error {
	for _, l := range b.cfg.Links {
		if err := b.add(l.Path, tar.Header{Typeflag: tar.TypeSymlink, Linkname: l.Target, Mode: 0o777}, ""); err != nil {
			return fmt.Errorf("links: %w", err)
		}
	}
	return nil
}

// header has the owner and the mode.
func (b *bare) header(o rootfs.Owner, mode int64) (tar.Header, error) {
	h := tar.Header{Mode: mode}
	var err error
	if o.Mode != "" {
		if h.Mode, err = strconv.ParseInt(o.Mode, 8, 64); err != nil {
			return h, fmt.Errorf("mode %q: want an octal number", o.Mode)
		}
	}
	var known bool
	if h.Uid, known = b.uid[cmp.Or(o.User, "root")]; !known {
		return h, fmt.Errorf("there is no user %q", o.User)
	}
	if h.Gid, known = b.gid[cmp.Or(o.Group, "root")]; !known {
		return h, fmt.Errorf("there is no group %q", o.Group)
	}
	return h, nil
}

// add puts an entry below directories, which it makes where they are missing.
func (b *bare) add(name string, h tar.Header, body string) error {
	p := strings.TrimPrefix(path.Clean(name), "/")
	if old, ok := b.entries[p]; ok && (old.header.Typeflag != tar.TypeDir || h.Typeflag != tar.TypeDir) {
		return fmt.Errorf("%s: already there", name)
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		old, ok := b.entries[dir]
		if !ok {
			b.entries[dir] = bareEntry{header: tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: b.cfg.Created, Format: tar.FormatPAX}}
		} else if old.header.Typeflag != tar.TypeDir {
			return fmt.Errorf("%s: /%s is no directory", name, dir)
		}
	}
	h.Name, h.Size, h.ModTime, h.Format = p, int64(len(body)), b.cfg.Created, tar.FormatPAX
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	b.entries[p] = bareEntry{h, body}
	return nil
}
