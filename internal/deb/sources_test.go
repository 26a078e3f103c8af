package deb_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
)

// machine returns a root directory with these files below etc/apt.
func machine(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, body := range files {
		path := filepath.Join(root, "etc/apt", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestConfiguredIsWhatAptUses(t *testing.T) {
	const deb822 = "Types: deb\n# a comment\nURIs: http://mirror.example.org/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no file":                  {nil, ""},
		"deb822":                   {map[string]string{"sources.list.d/debian.sources": deb822}, "http://mirror.example.org/debian"},
		"one line":                 {map[string]string{"sources.list": "deb http://a.example.org/debian/ trixie main\n"}, "http://a.example.org/debian"},
		"with options":             {map[string]string{"sources.list": "deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] https://a.example.org/pub/debian trixie contrib main # x\n"}, "https://a.example.org/pub/debian"},
		"sources.list comes first": {map[string]string{"sources.list": "deb http://a.example.org/debian trixie main\n", "sources.list.d/a.sources": deb822}, "http://a.example.org/debian"},
		"in the order of names":    {map[string]string{"sources.list.d/b.list": "deb http://b.example.org/debian trixie main\n", "sources.list.d/c.sources": deb822}, "http://b.example.org/debian"},
		"security is another":      {map[string]string{"sources.list": "deb http://s.example.org/debian-security trixie-security main\ndeb http://a.example.org/debian trixie main\n"}, "http://a.example.org/debian"},
		"sources only":             {map[string]string{"sources.list": "deb-src http://a.example.org/debian trixie main\n"}, ""},
		"commented out":            {map[string]string{"sources.list": "# deb http://a.example.org/debian trixie main\n"}, ""},
		"without main":             {map[string]string{"sources.list": "deb http://a.example.org/debian trixie contrib\n"}, ""},
		"flat":                     {map[string]string{"sources.list": "deb http://a.example.org/debian ./\n"}, ""},
		"other people's keyring":   {map[string]string{"sources.list": "deb [signed-by=/etc/apt/keyrings/other.gpg] http://a.example.org/debian trixie main\n"}, ""},
		"open option":              {map[string]string{"sources.list": "deb [arch=amd64 http://a.example.org/debian trixie main\n"}, ""},
		"cdrom":                    {map[string]string{"sources.list": "deb cdrom:[Debian]/debian trixie main\n"}, ""},
		"a file":                   {map[string]string{"sources.list": "deb file:/srv/debian trixie main\n"}, ""},
		"a password":               {map[string]string{"sources.list": "deb http://me:secret@a.example.org/debian trixie main\n"}, ""},
		"disabled":                 {map[string]string{"sources.list.d/debian.sources": deb822 + "Enabled: no\n"}, ""},
		"deb822 sources only":      {map[string]string{"sources.list.d/debian.sources": strings.Replace(deb822, "Types: deb", "Types: deb-src", 1)}, ""},
		"several URIs":             {map[string]string{"sources.list.d/debian.sources": strings.Replace(deb822, "URIs: ", "URIs: http://x.example.org/ubuntu ", 1)}, "http://mirror.example.org/debian"},
		"other extension":          {map[string]string{"sources.list.d/debian.sources.save": deb822}, ""},
		"broken, then good":        {map[string]string{"sources.list.d/a.sources": "hello\n", "sources.list.d/b.sources": deb822}, "http://mirror.example.org/debian"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := deb.Configured(machine(t, tt.files))[deb.Main]
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %t, want %q", got, ok, tt.want)
			}
		})
	}
}

func TestBothArchivesAreFound(t *testing.T) {
	const both = "Types: deb\nURIs: http://m.example.org/debian\nSuites: trixie trixie-updates\nComponents: main\n\n" +
		"Types: deb\nURIs: http://m.example.org/debian-security/\nSuites: trixie-security\nComponents: main\n"
	const main, security = "http://m.example.org/debian", "http://m.example.org/debian-security"
	for name, tt := range map[string]struct {
		files map[string]string
		want  map[string]string
	}{
		"both in one file":            {map[string]string{"sources.list.d/debian.sources": both}, map[string]string{"debian": main, "debian-security": security}},
		"each in its own":             {map[string]string{"sources.list": "deb http://a.example.org/debian trixie main\n", "sources.list.d/s.list": "deb http://s.example.org/debian-security trixie-security main\n"}, map[string]string{"debian": "http://a.example.org/debian", "debian-security": "http://s.example.org/debian-security"}},
		"only security":               {map[string]string{"sources.list": "deb http://s.example.org/debian-security trixie-security main\n"}, map[string]string{"debian-security": "http://s.example.org/debian-security"}},
		"the first of each":           {map[string]string{"sources.list": "deb http://s.example.org/debian-security trixie-security main\n", "sources.list.d/debian.sources": both}, map[string]string{"debian": main, "debian-security": "http://s.example.org/debian-security"}},
		"security by another's key":   {map[string]string{"sources.list": "deb [signed-by=/etc/apt/keyrings/other.gpg] http://s.example.org/debian-security trixie-security main\n"}, map[string]string{}},
		"a name that ends like it":    {map[string]string{"sources.list": "deb http://s.example.org/notdebian-security trixie-security main\n"}, map[string]string{}},
		"a path that goes on":         {map[string]string{"sources.list": "deb http://s.example.org/debian-security/updates trixie-security main\n"}, map[string]string{}},
		"another archive of the name": {map[string]string{"sources.list": "deb http://s.example.org/debian-backports trixie-backports main\n"}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, deb.Configured(machine(t, tt.files))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzConfigured(f *testing.F) {
	f.Add("deb [a=b] http://a.example.org/debian trixie main\n", "Types: deb\nURIs: http://a.example.org/debian\nComponents: main\n")
	f.Add("deb [", "URIs: x")
	f.Add("deb http://x/debian\x00 a main", "Types: deb\nURIs: http://a.example.org:99999999/debian-security\nComponents: main\n")
	f.Fuzz(func(t *testing.T, lines, stanzas string) {
		for name, base := range deb.Configured(machine(t, map[string]string{"sources.list": lines, "sources.list.d/x.sources": stanzas})) {
			u, err := url.Parse(base)
			if err != nil || u.Host == "" || u.User != nil || !strings.HasSuffix(u.Path, "/"+name) || name != deb.Main && name != deb.Security {
				t.Errorf("got %s at %q", name, base)
			}
		}
	})
}
