package deb_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// save writes a package file and returns its path.
func save(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.deb")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// list unpacks a file and returns a line for each entry.
func list(path string) ([]string, error) {
	var all []string
	err := deb.Unpack(path, func(m deb.Member) error {
		body, err := io.ReadAll(m.Body)
		kind := "data"
		if m.Control {
			kind = "control"
		}
		all = append(all, fmt.Sprintf("%s %c %04o %s %q %d", kind, m.Header.Typeflag, m.Header.Mode, m.Header.Name, m.Header.Linkname, len(body)))
		return err
	})
	return all, err
}

func TestUnpackStreamsEveryCompression(t *testing.T) {
	for _, compression := range []string{"xz", "gz", "zst", "none"} {
		t.Run(compression, func(t *testing.T) {
			d := imgtest.Deb{Name: "tool", Compress: compression, Members: map[string]string{"postinst": "#!/bin/sh\n"}, Files: []imgtest.DebFile{
				{Path: "usr/bin/tool", Body: strings.Repeat("x", 100_000), Mode: 0o4755},
				{Path: "usr/bin/again", Hardlink: "usr/bin/tool"},
				{Path: "usr/bin/soft", Symlink: "../../../etc/passwd"},
				imgtest.Dir("var/tmp", 0o1777),
			}}
			got, err := list(save(t, d.Bytes(t)))
			want := []string{
				fmt.Sprintf(`control 0 0644 control "" %d`, len(d.ControlFile())), `control 0 0644 md5sums "" 47`, `control 0 0755 postinst "" 10`,
				`data 5 0755 usr "" 0`, `data 5 0755 usr/bin "" 0`,
				`data 0 4755 usr/bin/tool "" 100000`, `data 1 0644 usr/bin/again "usr/bin/tool" 0`, `data 2 0777 usr/bin/soft "../../../etc/passwd" 0`,
				`data 5 0755 var "" 0`, `data 5 1777 var/tmp "" 0`,
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// withData returns a package whose data.tar has exactly these entries.
func withData(t *testing.T, files ...imgtest.DebFile) []byte {
	return imgtest.Ar(
		imgtest.ArMember{Name: "debian-binary", Body: []byte("2.0\n")},
		imgtest.ArMember{Name: "control.tar", Body: imgtest.Tar(t, imgtest.DebFile{Path: "control", Body: "Package: x\n"})},
		imgtest.ArMember{Name: "data.tar", Body: imgtest.Tar(t, files...)},
	)
}

// B05, for packages: an entry that could reach outside is refused by its name.
func TestUnpackRefusesHostileEntries(t *testing.T) {
	file := imgtest.DebFile{Path: "usr/file", Body: "x"}
	for name, tt := range map[string]struct {
		files []imgtest.DebFile
		want  string
	}{
		"traversal":                 {[]imgtest.DebFile{{Path: "../etc/passwd"}}, `entry "./../etc/passwd": leads out of the root`},
		"traversal that cancels":    {[]imgtest.DebFile{{Path: "usr/../etc/passwd"}}, "leads out of the root"},
		"character device":          {[]imgtest.DebFile{{Path: "dev/null", Type: tar.TypeChar}}, `entry "./dev/null": neither file, directory nor link: character device`},
		"block device":              {[]imgtest.DebFile{{Path: "dev/sda", Type: tar.TypeBlock}}, "block device"},
		"FIFO":                      {[]imgtest.DebFile{{Path: "run/initctl", Type: tar.TypeFifo}}, "FIFO"},
		"contiguous file":           {[]imgtest.DebFile{{Path: "usr/x", Type: tar.TypeCont}}, "neither file, directory nor link"},
		"hard link to nothing":      {[]imgtest.DebFile{{Path: "usr/x", Hardlink: "usr/y"}}, "hard link to \"./usr/y\", which is no file that came before"},
		"hard link out":             {[]imgtest.DebFile{{Path: "usr/x", Hardlink: "../etc/shadow"}}, "hard link to"},
		"hard link to a later file": {[]imgtest.DebFile{{Path: "usr/x", Hardlink: "usr/file"}, file}, "hard link to"},
		"hard link to a directory":  {[]imgtest.DebFile{imgtest.Dir("usr", 0), {Path: "x", Hardlink: "usr"}}, "hard link to"},
		"hard link to a link":       {[]imgtest.DebFile{{Path: "l", Symlink: "/etc/shadow"}, {Path: "x", Hardlink: "l"}}, "hard link to"},
		"the same name twice":       {[]imgtest.DebFile{file, file}, `entry "./usr/file": given twice`},
		"the same name respelled":   {[]imgtest.DebFile{file, {Path: "usr/.//file"}}, "given twice"},
		"a file as the root":        {[]imgtest.DebFile{{Path: "."}}, "the root is no directory"},
		"below a symbolic link":     {[]imgtest.DebFile{{Path: "lib", Symlink: "/etc"}, {Path: "lib/passwd"}}, "below lib, which is no directory"},
		"far below a file":          {[]imgtest.DebFile{file, {Path: "usr/file/a/b"}}, "below usr/file, which is no directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := list(save(t, withData(t, tt.files...)))
			var ee *deb.EntryError
			if !errors.As(err, &ee) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := list(save(t, withData(t, imgtest.Dir("", 0), imgtest.Dir("usr", 0), file, imgtest.DebFile{Path: "usr/x", Hardlink: "usr/file"}, imgtest.DebFile{Path: "usr/y", Hardlink: "usr/x"}))); err != nil {
		t.Errorf("a harmless one: %v", err)
	}
}

func TestUnpackRefusesAbsoluteNames(t *testing.T) {
	data := withData(t, imgtest.DebFile{Path: "xetc/passwd"})
	data = []byte(strings.Replace(string(data), "./xetc/passwd", "/etc//passwd\x00", 1)) // same length; the checksum is set right below
	if _, err := list(save(t, fixTarSums(data))); err == nil || !strings.Contains(err.Error(), "absolute name") {
		t.Errorf("got %v", err)
	}
}

// fixTarSums computes the checksum of the header that stands at "/etc//passwd" anew.
func fixTarSums(data []byte) []byte {
	i := strings.Index(string(data), "/etc//passwd")
	h := data[i : i+512]
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

func TestUnpackRefusesWhatIsNoPackage(t *testing.T) {
	version := imgtest.ArMember{Name: "debian-binary", Body: []byte("2.0\n")}
	control := imgtest.ArMember{Name: "control.tar", Body: imgtest.Tar(t, imgtest.DebFile{Path: "control"})}
	data := imgtest.ArMember{Name: "data.tar", Body: imgtest.Tar(t)}
	named := func(m imgtest.ArMember, name string) imgtest.ArMember { m.Name = name; return m }
	for name, tt := range map[string]struct {
		members []imgtest.ArMember
		want    string
	}{
		"empty":                  {nil, "no debian-binary"},
		"no data":                {[]imgtest.ArMember{version, control}, "no data.tar"},
		"other order":            {[]imgtest.ArMember{version, data, control}, "ar member data.tar: want control.tar"},
		"version not first":      {[]imgtest.ArMember{control, version, data}, "want debian-binary"},
		"control twice":          {[]imgtest.ArMember{version, control, control, data}, "want data.tar"},
		"data twice":             {[]imgtest.ArMember{version, control, data, data}, "after data.tar"},
		"version 3":              {[]imgtest.ArMember{{Name: "debian-binary", Body: []byte("3.0\n")}, control, data}, "format version"},
		"version without a line": {[]imgtest.ArMember{{Name: "debian-binary", Body: []byte("2.0")}, control, data}, "format version"},
		"unknown compression":    {[]imgtest.ArMember{version, named(control, "control.tar.lz4"), data}, "compression"},
		"not xz":                 {[]imgtest.ArMember{version, named(control, "control.tar.xz"), data}, "control.tar.xz"},
		"not gzip":               {[]imgtest.ArMember{version, control, named(data, "data.tar.gz")}, "data.tar.gz"},
		"not zstd":               {[]imgtest.ArMember{version, control, named(data, "data.tar.zst")}, "data.tar.zst"},
		"not tar":                {[]imgtest.ArMember{version, control, {Name: "data.tar", Body: []byte(strings.Repeat("x", 1024))}}, "data.tar"},
		"data after the archive": {[]imgtest.ArMember{version, control, {Name: "data.tar", Body: append(imgtest.Tar(t), "x"...)}}, "data after the end of the archive"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := list(save(t, imgtest.Ar(tt.members...))); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	extra := imgtest.ArMember{Name: "_gpgorigin", Body: []byte("signature")}
	if _, err := list(save(t, imgtest.Ar(version, extra, control, data, extra))); err != nil {
		t.Errorf("with members that are to be ignored: %v", err)
	}
	if _, err := list(save(t, imgtest.Ar(imgtest.ArMember{Name: "debian-binary", Body: []byte("2.1\n")}, control, data))); err != nil {
		t.Errorf("a newer minor version: %v", err)
	}
}

// Each byte of a compressed package counts: no flip goes unnoticed, wherever the
// format has a checksum.
func TestUnpackNoticesDamage(t *testing.T) {
	for _, compression := range []string{"xz", "gz", "zst"} {
		d := imgtest.Deb{Name: "tool", Compress: compression, Files: []imgtest.DebFile{{Path: "usr/bin/tool", Body: strings.Repeat("abc", 1000)}}}
		good := d.Bytes(t)
		if _, err := list(save(t, good)); err != nil {
			t.Fatal(err)
		}
		missed := 0
		for i := len(good) - 120; i < len(good)-20; i++ { // within the compressed data
			bad := append([]byte(nil), good...)
			bad[i] ^= 0x10
			got, err := list(save(t, bad))
			want, _ := list(save(t, good))
			if err == nil && cmp.Diff(want, got) != "" {
				t.Errorf("%s: flip at %d changed what was read: %v", compression, i, got)
			}
			if err == nil {
				missed++
			}
		}
		if missed > 5 {
			t.Errorf("%s: %d of 100 flips went unnoticed", compression, missed)
		}
		if _, err := list(save(t, good[:len(good)-30])); err == nil {
			t.Errorf("%s: a cut package was accepted", compression)
		}
	}
}

// B06, for packages: what unpacks to more than is allowed ends early.
func TestUnpackRefusesBombs(t *testing.T) {
	d := imgtest.Deb{Name: "bomb", Compress: "zst", Members: map[string]string{"templates": strings.Repeat("0", 33<<20)}}
	path := save(t, d.Bytes(t))
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Fatalf("the bomb is not small: %v, %v", info, err)
	}
	if _, err := list(path); err == nil || !strings.Contains(err.Error(), "larger than 33554432 bytes when decompressed") {
		t.Errorf("got %v", err)
	}
}

func TestUnpackReturnsTheErrorOfItsFunction(t *testing.T) {
	mine := errors.New("mine")
	calls := 0
	err := deb.Unpack(save(t, imgtest.Deb{Name: "tool"}.Bytes(t)), func(deb.Member) error { calls++; return mine })
	if !errors.Is(err, mine) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	if err := deb.Unpack(filepath.Join(t.TempDir(), "absent"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
}
