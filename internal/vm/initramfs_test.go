package vm

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestInitramfsHoldsWhatTheRootFileSystemHolds(t *testing.T) {
	at := time.Unix(1700000000, 0)
	rootfs := tarOf(t,
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o755}, ""},
		tarEntry{tar.Header{Name: "usr/tool", Mode: 0o4755, Uid: 1, Gid: 2, ModTime: at}, "program"},
		tarEntry{tar.Header{Typeflag: tar.TypeLink, Name: "usr/other", Linkname: "./usr/tool", Mode: 0o600}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "usr"}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeBlock, Name: "dev/vda", Mode: 0o660, Devmajor: 254}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeFifo, Name: "run/pipe", Mode: 0o600}, ""},
		tarEntry{tar.Header{Name: "empty", Mode: 0o644}, ""},
	)
	var b bytes.Buffer
	if err := Initramfs(&b, rootfs, File{Path: "init", Mode: 0o755, Data: []byte("#!/bin/sh\n")}); err != nil {
		t.Fatal(err)
	}
	got := read(t, b.Bytes())
	want := map[string]string{
		".":         "40755 0:0 0,0 0 ",
		"usr":       "40755 0:0 0,0 0 ",
		"usr/tool":  "104755 1:2 0,0 1700000000 program",
		"usr/other": "104755 1:2 0,0 1700000000 ", // the kernel links it: the same inode, no bytes
		"bin":       "120777 0:0 0,0 0 usr",
		"dev":       "40755 0:0 0,0 0 ",
		"dev/null":  "20666 0:0 1,3 0 ",
		"dev/vda":   "60660 0:0 254,0 0 ",
		"run":       "40755 0:0 0,0 0 ",
		"run/pipe":  "10600 0:0 0,0 0 ",
		"empty":     "100644 0:0 0,0 0 ",
		"init":      "100755 0:0 0,0 0 #!/bin/sh\n",
	}
	for name, w := range want {
		if got[name].text != w {
			t.Errorf("%s: got %q, want %q", name, got[name].text, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d entries, want %d: %v", len(got), len(want), got)
	}
	if got["usr/tool"].inode != got["usr/other"].inode || got["usr/tool"].inode == got["empty"].inode {
		t.Errorf("inodes: got %v, want the hard link to share one, and nobody else", got)
	}
}

func TestInitramfsRefusesWhatTheKernelWouldMisread(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"path above the root":   {Name: "../etc/passwd"},
		"hard link to nothing":  {Typeflag: tar.TypeLink, Name: "a", Linkname: "b"},
		"path that is too long": {Name: strings.Repeat("d/", maxName/2) + "f"},
		"entry of another type": {Typeflag: 'Z', Name: "a"},
	} {
		if err := Initramfs(io.Discard, tarOf(t, tarEntry{h, ""})); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := Initramfs(io.Discard, tarOf(t, tarEntry{tar.Header{Name: "etc/passwd"}, ""})); err != nil {
		t.Errorf("a plain file: got %v", err)
	}
}

func TestInitramfsReportsBrokenStreams(t *testing.T) {
	cause := errors.New("cause")
	if err := Initramfs(io.Discard, iotest.ErrReader(cause)); !errors.Is(err, cause) {
		t.Errorf("reader: got %v, want the cause", err)
	}
	whole, err := io.ReadAll(tarOf(t, tarEntry{tar.Header{Name: "f"}, strings.Repeat("x", 2000)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := Initramfs(io.Discard, bytes.NewReader(whole[:1500])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: got %v, want unexpected EOF", err)
	}
	if err := Initramfs(fullDisk{cause}, bytes.NewReader(whole)); !errors.Is(err, cause) {
		t.Errorf("writer: got %v, want the cause", err)
	}
}

func FuzzInitramfsIsAlwaysReadable(f *testing.F) {
	f.Add("usr/bin/tool", "body", uint8(tar.TypeReg))
	f.Add("///b/./c", "y", uint8('h')) // found by fuzzing: one slash was stripped
	f.Add("/../x", "", uint8(tar.TypeSymlink))
	f.Add("a//b/./c", "x", uint8(tar.TypeDir))
	f.Fuzz(func(t *testing.T, name, body string, kind uint8) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h := &tar.Header{Typeflag: kind, Name: name, Linkname: "t", Size: int64(len(body)), Mode: 0o644}
		if w.WriteHeader(h) != nil {
			return // no tar has such an entry
		}
		w.Write([]byte(body))
		w.Close()
		var out bytes.Buffer
		if err := Initramfs(&out, &b); err == nil {
			for name := range read(t, out.Bytes()) {
				if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") && (len(name) == 2 || name[2] == '/') {
					t.Errorf("entry %q leaves the root", name)
				}
			}
		}
	})
}

type cpioEntry struct {
	text  string // type and mode, owner, device, time, body
	inode int
}

// read decodes a cpio archive by the kernel's description of it.
func read(t *testing.T, data []byte) map[string]cpioEntry {
	t.Helper()
	got := map[string]cpioEntry{}
	for at := 0; ; {
		var f [13]int
		if len(data) < at+110 || string(data[at:at+6]) != "070701" {
			t.Fatalf("at %d: no header", at)
		}
		for i := range f {
			if _, err := fmt.Sscanf(string(data[at+6+8*i:at+14+8*i]), "%x", &f[i]); err != nil {
				t.Fatal(err)
			}
		}
		name := string(data[at+110 : at+110+f[11]-1])
		at += (110 + f[11] + 3) / 4 * 4
		body := string(data[at : at+f[6]])
		at += (f[6] + 3) / 4 * 4
		if name == "TRAILER!!!" {
			if at != len(data) {
				t.Fatalf("%d bytes after the trailer", len(data)-at)
			}
			return got
		}
		got[name] = cpioEntry{fmt.Sprintf("%o %d:%d %d,%d %d %s", f[1], f[2], f[3], f[9], f[10], f[5], body), f[0]}
	}
}

type tarEntry struct {
	header tar.Header
	body   string
}

func tarOf(t *testing.T, entries ...tarEntry) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.Size = int64(len(e.body))
		if err := w.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

type fullDisk struct{ error }

func (d fullDisk) Write([]byte) (int, error) { return 0, d.error }
