package inspect

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

var ignoreText = cmpopts.IgnoreUnexported(Entry{})

func TestEveryTypeIsRead(t *testing.T) {
	later := built.Add(time.Hour)
	f := read(t, []item{
		dir("etc"),
		file("etc/a", "hello").mode(0o4755).owner(1, 2).at(later),
		hardLink("etc/b", "etc/a").mode(0o4755).owner(1, 2),
		link("etc/c", "../x"),
		device(tar.TypeBlock, "etc/d", 8, 1),
		entry(tar.TypeFifo, "etc/e", 0o622),
		file("etc/f", "x").attribute("security.capability", "\x01\x02"),
		program("etc/g", "#! /usr/bin/env python3 -x\n"),
		program("etc/h", "#!/bin/sh -e"),
		file("etc/i", "#!/bin/sh\n"), // nobody can run it
	})
	want := []*Entry{
		{Path: "/", Type: Directory, Mode: 0o755, Implied: true},
		{Path: "/etc", Type: Directory, Mode: 0o755, ModTime: built},
		{Path: "/etc/a", Type: File, Mode: 0o4755, UID: 1, GID: 2, ModTime: later, Size: 5, SHA256: sum("hello"), Inode: "/etc/a"},
		{Path: "/etc/b", Type: File, Mode: 0o4755, UID: 1, GID: 2, ModTime: later, Size: 5, SHA256: sum("hello"), Inode: "/etc/a"},
		{Path: "/etc/c", Type: Symlink, Mode: 0o777, ModTime: built, Target: "../x"},
		{Path: "/etc/d", Type: BlockDevice, Mode: 0o600, ModTime: built, Target: "8:1"},
		{Path: "/etc/e", Type: FIFO, Mode: 0o622, ModTime: built},
		{Path: "/etc/f", Type: File, Mode: 0o644, ModTime: built, Size: 1, SHA256: sum("x"), Attributes: map[string]string{"security.capability": "0102"}},
		{Path: "/etc/g", Type: File, Mode: 0o755, ModTime: built, Size: 27, SHA256: sum("#! /usr/bin/env python3 -x\n"), Script: "python3"},
		{Path: "/etc/h", Type: File, Mode: 0o755, ModTime: built, Size: 12, SHA256: sum("#!/bin/sh -e"), Script: "/bin/sh"},
		{Path: "/etc/i", Type: File, Mode: 0o644, ModTime: built, Size: 10, SHA256: sum("#!/bin/sh\n")},
	}
	if diff := cmp.Diff(want, f.Entries(), ignoreText); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if f.Architecture != "amd64" {
		t.Errorf("got architecture %q", f.Architecture)
	}
}

func TestCompressionsAreTheSameToReaders(t *testing.T) {
	plain := tarball(t, file("a", strings.Repeat("content", 1000)), link("b", "a"))
	var gz, zst bytes.Buffer
	z := gzip.NewWriter(&gz)
	z.Write(plain)
	z.Close()
	s, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	s.Write(plain)
	s.Close()
	for name, data := range map[string][]byte{"none": plain, "gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		f, err := Read(t.Context(), image(t, data), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.paths() != "/a /b" || f.Compressed() != Size(len(data)) || f.Uncompressed() != Size(len(plain)) {
			t.Errorf("%s: got %s, %v compressed, %v uncompressed", name, f.paths(), f.Compressed(), f.Uncompressed())
		}
	}
}

