package inspect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/strict"
)

func TestSizesHaveUnits(t *testing.T) {
	for text, want := range map[string]Size{
		"1": 1, "90MiB": 90 << 20, "1KiB": 1 << 10, "3GiB": 3 << 30, "007KiB": 7 << 10, "8589934591GiB": 8589934591 << 30,
		"0": 0, "0MiB": 0, "": 0, "MiB": 0, "-1": 0, "+1": 0, "1.5MiB": 0, "90 MiB": 0, "90MB": 0, "90M": 0, "90mib": 0, "1MiBKiB": 0, "1e3": 0,
		"8589934592GiB": 0, "9223372036854775808": 0,
	} {
		var s Size
		err := s.UnmarshalText([]byte(text))
		if (err == nil) != (want != 0) || s != want {
			t.Errorf("%q: got %d, %v, want %d", text, s, err, want)
		}
	}
	for s, want := range map[Size]string{0: "0 B", 1023: "1023 B", 1 << 20: "1 MiB", 137573171: "131.2 MiB", 3 << 29: "1.5 GiB", -2048: "-2 KiB"} {
		if got := s.String(); got != want {
			t.Errorf("%d: got %s, want %s", s, got, want)
		}
	}
}

func TestSizesInFiles(t *testing.T) {
	type config struct {
		strict.Header `yaml:",inline"`
		Gates         Gates `yaml:"gates"`
	}
	for text, want := range map[string]Size{"90MiB": 90 << 20, "94371840": 90 << 20, `"1KiB"`: 1 << 10, "1.5": 0, "[1]": 0, "0": 0, "90MB": 0} {
		var c config
		err := strict.Decode("f", []byte("apiVersion: imgctl.dev/v1\nkind: K\ngates: {maxSize: {compressed: "+text+"}}\n"), "K", &c)
		if (err == nil) != (want != 0) || c.Gates.MaxSize.Compressed != want {
			t.Errorf("%s: got %d, %v, want %d", text, c.Gates.MaxSize.Compressed, err, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("90MiB")
	f.Add("94371841")
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := s.MarshalText()
		if err != nil || again.UnmarshalText(written) != nil || again != s || s <= 0 {
			t.Errorf("%q is %d, written %q, is %d", text, s, written, again)
		}
	})
}

func TestGrownPackages(t *testing.T) {
	all := []Package{{Name: "same", Size: 5, Was: 5}, {Name: "new", Size: 3}, {Name: "less", Size: 1, Was: 9}, {Name: "more", Size: 9, Was: 2}, {Name: "b", Size: 4, Was: 1}}
	got := Grown(all)
	want := []Package{all[3], all[4], all[1]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if all[0].Name != "same" || all[4].Name != "b" {
		t.Error("the list that was given has changed")
	}
}

func TestBudgetNamesWhatGrew(t *testing.T) {
	big := strings.Repeat("x", 3<<20)
	g, want := fine()
	f := read(t, debian(), []item{
		file("usr/local/bin/own", big[:2<<20]), file("usr/bin/ceph", big),
		file("var/lib/dpkg/info/systemd.list", "/.\n/usr/bin/ceph\n"),
	})
	want.Packages = []Package{{Name: "base-files", Version: "13"}, {Name: "base-passwd", Version: "3"}, {Name: "libc-bin", Version: "2.41", Size: 3 << 20},
		{Name: "dash", Version: "0.5", Size: 7, Was: 7}, {Name: "systemd", Version: "257", Size: 28<<20 + 300<<10, Was: 20 << 20}}
	total := f.Uncompressed() // the layers of this test are not compressed
	g.MaxSize = MaxSize{Compressed: total, Uncompressed: total}
	if got := f.Check(g, want); len(got) > 0 {
		t.Errorf("just fits: got %v", texts(got))
	}
	g.MaxSize = MaxSize{Compressed: total - 1024}
	got := texts(f.Check(g, want))
	wanted := "maxSize: compressed size: got 5 MiB, want at most 5 MiB (1 KiB too much); grew: systemd 20 MiB → 28.3 MiB, libc-bin new 3 MiB; " +
		"largest in the image: systemd 3 MiB, /usr/local/bin/own 2 MiB, "
	if len(got) != 1 || !strings.HasPrefix(got[0], wanted) {
		t.Errorf("got %q, want %q…", got, wanted)
	}
	want.Packages = nil
	g.MaxSize = MaxSize{Uncompressed: 1}
	got = texts(f.Check(g, want))
	if len(got) != 1 || !strings.HasPrefix(got[0], "maxSize: uncompressed size: got 5 MiB, want at most 1 B (5 MiB too much); largest") {
		t.Errorf("got %q", got)
	}
}

func TestLongListsAreCut(t *testing.T) {
	for n, want := range map[int]string{1: "a", 6: "a, a, a, a, a, a", 7: "a, a, a, a, a, 2 more"} {
		if got := some(strings.Split(strings.Repeat("a", n), "")); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestGatesOfAVariantAddToThoseOfTheSpec(t *testing.T) {
	spec := Gates{MaxSize: MaxSize{Compressed: 1, Uncompressed: 2}, Setuid: make([]string, 1, 8), Dangling: []string{"/d"}}
	spec.Setuid[0] = "/a"
	variant := Gates{MaxSize: MaxSize{Uncompressed: 5}, Setuid: []string{"/b"}, WorldWritable: []string{"/w"}, Unowned: []string{"/u"},
		MissingLibraries: []string{"/m"}, ForeignELF: []string{"/f"}}
	want := Gates{MaxSize: MaxSize{Compressed: 1, Uncompressed: 5}, Setuid: []string{"/a", "/b"}, WorldWritable: []string{"/w"}, Dangling: []string{"/d"},
		Unowned: []string{"/u"}, MissingLibraries: []string{"/m"}, ForeignELF: []string{"/f"}}
	if diff := cmp.Diff(want, spec.Merge(variant)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	other := spec.Merge(Gates{Setuid: []string{"/c"}})
	if again := spec.Merge(variant); again.Setuid[1] != "/b" || other.Setuid[1] != "/c" || len(spec.Setuid) != 1 {
		t.Errorf("two variants share memory: %v, %v, %v", again.Setuid, other.Setuid, spec.Setuid)
	}
}

func TestGatesAreValidated(t *testing.T) {
	if err := (Gates{Setuid: []string{"/usr/bin/*", "/a?"}}).Validate(); err != nil {
		t.Error(err)
	}
	for _, glob := range []string{"usr/bin/x", "", "/[ab]", `/a\b`, "/a\x00"} {
		for _, l := range (&Gates{}).lists() {
			var g Gates
			for _, of := range g.lists() {
				if of.gate == l.gate {
					*of.globs = []string{"/fine", glob}
				}
			}
			if err := g.Validate(); err == nil || !strings.HasPrefix(err.Error(), string(l.gate)+": glob ") {
				t.Errorf("%s: %q: got %v", l.gate, glob, err)
			}
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, tt := range []struct {
		glob, path string
		want       bool
	}{
		{"/a", "/a", true}, {"/a", "/ab", false}, {"/a", "/A", false}, {"/a*", "/a", true}, {"/a*", "/a/b/c", true}, {"/*/c", "/a/b/c", true},
		{"/a?c", "/abc", true}, {"/a?c", "/ac", false}, {"/a?c", "/a/c", true}, {"*.deb", "/x/y.deb", true}, {"*.deb", "/x/y.deb.x", false},
		{"/a*b*c", "/aXbXbXc", true}, {"/a*b*c", "/aXbXb", false}, {"", "", true},
	} {
		if got := match(tt.glob, tt.path); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.glob, tt.path, got)
		}
	}
}
