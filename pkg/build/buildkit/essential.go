package buildkit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/imgctl/imgctl/internal/deb"
)

// writeEssential writes the files of the packages as one archive, in a new file
// of dir: dpkg and all that it calls, unpacked before there is a dpkg. It has no
// part in the image, where dpkg unpacks the packages once more; only directories
// keep the owner and mode that they have here.
func writeEssential(ctx context.Context, packages []debian, dir string) (upload, error) {
	return newUpload(dir, "essential", ".tar.zst", func(w io.Writer) error { return compressEssential(ctx, w, packages) })
}

func compressEssential(ctx context.Context, w io.Writer, packages []debian) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	a := &archive{tar: tar.NewWriter(z), aliases: make(map[string]string), seen: make(map[string]bool)}
	for _, d := range packages {
		if err := a.readAliases(d); err != nil {
			return fmt.Errorf("package %s: %w", d.name, err)
		}
	}
	for _, d := range baseFirst(packages) {
		err := deb.Unpack(d.file, func(m deb.Member) error {
			if m.Control || ctx.Err() != nil {
				return ctx.Err()
			}
			return a.add(m)
		})
		if err != nil {
			return fmt.Errorf("package %s: %w", d.name, err)
		}
	}
	return errors.Join(a.tar.Close(), z.Close())
}

// baseFirst puts base-files first: its idea of what /tmp and its kind are is the
// one that counts, as in debootstrap.
func baseFirst(packages []debian) []debian {
	var first, rest []debian
	for _, d := range packages {
		if d.name == "base-files" {
			first = append(first, d)
			continue
		}
		rest = append(rest, d)
	}
	return append(first, rest...)
}

// archive lays packages over each other.
type archive struct {
	tar     *tar.Writer
	aliases map[string]string // links at the top: "bin" → "usr/bin"
	seen    map[string]bool
}

// readAliases notes the links of the merged /usr that base-files has. They hold
// for the paths of every package, whichever comes first.
func (a *archive) readAliases(d debian) error {
	if d.name != "base-files" {
		return nil
	}
	return deb.Unpack(d.file, func(m deb.Member) error {
		if h := m.Header; !m.Control && h.Typeflag == tar.TypeSymlink && h.Linkname == "usr/"+h.Name {
			a.aliases[h.Name] = h.Linkname
		}
		return nil
	})
}

// add writes an entry, under the path that it really has. Of entries with one
// path the first stays: dpkg has the last word when it installs the packages.
func (a *archive) add(m deb.Member) error {
	h := *m.Header
	if h.Typeflag != tar.TypeSymlink || a.aliases[h.Name] != h.Linkname {
		h.Name = a.canonical(h.Name)
	}
	if a.seen[h.Name] {
		return nil
	}
	a.seen[h.Name] = true
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeLink:
		h.Linkname = a.canonical(h.Linkname)
	}
	h.Uname, h.Gname, h.Format = "", "", tar.FormatPAX
	if err := a.tar.WriteHeader(&h); err != nil || m.Body == nil {
		return err
	}
	_, err := io.Copy(a.tar, m.Body)
	return err
}

// canonical returns where a path really is: below /bin is below /usr/bin.
func (a *archive) canonical(name string) string {
	first, rest, below := strings.Cut(name, "/")
	to, ok := a.aliases[first]
	switch {
	case !ok:
		return name
	case !below:
		return to
	}
	return to + "/" + rest
}
