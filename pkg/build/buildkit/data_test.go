package buildkit

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// hostile are values that mean something to a shell, to read(1), or to the program
// that gets them as an argument.
var hostile = []string{
	"/tmp/$(touch pwned)", "/tmp/`touch pwned`", `/tmp/";touch pwned;"`, "/tmp/';touch pwned;'", "/tmp/$HOME/${IFS}",
	"/tmp/a b\tc", "/tmp/ leading and trailing ", "/tmp/-rf", "/tmp/*", "/tmp/?[a-z]{a,b}~", "/tmp/%s%n", `/tmp/\n\0`, "/tmp/#x", "/tmp/!x", "/tmp/&|<>", "/tmp/ü\xff\x01",
}

// runSpec runs spec.sh on lists, below a root of its own, as whoever tests.
func runSpec(t *testing.T, cfg rootfs.Config, prepare ...func(root string)) (root string, out string, err error) {
	t.Helper()
	sh, lookErr := exec.LookPath("sh")
	if lookErr != nil {
		t.Skip("no shell: ", lookErr)
	}
	l, listErr := newLists(cfg, &plan{})
	if listErr != nil {
		t.Fatal(listErr)
	}
	data := t.TempDir()
	root = t.TempDir()
	for _, p := range prepare {
		p(root)
	}
	for name, text := range l {
		file := filepath.Join(data, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), sh, "scripts/spec.sh", data, "", root)
	printed, err := cmd.CombinedOutput()
	return root, string(printed), err
}

// owner is the only one to whom every user may give a file.
func owner(t *testing.T, mode string) rootfs.Owner {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Skip("who we are: ", err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		t.Skip("our group: ", err)
	}
	return rootfs.Owner{Mode: mode, User: u.Username, Group: g.Name}
}

