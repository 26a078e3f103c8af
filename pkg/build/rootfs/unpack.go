package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
)

// Bounds of what is kept in memory of one package.
const (
	maxControl   = 4 << 20
	maxCopyright = 1 << 20
)

// unpacked is what one package holds.
type unpacked struct {
	Package
	control    deb.Control
	rawControl []byte
	info       map[string]content // the other control files: "md5sums", "conffiles", "postinst", …
	modes      map[string]int64   // and their permissions
	names      []string           // every path as the package writes it, in its order: what "dpkg -L" prints
	entries    []*Entry           // those that are not left out
	copyright  []byte
	docLink    string // where /usr/share/doc/<name> points, when it is a link
}

// unpacker unpacks many packages at once. Each one that is unpacked has a spool
// for itself, which the next one then continues.
type unpacker struct {
	filter *filter
	dir    string
	slots  chan struct{}

	mu     sync.Mutex
	idle   []*spool
	spools []*spool
}

// unpackAll unpacks the packages. The result has their order.
func (u *unpacker) unpackAll(ctx context.Context, pkgs []Package) ([]*unpacked, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(u.slots))
	result := make([]*unpacked, len(pkgs))
	for i, p := range pkgs {
		g.Go(func() error {
			select {
			case u.slots <- struct{}{}:
				defer func() { <-u.slots }()
			case <-ctx.Done():
				return ctx.Err()
			}
			s, err := u.take()
			if err != nil {
				return err
			}
			defer u.giveBack(s)
			result[i], err = u.unpack(ctx, p, s)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, s := range u.spools {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (u *unpacker) take() (*spool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.idle); n > 0 {
		s := u.idle[n-1]
		u.idle = u.idle[:n-1]
		return s, nil
	}
	s, err := newSpool(u.dir)
	if err == nil {
		u.spools = append(u.spools, s)
	}
	return s, err
}

func (u *unpacker) giveBack(s *spool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.idle = append(u.idle, s)
}

// release lets go of the write buffers.
func (u *unpacker) release() {
	for _, s := range u.spools {
		s.w = bufio.NewWriterSize(s.f, 16)
	}
}

func (u *unpacker) close() {
	for _, s := range u.spools {
		s.f.Close()
	}
}

func (u *unpacker) unpack(ctx context.Context, p Package, s *spool) (*unpacked, error) {
	x := &unpacked{Package: p, info: make(map[string]content), modes: make(map[string]int64)}
	links := make(map[string]*Entry) // regular files, for hard links to them
	err := deb.Unpack(p.File, func(m deb.Member) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if m.Control {
			return x.addControl(m, s)
		}
		return x.addFile(m, s, u.filter, links)
	})
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p.Name, err)
	}
	if got := x.control.Package + " " + x.control.Version; got != p.Name+" "+p.Version {
		return nil, fmt.Errorf("package %s: its control file says %q, want %q", p.Name, got, p.Name+" "+p.Version)
	}
	return x, nil
}

// addControl keeps a file of the control archive.
func (x *unpacked) addControl(m deb.Member, s *spool) error {
	h := m.Header
	if h.Typeflag != tar.TypeReg || path.Base(h.Name) != h.Name {
		return fmt.Errorf("control file %q: want plain files and nothing else", h.Name)
	}
	if h.Name != "control" {
		c, err := s.add(m.Body, h.Size)
		x.info[h.Name], x.modes[h.Name] = c, h.Mode&0o777
		return err
	}
	var err error
	if x.rawControl, err = readAll(m.Body, maxControl); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	x.control, err = deb.ParseControl(x.rawControl)
	return err
}

// addFile keeps a file of the data archive, unless the filter drops it.
// Directories are kept even then: something below them may stay.
func (x *unpacked) addFile(m deb.Member, s *spool, f *filter, links map[string]*Entry) error {
	h := m.Header
	if strings.Contains(h.Name, "\n") {
		return &deb.EntryError{Entry: h.Name, Why: "a line break, which dpkg's lists cannot have"}
	}
	x.names = append(x.names, h.Name)
	e := &Entry{Path: h.Name, Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid,
		ModTime: h.ModTime, user: h.Uname, group: h.Gname, pkg: x}
	e.Capability = h.PAXRecords[capabilityRecord]
	doc := "usr/share/doc/" + x.Name
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.Target, e.Mode = h.Linkname, 0o777
		switch h.Name {
		case doc:
			x.docLink = path.Base(h.Linkname)
		case doc + "/copyright":
			x.docLink = path.Base(path.Dir(h.Linkname))
		}
	case tar.TypeLink: // becomes a file of its own, which shares content and inode
		if err := e.share(links[h.Linkname]); err != nil && !f.drops(e.Path) {
			return err
		}
	case tar.TypeReg:
		if err := x.addContent(e, m, s, f, doc); err != nil {
			return err
		}
		links[h.Name] = e
	}
	if !f.drops(e.Path) || e.Type == tar.TypeDir {
		x.entries = append(x.entries, e)
	}
	return nil
}

// addContent spools a regular file. Of what is dropped nothing is written, but
// a copyright file is read all the same: the bill of materials needs it.
func (x *unpacked) addContent(e *Entry, m deb.Member, s *spool, f *filter, doc string) error {
	var err error
	if e.Path == doc+"/copyright" && m.Header.Size <= maxCopyright {
		if x.copyright, err = readAll(m.Body, maxCopyright); err != nil {
			return err
		}
		e.content, e.inode = inMemory(x.copyright), e
		return nil
	}
	if f.drops(e.Path) {
		return nil
	}
	e.inode = e
	head := bufio.NewReaderSize(m.Body, elfHead)
	e.elf = machineOf(head)
	if e.content, err = s.add(head, m.Header.Size); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

func readAll(r io.Reader, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("larger than %d bytes", max)
	}
	return data, err
}
