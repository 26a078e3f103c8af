package strict_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

type spec struct {
	strict.Header `yaml:",inline"`
	Name          string   `yaml:"name"`
	Size          int      `yaml:"size"`
	Parts         []string `yaml:"parts"`
}

const header = "apiVersion: imgctl.dev/v1\nkind: Thing\n"

func TestDecodeReadsWhatWasWritten(t *testing.T) {
	for name, doc := range map[string]string{
		"yaml":               header + "name: yes\nsize: 3\nparts: [a, b]\n",
		"comment and marker": "# first\n---\n" + header + "name: \"yes\"\nsize: 3\nparts:\n- a\n- b\n",
		"byte order mark":    "\xef\xbb\xbf" + header + "name: \"yes\"\nsize: 3\nparts: [a, b]\n",
		"json":               `{"apiVersion":"imgctl.dev/v1","kind":"Thing","name":"yes","size":3,"parts":["a","b"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			var s spec
			if err := strict.Decode("thing.yaml", []byte(doc), "Thing", &s); err != nil {
				t.Fatal(err)
			}
			if s.Name != "yes" || s.Size != 3 || len(s.Parts) != 2 || s.Kind != "Thing" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// C02: a typo is an error with its place, never a default.
func TestDecodeRefusesWhatCouldBeMisread(t *testing.T) {
	for name, tt := range map[string]struct{ doc, want string }{
		"unknown key":     {header + "nmae: x\n", `thing.yaml:3:1: unknown field "nmae"`},
		"duplicate key":   {header + "name: x\nname: y\n", `thing.yaml:4:1: mapping key "name" already defined`},
		"second document": {header + "name: x\n---\n" + header, `thing.yaml:5:11: a second document`},
		"other kind":      {"apiVersion: imgctl.dev/v1\nkind: Image\n", `thing.yaml:2:7: kind: got "Image", want "Thing"`},
		"other version":   {"apiVersion: imgctl.dev/v2\nkind: Thing\n", `thing.yaml:1:13: apiVersion: got "imgctl.dev/v2"`},
		"no version":      {"kind: Thing\n", `thing.yaml:1:1: apiVersion: got "", want "imgctl.dev/v1"`},
		"wrong type":      {header + "size: many\n", `thing.yaml:3:7: `},
		"not yaml":        {header + "name: [\n", `thing.yaml:3:`},
		"empty":           {"", `thing.yaml: empty`},
		"null":            {"null\n", `thing.yaml: empty`},
		"parser panics":   {header + "parts: !0\n0", `thing.yaml: `},
		"a list":          {"- a\n", `thing.yaml:1:`},
	} {
		t.Run(name, func(t *testing.T) {
			err := strict.Decode("thing.yaml", []byte(tt.doc), "Thing", &spec{})
			var se *strict.Error
			if !errors.As(err, &se) {
				t.Fatalf("got %v, want a *strict.Error", err)
			}
			if !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line that starts with %q", err, tt.want)
			}
		})
	}
}

func TestDecodeFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(path, []byte(header+"# "+strings.Repeat("x", strict.MaxSize)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := strict.DecodeFile(path, "Thing", &spec{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v, want it refused for its size", err)
	}
	if err := strict.DecodeFile(path+".absent", "Thing", &spec{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(header + "name: x\n"))
	f.Add([]byte(header + "a: &a [*a]\n"))
	f.Add([]byte(header + "parts: !0\n0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s spec
		if err := strict.Decode("f", data, "Thing", &s); err == nil && s.Kind != "Thing" {
			t.Errorf("accepted kind %q", s.Kind)
		}
	})
}

// A value that decodes and still cannot be used is blamed where it stands.
func TestAtNamesThePlaceOfAValue(t *testing.T) {
	doc := []byte("\xef\xbb\xbf" + header + "name: x\nouter:\n  inner: 3\n  list:\n  - a\n  - bc\n")
	for value, want := range map[string]string{
		"name":          "f.yaml:3:7: name: m",
		"outer.inner":   "f.yaml:5:10: outer.inner: m",
		"outer.list[1]": "f.yaml:8:5: outer.list[1]: m",
		"outer.list[7]": "f.yaml:7:3: outer.list[7]: m",
		"name.inner":    "f.yaml:3:7: name.inner: m",
		"absent":        "f.yaml: absent: m",
	} {
		if got := strict.At("f.yaml", doc, value, "m").Error(); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
	if got := strict.At("f.yaml", []byte("a: [\n"), "a", "m").Error(); got != "f.yaml: a: m" {
		t.Errorf("a document that does not parse: got %q", got)
	}
}