func TestLayersAreLaidOverEachOther(t *testing.T) {
	base := []item{dir("etc"), file("etc/a", "1"), file("etc/b", "22"), dir("etc/d"), file("etc/d/x", "333"), link("etc/l", "a")}
	for name, tt := range map[string]struct {
		upper  []item
		want   string
		hidden int64
	}{
		"nothing":              {nil, "/etc /etc/a /etc/b /etc/d /etc/d/x /etc/l", 0},
		"another file":         {[]item{file("etc/c", "")}, "/etc /etc/a /etc/b /etc/c /etc/d /etc/d/x /etc/l", 0},
		"file replaced":        {[]item{file("etc/b", "new")}, "/etc /etc/a /etc/b /etc/d /etc/d/x /etc/l", 2},
		"directory by file":    {[]item{file("etc/d", "")}, "/etc /etc/a /etc/b /etc/d /etc/l", 3},
		"file by directory":    {[]item{dir("etc/a"), file("etc/a/z", "")}, "/etc /etc/a /etc/a/z /etc/b /etc/d /etc/d/x /etc/l", 1},
		"link by directory":    {[]item{dir("etc/l"), file("etc/l/z", "")}, "/etc /etc/a /etc/b /etc/d /etc/d/x /etc/l /etc/l/z", 0},
		"whiteout":             {[]item{file("etc/.wh.a", "")}, "/etc /etc/b /etc/d /etc/d/x /etc/l", 1},
		"whiteout of a tree":   {[]item{file("etc/.wh.d", "")}, "/etc /etc/a /etc/b /etc/l", 3},
		"whiteout of nothing":  {[]item{file("etc/.wh.none", ""), file("none/.wh.x", "")}, "/etc /etc/a /etc/b /etc/d /etc/d/x /etc/l", 0},
		"whiteout at the root": {[]item{file(".wh.etc", "")}, "", 6},
		"own file stays":       {[]item{file("etc/a", "new"), file("etc/.wh.a", "")}, "/etc /etc/a /etc/b /etc/d /etc/d/x /etc/l", 1},
		"opaque":               {[]item{file("etc/.wh..wh..opq", ""), file("etc/new", "")}, "/etc /etc/new", 6},
		"opaque, after":        {[]item{file("etc/new", ""), file("etc/.wh..wh..opq", "")}, "/etc /etc/new", 6},
		"opaque root":          {[]item{file(".wh..wh..opq", ""), file("new", "")}, "/new", 6},
	} {
		f := read(t, base, tt.upper)
		if got := f.paths(); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
		if got := f.Layers[0].Hidden; got != tt.hidden {
			t.Errorf("%s: got %d bytes hidden, want %d", name, got, tt.hidden)
		}
	}
	f := read(t, base, []item{dir("etc").mode(0o700), file("etc/b", "new"), file("sub/x", "")})
	if got := f.Entry("/etc"); got.Mode != 0o700 || got.Layer != 1 {
		t.Errorf("directory that is in both: got mode %o of layer %d, want 700 of 1", got.Mode, got.Layer)
	}
	if got := f.Entry("/etc/b"); got.SHA256 != sum("new") || got.Layer != 1 {
		t.Errorf("file that is in both: got %+v, want that of layer 1", got)
	}
	if got := f.Entry("/sub"); got == nil || !got.Implied || got.Mode != 0o755 || got.Type != Directory {
		t.Errorf("directory that no layer has: got %+v, want an implied one", got)
	}
}

func TestHardLinksAreAGroupOfOneLayer(t *testing.T) {
	f := read(t,
		[]item{file("a", "1"), hardLink("b", "a"), hardLink("c", "a"), file("x", "2"), hardLink("y", "x")},
		[]item{file("a", "new"), file(".wh.y", "")})
	for name, want := range map[string]string{"/a": "", "/b": "/b", "/c": "/b", "/x": ""} {
		if got := f.Entry(name).Inode; got != want {
			t.Errorf("%s: got inode %q, want %q", name, got, want)
		}
	}
}

