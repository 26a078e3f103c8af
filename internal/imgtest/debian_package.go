package imgtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"io"
	slash "path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// debTime is the modification time of everything in a [Deb].
var debTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Deb describes a Debian package to be made for a test.
type Deb struct {
	Name    string
	Version string // default "1.0-1"
	Arch    string // default "all"
	// Control is further lines of the control file, each with its newline:
	// "Depends: libc6 (>= 2)\n". Maintainer and Description need not be given.
	Control string
	// Members is what else the control archive holds, by name: "postinst", "conffiles".
	// md5sums is always made.
	Members map[string]string
	Files   []DebFile
	// Compress is "xz" (default), "gz", "zst" or "none".
	Compress string
}

// DebFile is one entry of a package. Directories above it are made as needed.
type DebFile struct {
	Path     string // "usr/bin/true"; it goes into the archive as it is, after "./"
	Body     string
	Mode     int64  // default 0644; 0755 for a directory, 0777 for a symbolic link
	Symlink  string // when set, a symbolic link to this
	Hardlink string // when set, a hard link to this path
	Type     byte   // a type of archive/tar, when it is none of the above
	UID, GID int
}

// Dir returns a directory entry with the given permissions.
func Dir(path string, mode int64) DebFile {
	return DebFile{Path: path, Mode: mode, Type: tar.TypeDir}
}

// Bytes returns the package file. The same description always gives the same bytes.
func (d Deb) Bytes(t testing.TB) []byte {
	t.Helper()
	suffix := "." + d.compression()
	if suffix == ".none" {
		suffix = ""
	}
	return Ar(
		ArMember{"debian-binary", []byte("2.0\n")},
		ArMember{"control.tar" + suffix, d.compress(t, d.controlTar(t))},
		ArMember{"data.tar" + suffix, d.compress(t, Tar(t, withParents(d.Files)...))},
	)
}

// ControlFile returns the control file.
func (d Deb) ControlFile() string {
	s := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n", d.Name, d.version(), d.arch())
	for _, f := range []struct{ name, value string }{
		{"Maintainer", "imgctl tests <tests@imgctl.invalid>"},
		{"Priority", "optional"},
		{"Section", "misc"},
	} {
		if !strings.Contains("\n"+d.Control, "\n"+f.name+":") {
			s += f.name + ": " + f.value + "\n"
		}
	}
	s += d.Control
	if !strings.Contains("\n"+d.Control, "\nDescription:") {
		s += "Description: package " + d.Name + " of a test archive\n"
	}
	return s
}

func (d Deb) version() string     { return either(d.Version, "1.0-1") }
func (d Deb) arch() string        { return either(d.Arch, "all") }
func (d Deb) compression() string { return either(d.Compress, "xz") }

func either(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// controlTar returns the control archive, md5sums as dh_md5sums makes them:
// of regular files that are no conffiles.
func (d Deb) controlTar(t testing.TB) []byte {
	files := []DebFile{{Path: "control", Body: d.ControlFile()}}
	var sums strings.Builder
	for _, f := range d.Files {
		regular := f.Symlink == "" && f.Hardlink == "" && f.Type == 0
		if regular && !slices.Contains(strings.Split(d.Members["conffiles"], "\n"), "/"+f.Path) {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum([]byte(f.Body)), f.Path)
		}
	}
	files = append(files, DebFile{Path: "md5sums", Body: sums.String()})
	for name, body := range d.Members {
		mode := int64(0o755)
		if slices.Contains([]string{"conffiles", "triggers", "shlibs", "symbols", "templates"}, name) {
			mode = 0o644
		}
		files = append(files, DebFile{Path: name, Body: body, Mode: mode})
	}
	slices.SortFunc(files, func(a, b DebFile) int { return strings.Compare(a.Path, b.Path) })
	return Tar(t, files...)
}

func (d Deb) compress(t testing.TB, plain []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch d.compression() {
	case "xz":
		w, err = xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&out)
	case "gz":
		w = gzip.NewWriter(&out)
	case "zst":
		w, err = zstd.NewWriter(&out)
	case "none":
		return plain
	default:
		err = fmt.Errorf("compression %q", d.Compress)
	}
	debMust(t, err)
	_, err = w.Write(plain)
	debMust(t, err)
	debMust(t, w.Close())
	return out.Bytes()
}

// ArMember is one member of an ar archive.
type ArMember struct {
	Name string
	Body []byte
}

// Ar returns an ar archive in the form that deb(5) wants.
func Ar(members ...ArMember) []byte {
	out := []byte("!<arch>\n")
	for _, m := range members {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.Name, debTime.Unix(), 0, 0, "100644", len(m.Body))
		out = append(out, m.Body...)
		if len(m.Body)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

// Tar returns an uncompressed tar archive with exactly these entries, hostile ones too.
func Tar(t testing.TB, files ...DebFile) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := f.header()
		debMust(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := io.WriteString(w, f.Body)
			debMust(t, err)
		}
	}
	debMust(t, w.Close())
	return out.Bytes()
}

func (f DebFile) header() *tar.Header {
	h := &tar.Header{Name: "./" + f.Path, Mode: 0o644, Typeflag: tar.TypeReg, ModTime: debTime, Uid: f.UID, Gid: f.GID, Format: tar.FormatGNU}
	switch {
	case f.Symlink != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Symlink, 0o777
	case f.Hardlink != "":
		h.Typeflag, h.Linkname = tar.TypeLink, "./"+f.Hardlink
	case f.Type == tar.TypeDir:
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
		h.Name += "/"
	case f.Type != 0:
		h.Typeflag = f.Type
	default:
		h.Size = int64(len(f.Body))
	}
	if f.Mode != 0 {
		h.Mode = f.Mode
	}
	return h
}

// withParents adds the root and the directories that files stand in, as a
// package has them.
func withParents(files []DebFile) []DebFile {
	all := []DebFile{Dir("", 0)}
	seen := map[string]bool{".": true}
	for _, f := range files {
		if f.Type == tar.TypeDir {
			seen[f.Path] = true
		}
	}
	for _, f := range files {
		var missing []string
		for dir := slash.Dir(f.Path); !seen[dir] && dir != "/"; dir = slash.Dir(dir) {
			seen[dir] = true
			missing = append(missing, dir)
		}
		for _, dir := range slices.Backward(missing) {
			all = append(all, Dir(dir, 0))
		}
		all = append(all, f)
	}
	return all
}

func debMust(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