func TestScriptTakesEveryValueForWhatItIs(t *testing.T) {
	o := owner(t, "0640")
	var cfg rootfs.Config
	for _, h := range hostile {
		cfg.Directories = append(cfg.Directories, rootfs.Directory{Path: h + ".dir", Owner: owner(t, "0750")})
		cfg.Files = append(cfg.Files,
			rootfs.File{Path: h + ".file", Content: h + "\n" + h, Owner: o},
			rootfs.File{Path: h + ".copy", Copy: h + ".file", Owner: o})
		cfg.Links = append(cfg.Links, rootfs.Link{Path: h + ".link", Target: h})
	}
	root, out, err := runSpec(t, cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, h := range hostile {
		if fi, err := os.Stat(root + h + ".dir"); err != nil || fi.Mode().Perm() != 0o750 || !fi.IsDir() {
			t.Errorf("directory %q: got %v, %v", h, fi, err)
		}
		for _, suffix := range []string{".file", ".copy"} {
			fi, statErr := os.Stat(root + h + suffix)
			if got, err := os.ReadFile(root + h + suffix); err != nil || statErr != nil || string(got) != h+"\n"+h || fi.Mode().Perm() != 0o640 {
				t.Errorf("%s %q: got %q, %v, %v", suffix, h, got, fi, err)
			}
		}
		if got, err := os.Readlink(root + h + ".link"); err != nil || got != h {
			t.Errorf("link %q: got %q, %v", h, got, err)
		}
	}
	all, err := os.ReadDir(root + "/tmp")
	if err != nil || len(all) != 4*len(hostile)-3 { // "$HOME/${IFS}" is a path of two names
		t.Errorf("got %d entries, want %d: nothing else is made", len(all), 4*len(hostile)-3)
	}
	for _, where := range []string{root, ".", root + "/tmp"} {
		if _, err := os.Stat(filepath.Join(where, "pwned")); err == nil {
			t.Errorf("%s: a value was run", where)
		}
	}
}

func TestScriptReplacesWhatAPackageMadeAndSaysSo(t *testing.T) {
	o := owner(t, "0644")
	cfg := rootfs.Config{
		Files: []rootfs.File{{Path: "/etc/networks", Content: "ours\n", Owner: o}, {Path: "/etc/same", Content: "same\n", Owner: o}},
		Links: []rootfs.Link{{Path: "/etc/localtime", Target: "/usr/share/zoneinfo/Etc/UTC"}},
	}
	root, out, err := runSpec(t, cfg, func(root string) {
		for path, text := range map[string]string{"/etc/networks": "theirs\n", "/etc/same": "same\n", "/etc/localtime": "a file"} {
			must(t, os.MkdirAll(root+"/etc", 0o755))
			must(t, os.WriteFile(root+path, []byte(text), 0o600))
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(root + "/etc/networks"); err != nil || string(got) != "ours\n" {
		t.Errorf("got %q, %v; want the spec's file", got, err)
	}
	if got, err := os.Readlink(root + "/etc/localtime"); err != nil || got != "/usr/share/zoneinfo/Etc/UTC" {
		t.Errorf("got %q, %v; want the spec's link", got, err)
	}
	if out != "/etc/networks: replaced what a package made\n" {
		t.Errorf("got %q, want to be told of the one file that differs", out)
	}
}

func TestScriptDoesNotWriteThroughALink(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("untouched"), 0o600))
	root, out, err := runSpec(t, rootfs.Config{Files: []rootfs.File{{Path: "/etc/x", Content: "ours", Owner: owner(t, "0644")}}}, func(root string) {
		must(t, os.Mkdir(root+"/etc", 0o755))
		must(t, os.Symlink(outside, root+"/etc/x"))
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("got %q, want it untouched", got)
	}
	if got, err := os.ReadFile(root + "/etc/x"); err != nil || string(got) != "ours" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestScriptEndsWhereTheSpecCannotBeMade(t *testing.T) {
	for want, cfg := range map[string]rootfs.Config{
		"/etc/x: copy of /etc/none, which is not a file of the image": {Files: []rootfs.File{{Path: "/etc/x", Copy: "/etc/none"}}},
		"/etc/d: there is a directory, want none":                     {Files: []rootfs.File{{Path: "/etc/d", Content: "x"}}},
		"/etc/d: there is a directory, want none:":                    {Links: []rootfs.Link{{Path: "/etc/d", Target: "x"}}},
		"alternatives: awk: /usr/bin/mawk is not in the image":        {Alternatives: []rootfs.Alternative{{Name: "awk", Link: "/usr/bin/awk", Path: "/usr/bin/mawk"}}},
		"no-such-user": {Directories: []rootfs.Directory{{Path: "/x", Owner: rootfs.Owner{User: "no-such-user"}}}},
	} {
		_, out, err := runSpec(t, cfg, func(root string) { must(t, os.MkdirAll(root+"/etc/d", 0o755)) })
		if err == nil || !strings.Contains(out, strings.TrimSuffix(want, ":")) {
			t.Errorf("got %v and %q, want %q", err, out, want)
		}
	}
}

func TestListsHaveOneValueOnEachLine(t *testing.T) {
	for name, cfg := range map[string]rootfs.Config{
		"glob":        {Exclude: []string{"/x\n--force-all"}},
		"keep":        {Keep: []string{"/x\x00"}},
		"directory":   {Directories: []rootfs.Directory{{Path: "/x\n/y"}}},
		"file":        {Files: []rootfs.File{{Path: "/x\n/y"}}},
		"link":        {Links: []rootfs.Link{{Path: "/x", Target: "y\nz"}}},
		"comment":     {Users: []rootfs.User{{Name: "a", Comment: "x\nroot::0:0"}}},
		"colon":       {Users: []rootfs.User{{Name: "a", Comment: "x:/root:/bin/sh"}}},
		"member":      {Groups: []rootfs.Group{{Name: "a", Members: []string{"b:c"}}}},
		"alternative": {Alternatives: []rootfs.Alternative{{Name: "a\nb"}}},
		"slave":       {Alternatives: []rootfs.Alternative{{Name: "a", Slaves: []rootfs.Slave{{Name: "a", Link: "/b\nc"}}}}},
	} {
		if l, err := newLists(cfg, &plan{}); err == nil {
			t.Errorf("%s: got %q, want an error", name, l)
		}
	}
}

func TestListsSayWhatTheSpecSays(t *testing.T) {
	l, err := newLists(rootfs.Config{
		Exclude: []string{"/usr/share/doc/*", "/usr/share/ca-certificates/*", "/usr/lib/python3*/test/*"}, Keep: []string{"/usr/share/doc/*/copyright"},
		Groups: []rootfs.Group{{Name: "g", GID: 5, Members: []string{"u", "v"}}}, Users: []rootfs.User{{Name: "u", UID: 6, GID: 5}},
		Directories:  []rootfs.Directory{{Path: "/d"}},
		Files:        []rootfs.File{{Path: "/c", Copy: "/from"}, {Path: "/f", Content: "text", Owner: rootfs.Owner{Mode: "0600", User: "u", Group: "g"}}},
		Alternatives: []rootfs.Alternative{{Name: "awk", Link: "/usr/bin/awk", Path: "/usr/bin/mawk", Priority: 5, Slaves: []rootfs.Slave{{Name: "nawk", Link: "/usr/bin/nawk", Path: "/usr/bin/mawk"}}}},
	}, &plan{essential: []debian{{name: "dpkg", sha256: "0a"}}, batches: [][]debian{{{name: "aa", sha256: "0b"}}, {{name: "bb", sha256: "0c"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"essential":    "dpkg_0a.deb\n",
		"batch0":       "aa_0b.deb\n",
		"batch1":       "bb_0c.deb\n",
		"options":      "--force-unsafe-io\n--path-exclude=/usr/share/doc/*\n--path-include=/usr/share/doc/*/copyright\n",
		"dpkg.cfg":     "path-exclude /usr/share/doc/*\npath-exclude /usr/share/ca-certificates/*\npath-exclude /usr/lib/python3*/test/*\npath-include /usr/share/doc/*/copyright\n",
		"group":        "g:!:5:u,v\n",
		"passwd":       "u:!:6:5::/nonexistent:/usr/sbin/nologin\n",
		"directories":  "/d\n0755\nroot\nroot\n",
		"files":        "/c\n/from\n0644\nroot\nroot\n/f\ncontent/1\n0600\nu\ng\n",
		"content/1":    "text",
		"links":        "",
		"alternatives": "awk\n/usr/bin/awk\n/usr/bin/mawk\n5\n1\nnawk\n/usr/bin/nawk\n/usr/bin/mawk\n",
	} {
		if l[name] != want {
			t.Errorf("%s: got %q, want %q", name, l[name], want)
		}
	}
	if !strings.HasPrefix(l["sweep"], "find\n/\n-xdev\n") || !strings.Contains(l["sweep"], "\n/usr/lib/python3*/test/*\n") {
		t.Errorf("sweep: got %q, want find with every glob", l["sweep"])
	}
	if strings.Contains(l["unpacked"], "python3*/test") {
		t.Errorf("unpacked: got %q, want documentation alone", l["unpacked"])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