// TestB05LayerIsRefusedWithItsEntry has for each refusal the nearest thing that is fine.
func TestB05LayerIsRefusedWithItsEntry(t *testing.T) {
	below := []item{link("bin", "usr/bin"), file("plain", "")}
	for name, tt := range map[string]struct {
		bad, good []item
		entry     string
	}{
		"traversal":         {[]item{file("a/../../x", "")}, []item{file("a/..x", "")}, "a/../../x"},
		"traversal back":    {[]item{file("a/../x", "")}, []item{file("a/...", "")}, "a/../x"},
		"absolute":          {[]item{file("/x", "")}, []item{file("./x", "")}, "/x"},
		"given twice":       {[]item{file("x", ""), file("./x", "")}, []item{file("x", ""), file("X", "")}, "./x"},
		"directory twice":   {[]item{dir("x"), dir("x")}, []item{dir("x"), dir("x/x")}, "x/"},
		"hard link out":     {[]item{file("a", ""), hardLink("b", "../a")}, []item{file("a", ""), hardLink("b", "./a")}, "b"},
		"hard link below":   {[]item{hardLink("b", "plain")}, []item{file("plain", ""), hardLink("b", "plain")}, "b"},
		"hard link ahead":   {[]item{hardLink("b", "a"), file("a", "")}, []item{file("a", ""), hardLink("b", "a")}, "b"},
		"hard link to dir":  {[]item{dir("a"), hardLink("b", "a")}, []item{link("a", "x"), hardLink("b", "a")}, "b"},
		"hard link's mode":  {[]item{file("a", ""), hardLink("b", "a").mode(0o4755)}, []item{file("a", "").mode(0o4755), hardLink("b", "a").mode(0o4755)}, "b"},
		"hard link's owner": {[]item{file("a", ""), hardLink("b", "a").owner(1, 0)}, []item{file("a", "").owner(1, 0), hardLink("b", "a").owner(1, 0)}, "b"},
		"hard link's capability": {[]item{file("a", ""), hardLink("b", "a").attribute(capability, "x")},
			[]item{file("a", "").attribute(capability, "x"), hardLink("b", "a").attribute(capability, "x")}, "b"},
		"below a link":           {[]item{link("a", "/etc"), file("a/x", "")}, []item{dir("a"), file("a/x", "")}, "a/x"},
		"below a file":           {[]item{file("a", ""), file("a/b/x", "")}, []item{file("a", ""), file("ab/x", "")}, "a/b/x"},
		"above, a link":          {[]item{file("a/x", ""), link("a", "/etc")}, []item{file("a/x", ""), dir("a")}, "a"},
		"root is a file":         {[]item{file(".", "")}, []item{dir(".")}, "."},
		"below a lower link":     {[]item{file("bin/sh", "")}, []item{dir("bin"), file("bin/sh", "")}, "/bin"},
		"below a lower file":     {[]item{file("plain/x", "")}, []item{file("plain", "")}, "/plain"},
		"whiteout below a link":  {[]item{file("bin/.wh.sh", "")}, []item{file(".wh.bin", "")}, "/bin"},
		"opaque below a link":    {[]item{file("bin/.wh..wh..opq", "")}, []item{file(".wh..wh..opq", "")}, "/bin"},
		"whiteout with content":  {[]item{file(".wh.plain", "x")}, []item{file(".wh.plain", "")}, ".wh.plain"},
		"whiteout directory":     {[]item{dir(".wh.plain")}, []item{file(".wh.plain", "")}, ".wh.plain/"},
		"whiteout link":          {[]item{link(".wh.plain", "x")}, []item{file(".wh.plain", "")}, ".wh.plain"},
		"whiteout without name":  {[]item{file(".wh.", "")}, []item{file(".wh", "")}, ".wh."},
		"whiteout of dot":        {[]item{file("a/.wh..", "")}, []item{file("a/.wh..x", "")}, "a/.wh.."},
		"whiteout of dots":       {[]item{file("a/.wh...", "")}, []item{file("a/.wh...x", "")}, "a/.wh..."},
		"aufs":                   {[]item{file(".wh..wh.plnk", "")}, []item{file(".wh..wh..opq", "")}, ".wh..wh.plnk"},
		"below a whiteout":       {[]item{file(".wh.a/x", "")}, []item{file(".wha/x", "")}, ".wh.a/x"},
		"whiteout for overlayfs": {[]item{device(tar.TypeChar, "x", 0, 0)}, []item{device(tar.TypeChar, "x", 0, 1)}, "x"},
		"opaque for overlayfs":   {[]item{dir("x").attribute("trusted.overlay.opaque", "y")}, []item{dir("x").attribute("trusted.over", "y")}, "x/"},
		"opaque for users":       {[]item{dir("x").attribute("user.overlay.opaque", "y")}, []item{dir("x").attribute("user.over", "y")}, "x/"},
		"global header":          {[]item{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}}}, nil, "g"},
		"link without target":    {[]item{link("a", "")}, []item{link("a", ".")}, "a"},
		"long name":              {[]item{file(strings.Repeat("a/", 2048)+"b", "")}, []item{file(strings.Repeat("a/", 2047)+"b", "")}, strings.Repeat("a/", 2048) + "b"},
		"owner below zero":       {[]item{file("a", "").owner(-1, 0)}, []item{file("a", "").owner(1<<31-1, 0)}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "owner below") { // only GNU's numbers can be negative
				tt.bad[0].Format, tt.good[0].Format = tar.FormatGNU, tar.FormatGNU
			}
			_, err := Read(t.Context(), image(t, tarball(t, below...), tarball(t, tt.bad...)), nil)
			var refused *EntryError
			if !errors.As(err, &refused) || refused.Entry != tt.entry {
				t.Errorf("got %v, want a refusal of entry %.40q", err, tt.entry)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "layer 1: entry ") {
				t.Errorf("got %v, want the layer to be named", err)
			}
			if _, err := Read(t.Context(), image(t, tarball(t, below...), tarball(t, tt.good...)), nil); err != nil {
				t.Errorf("got %v for the sibling that is fine", err)
			}
		})
	}
}

