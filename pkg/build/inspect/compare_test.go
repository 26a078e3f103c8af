package inspect

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/strict"
)

func sides(t *testing.T, a, b []item) (Side, Side) {
	t.Helper()
	return Side{"layers", read(t, a)}, Side{"buildkit", read(t, b)}
}

func lines(differences []Difference) []string {
	var all []string
	for _, d := range differences {
		all = append(all, d.String())
	}
	return all
}

func TestEveryFieldIsCompared(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b []item
		want []string
	}{
		"nothing":     {nil, nil, nil},
		"equal":       {[]item{file("x", "1").owner(1, 2), link("l", "x"), dir("d")}, []item{file("x", "1").owner(1, 2), link("l", "x"), dir("d")}, nil},
		"order":       {[]item{dir("d"), file("d/x", ""), file("y", "")}, []item{file("y", ""), file("d/x", ""), dir("d")}, nil},
		"time":        {[]item{file("x", "")}, []item{file("x", "").at(built.Add(time.Second))}, nil},
		"link's mode": {[]item{link("l", "x")}, []item{link("l", "x").mode(0o700)}, nil},
		"presence": {[]item{file("x", "1"), dir("d")}, []item{link("y", "x"), dir("e").mode(0o700)}, []string{
			"/d: presence: layers has directory of mode 0755, buildkit has none",
			"/e: presence: layers has none, buildkit has directory of mode 0700",
			"/x: presence: layers has file of mode 0644, 1 bytes sha256:" + sum("1") + ", buildkit has none",
			"/y: presence: layers has none, buildkit has link to x",
		}},
		"type": {[]item{file("x", "1").mode(0o4755)}, []item{link("x", "y")}, []string{
			"/x: type: layers has file of mode 4755, 1 bytes sha256:" + sum("1") + ", buildkit has link to y",
		}},
		"mode":               {[]item{file("x", "").mode(0o4755)}, []item{file("x", "").mode(0o755)}, []string{"/x: mode: layers has 4755, buildkit has 0755"}},
		"directory's mode":   {[]item{dir("x").mode(0o1777)}, []item{dir("x").mode(0o777)}, []string{"/x: mode: layers has 1777, buildkit has 0777"}},
		"implied directory":  {[]item{file("x/y", "")}, []item{dir("x").mode(0o700), file("x/y", "")}, []string{"/x: mode: layers has 0755, buildkit has 0700"}},
		"user":               {[]item{file("x", "").owner(1, 0)}, []item{file("x", "")}, []string{"/x: owner: layers has 1:0, buildkit has 0:0"}},
		"group":              {[]item{link("x", "y").owner(0, 2)}, []item{link("x", "y")}, []string{"/x: owner: layers has 0:2, buildkit has 0:0"}},
		"target":             {[]item{link("x", "/y")}, []item{link("x", "y")}, []string{"/x: target: layers has /y, buildkit has y"}},
		"device":             {[]item{device(tar.TypeChar, "x", 1, 3)}, []item{device(tar.TypeChar, "x", 1, 5)}, []string{"/x: target: layers has 1:3, buildkit has 1:5"}},
		"content":            {[]item{file("x", "1")}, []item{file("x", "2")}, []string{"/x: content: layers has 1 bytes sha256:" + sum("1") + ", buildkit has 1 bytes sha256:" + sum("2")}},
		"capability":         {[]item{file("x", "").attribute(capability, "\x01")}, []item{file("x", "")}, []string{"/x: capability: layers has 01, buildkit has none"}},
		"attribute":          {[]item{file("x", "").attribute("user.x", "\x01")}, []item{file("x", "")}, []string{"/x: attributes: layers has user.x=01, buildkit has none"}},
		"hard link":          {[]item{file("x", ""), hardLink("y", "x")}, []item{file("x", ""), file("y", "")}, []string{"/x: hardLink: layers has /x, buildkit has none", "/y: hardLink: layers has /x, buildkit has none"}},
		"hard link to other": {[]item{file("x", ""), hardLink("y", "x"), file("z", "")}, []item{file("x", ""), file("z", ""), hardLink("y", "z")}, []string{"/x: hardLink: layers has /x, buildkit has none", "/y: hardLink: layers has /x, buildkit has /y", "/z: hardLink: layers has none, buildkit has /y"}},
		"several": {[]item{file("x", "1").mode(0o600).owner(1, 1)}, []item{file("x", "22")}, []string{
			"/x: mode: layers has 0600, buildkit has 0644", "/x: owner: layers has 1:1, buildkit has 0:0",
			"/x: content: layers has 1 bytes sha256:" + sum("1") + ", buildkit has 2 bytes sha256:" + sum("22")}},
	} {
		a, b := sides(t, tt.a, tt.b)
		if diff := cmp.Diff(tt.want, lines(Compare(a, b, nil).Differences)); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

func TestTimesAreComparedOnTheirOwn(t *testing.T) {
	a, b := sides(t, []item{file("x", "1"), file("d/y", ""), file("same", "")}, []item{file("x", "2").at(built.Add(time.Hour)), dir("d"), file("d/z", ""), file("same", "")})
	want := []string{"/x: time: layers has 2026-05-28T20:26:40Z, buildkit has 2026-05-28T21:26:40Z"}
	if diff := cmp.Diff(want, lines(Times(a, b))); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

const allowHead = "apiVersion: imgctl.dev/v1\nkind: ImageComparison\n"

func loadAllow(t *testing.T, text string) (*Allow, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "allow.yaml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return LoadAllow(name)
}

func TestAllowedDifferencesAreSetAside(t *testing.T) {
	allow, err := loadAllow(t, allowHead+`allow:
- {path: "/var/cache/*", only: buildkit, fields: [presence], why: scripts leave it}
- {path: /etc/shadow, fields: [content, mode], why: a date}
- {path: "/e*", fields: [content], why: wide}
- {path: /never, fields: [content], why: no longer so}
- {path: "/etc/never", only: layers, fields: [presence, owner], why: no longer so}
`)
	if err != nil {
		t.Fatal(err)
	}
	a, b := sides(t,
		[]item{file("etc/shadow", "1").owner(0, 42), file("etc/x", "1"), file("var/cache/here", "")},
		[]item{file("etc/shadow", "2").mode(0o600), file("etc/x", "1"), file("var/cache/a", ""), file("var/cache/b/c", "")})
	c := Compare(a, b, allow)
	wantDifferences := []string{
		"/etc/shadow: owner: layers has 0:42, buildkit has 0:0",
		"/var/cache/here: presence: layers has file of mode 0644, 0 bytes sha256:" + sum("") + ", buildkit has none",
	}
	if diff := cmp.Diff(wantDifferences, lines(c.Differences)); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	var allowed []string
	for _, d := range c.Allowed {
		allowed = append(allowed, d.Path+" "+string(d.Field))
	}
	if diff := cmp.Diff([]string{"/etc/shadow mode", "/etc/shadow content", "/var/cache/a presence", "/var/cache/b presence", "/var/cache/b/c presence"}, allowed); diff != "" {
		t.Errorf("allowed: want (-), got (+):\n%s", diff)
	}
	if got := allow.Stale(c); len(got) != 2 || got[0].Path != "/never" || got[1].Path != "/etc/never" {
		t.Errorf("got stale entries %+v, want the last two", got)
	}
	same, other := sides(t, []item{file("never", "1")}, []item{file("never", "2")})
	if got := allow.Stale(c, Compare(same, other, allow)); len(got) != 1 || got[0].Path != "/etc/never" {
		t.Errorf("got stale entries %+v, want the last one: the other comparison needs /never", got)
	}
	if got := (*Allow)(nil).Stale(c); got != nil {
		t.Errorf("no list: got stale entries %+v", got)
	}
}

func TestAllowListIsStrict(t *testing.T) {
	for name, tt := range map[string]struct{ bad, good, want string }{
		"why":          {"{path: /x, fields: [mode]}", "{path: /x, fields: [mode], why: y}", "allow[0]: /x: why: got nothing, want the reason"},
		"fields":       {"{path: /x, why: y}", "{path: /x, fields: [hardLink, attributes], why: y}", "fields: got none, want some of"},
		"field":        {"{path: /x, fields: [modes], why: y}", "{path: /x, fields: [mode], why: y}", `fields: got "modes", want some of`},
		"time":         {"{path: /x, fields: [time], why: y}", "{path: /x, fields: [target], why: y}", `fields: got "time", want some of`},
		"path":         {"{path: x, fields: [mode], why: y}", "{path: /*, fields: [mode], why: y}", "path: glob \"x\": want one that starts with a slash"},
		"glob":         {"{path: '/[x]', fields: [mode], why: y}", "{path: '/?', fields: [mode], why: y}", "brackets and backslashes are not supported"},
		"only":         {"{path: /x, fields: [mode], only: layers, why: y}", "{path: /x, fields: [mode, presence], only: layers, why: y}", `only: "layers" without the field presence`},
		"unknown key":  {"{path: /x, fields: [mode], because: y}", "{path: /x, fields: [mode], why: y}", "because"},
		"not an entry": {"/x", "{path: /x, fields: [mode], why: y}", ""},
	} {
		_, err := loadAllow(t, allowHead+"allow:\n- "+tt.bad+"\n")
		var mistake *strict.Error
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want a mistake in the file: %s", name, err, tt.want)
		}
		if _, err := loadAllow(t, allowHead+"allow:\n- "+tt.good+"\n"); err != nil {
			t.Errorf("%s: the sibling: %v", name, err)
		}
	}
	if _, err := LoadAllow(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
}

func FuzzAllow(f *testing.F) {
	f.Add([]byte(allowHead+"allow:\n- {path: /x*, fields: [mode, presence], only: a, why: y}\n"), "/xy")
	f.Add([]byte(allowHead), "/")
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		a := &Allow{}
		if strict.Decode("allow.yaml", data, AllowKind, a) != nil || a.validate() != nil {
			return
		}
		d := Difference{Path: path, Field: FieldMode, NameA: "a", NameB: "b"}
		used := make([]bool, a.size())
		if a.allows(d, used) != (len(a.Stale(Comparison{used: used})) < a.size()) {
			t.Errorf("%+v: allowed and used disagree", a.Allow)
		}
		for _, w := range a.Allow {
			if w.Why == "" || len(w.Fields) == 0 {
				t.Errorf("got %+v", w)
			}
		}
	})
}
