package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestReport(t *testing.T) {
	f := read(t,
		[]item{dir("usr"), program("usr/su", "12345").mode(0o4755).owner(0, 7), hardLink("usr/su2", "usr/su").mode(0o4755).owner(0, 7), file("usr/lib", library("x")), link("l", "usr"),
			file("var/lib/dpkg/status", status("aa 1", "libbb 2")), file("var/lib/dpkg/info/aa.list", "/usr/su\n/usr/su2\n/l\n"),
			file("var/lib/dpkg/info/libbb:amd64.list", "/usr/lib\n")},
		[]item{file("opt/big", strings.Repeat("x", 3000)).attribute(capability, "\x01"), file("l", "")})
	got := f.Report()
	lib := int64(len(library("x")))
	lists := int64(len("/usr/su\n/usr/su2\n/l\n"))
	want := Report{
		Architecture: "amd64", Compressed: int64(f.Compressed()), Uncompressed: int64(f.Uncompressed()), Layers: f.Layers,
		Counts: Counts{Files: 7, HardLinks: 1, Directories: 7, ELF: 1, Packages: 2},
		Packages: []PackageUsage{
			{Name: "", Bytes: 3000 + int64(len(status("aa 1", "libbb 2"))), Files: 2},
			{Name: "libbb", Version: "2", Bytes: lib + 9, Files: 2},
			{Name: "aa", Version: "1", Bytes: 5 + lists, Files: 4},
		},
		Largest: []FileUsage{
			{"/opt/big", 3000, ""}, {"/usr/lib", lib, "libbb"}, {"/var/lib/dpkg/status", int64(len(status("aa 1", "libbb 2"))), ""},
			{"/var/lib/dpkg/info/aa.list", lists, "aa"}, {"/var/lib/dpkg/info/libbb:amd64.list", 9, "libbb"}, {"/usr/su", 5, "aa"}, {"/l", 0, "aa"},
		},
		Privileged: []Privileged{{"/opt/big", "0644", "0:0", "01", ""}, {"/usr/su", "4755", "0:7", "", "aa"}, {"/usr/su2", "4755", "0:7", "", "aa"}},
	}
	slices.SortFunc(want.Largest, func(a, b FileUsage) int { return int(b.Bytes - a.Bytes) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if f.Layers[0].Files != 7 || f.Layers[1].Files != 2 {
		t.Errorf("got %+v", f.Layers)
	}
}

func TestReportHasOneOrder(t *testing.T) {
	var items []item
	for i := range 100 {
		items = append(items, file(fmt.Sprintf("f%02d", i), "same size"))
	}
	first, err := json.Marshal(read(t, items).Report())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		slices.Reverse(items)
		again, err := json.Marshal(read(t, items[:50], items[50:]).Report().Largest)
		if err != nil || !strings.Contains(string(first), string(again)) {
			t.Fatalf("%v: got %s, which is not in %s", err, again, first)
		}
	}
}

// unreadable is an image whose layers cannot be read.
type unreadable struct{ v1.Image }

func (u unreadable) Layers() ([]v1.Layer, error) {
	layers, err := u.Image.Layers()
	for i, l := range layers {
		layers[i] = otherLayer{l, nil, errors.New("the layer was read")}
	}
	return layers, err
}

func TestCacheRemembersLayers(t *testing.T) {
	img := image(t, tarball(t, debian()...), tarball(t, file(".wh.tmp", ""), file("opt/.wh..wh..opq", ""), file("x", "").attribute("user.x", "\xff")))
	cache := &Cache{Dir: filepath.Join(t.TempDir(), "a", "b")}
	first, err := Read(t.Context(), img, cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), unreadable{img}, nil); err == nil {
		t.Fatal("got no error from layers that cannot be read")
	}
	again, err := Read(t.Context(), unreadable{img}, cache)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again, cmp.AllowUnexported(FS{}, Entry{})); diff != "" {
		t.Errorf("made (-), remembered (+):\n%s", diff)
	}
	if diff := cmp.Diff(texts(first.Check(fine())), texts(again.Check(fine()))); diff != "" {
		t.Errorf("made (-), remembered (+):\n%s", diff)
	}
}

func TestDamagedListingIsMadeAgain(t *testing.T) {
	img := image(t, tarball(t, file("a", "1")))
	cache := &Cache{Dir: t.TempDir()}
	if _, err := Read(t.Context(), img, cache); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(cache.Dir + "/*")
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], fmt.Sprintf(".%d.json", listingVersion)) {
		t.Fatalf("got %v, %v", files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"another path": strings.Replace(string(good), "/a", "/b", 1), "another hash": "0" + string(good[1:]),
		"cut": string(good[:len(good)-1]), "empty": "", "no JSON": string(sumLine([]byte("x"))) + "x",
	} {
		if bad == string(good) {
			continue // a hash that starts with 0
		}
		if err := os.WriteFile(files[0], []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(t.Context(), unreadable{img}, cache); err == nil {
			t.Errorf("%s: got no error from a layer that cannot be read", name)
		}
		f, err := Read(t.Context(), img, cache)
		if err != nil || f.paths() != "/a" {
			t.Errorf("%s: got %v", name, err)
		}
		if now, err := os.ReadFile(files[0]); err != nil || string(now) != string(good) {
			t.Errorf("%s: the listing was not made again: %v", name, err)
		}
	}
}

func TestListingsInTheCacheAreBoundedToo(t *testing.T) {
	img := image(t, tarball(t, file("abc", "1"), file("var/lib/dpkg/status", "x")))
	cache := &Cache{Dir: t.TempDir()}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cache.list(t.Context(), layers[0], newBudget()); err != nil {
		t.Fatal(err)
	}
	for name, left := range map[string]*budget{"entries": small(1, 1<<20, 1<<20), "text": small(9, 24, 1<<20), "bytes": small(9, 1<<20, 99)} {
		if _, err := cache.list(t.Context(), layers[0], left); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := cache.list(t.Context(), layers[0], small(2, 25, 1<<20)); err != nil {
		t.Error(err)
	}
}