// otherLayer is a layer whose bytes are not those of its digest.
type otherLayer struct {
	v1.Layer
	data []byte
	err  error
}

func (l otherLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), l.err
}

func TestDigestOfEachLayerIsCompared(t *testing.T) {
	data := tarball(t, file("a", "content"))
	real, err := image(t, data).Layers()
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(data, []byte("content"), []byte("contend"), 1)
	for name, other := range map[string][]byte{
		"changed": flipped, "longer": append(bytes.Clone(data), 0), "cut": data[:len(data)-1], "cut in a file": data[:600], "empty": nil,
	} {
		img := imageOf(t, real[0])
		_, err := Read(t.Context(), replaced{img, otherLayer{real[0], other, nil}}, nil)
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := Read(t.Context(), replaced{imageOf(t, real[0]), otherLayer{real[0], data, nil}}, nil); err != nil {
		t.Errorf("the bytes of the digest: %v", err)
	}
}

// replaced is an image with another layer.
type replaced struct {
	v1.Image
	layer v1.Layer
}

func (r replaced) Layers() ([]v1.Layer, error) { return []v1.Layer{r.layer}, nil }

func TestDataAfterTheArchiveIsRefused(t *testing.T) {
	data := tarball(t, file("a", "content"))
	if _, err := Read(t.Context(), image(t, append(bytes.Clone(data), make([]byte, 1<<20)...)), nil); err != nil {
		t.Errorf("zeros: %v", err)
	}
	_, err := Read(t.Context(), image(t, append(bytes.Clone(data), tarball(t, file("b", ""))...)), nil)
	if err == nil || !strings.Contains(err.Error(), "data after the end of the archive") {
		t.Errorf("got %v, want it to be refused", err)
	}
}

func TestCancelledReadEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, image(t, tarball(t, file("a", "content"))), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context canceled", err)
	}
}

func TestErrorOfTheLowestLayerIsReturned(t *testing.T) {
	bad := tarball(t, file("/x", ""))
	for range 10 {
		_, err := Read(t.Context(), image(t, tarball(t), bad, tarball(t, file("/y", "")), bad), nil)
		if err == nil || !strings.HasPrefix(err.Error(), `layer 1: entry "/x": `) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestLookupFollowsLinksAsTheKernelDoes(t *testing.T) {
	f := read(t, []item{
		link("bin", "usr/bin"), dir("usr"), dir("usr/bin"), file("usr/bin/sh", ""),
		link("usr/bin/up", "../../etc/x"), dir("etc"), file("etc/x", ""), link("etc/up", "../usr/bin/.."),
		link("loop1", "loop2"), link("loop2", "loop1"), link("out", "../../etc/x"), link("nowhere", "/etc/none/x"), link("through", "etc/x/y"),
	})
	for name, want := range map[string]string{
		"/": "/", "/bin/sh": "/usr/bin/sh", "/bin/up": "/etc/x", "/etc/up": "/usr", "/etc/up/bin/sh": "/usr/bin/sh",
		"/out": "/etc/x", "/bin/../lib": "/usr/lib: file does not exist", "/nowhere": "/etc/none: file does not exist",
		"/through": "/etc/x: not a directory", "/etc/x/..": "/etc/x: not a directory",
	} {
		e, err := f.Lookup(name)
		var ends *fs.PathError
		switch {
		case errors.As(err, &ends):
			if got := ends.Path + ": " + ends.Err.Error(); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		case err != nil || e.Path != want:
			t.Errorf("%s: got %v, %v, want %s", name, e, err, want)
		}
	}
	if _, err := f.Lookup("/loop1"); !errors.Is(err, errManyLinks) {
		t.Errorf("loop: got %v", err)
	}
}
