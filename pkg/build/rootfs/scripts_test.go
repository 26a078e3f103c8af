package rootfs

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
)

// scripted is a package with a postinst.
func scripted(postinst string, files ...imgtest.DebFile) imgtest.Deb {
	return imgtest.Deb{Name: "scripted", Members: map[string]string{"postinst": "#!/bin/sh\nset -e\n" + postinst}, Files: files}
}

func link(t *testing.T, tree *Tree, path string) string {
	t.Helper()
	e := tree.entries[path]
	if e == nil || e.Type != tar.TypeSymlink {
		return ""
	}
	return e.Target
}

func TestDocumentsOfScriptsAreWritten(t *testing.T) {
	tree := assemble(t, Config{}, system(scripted(`
mkdir -p /etc/made
cat > /etc/plain <<EOF
plain
EOF
cat > "$DPKG_ROOT/etc/made/x" <<-EOF
	made
	EOF
[ -e /etc/issue ] || cat > /etc/issue <<EOF
other
EOF
cat > /etc/absent/x <<EOF
no directory
EOF
cat > /etc/hosts <<EOF
127.0.0.1 localhost
EOF
cat > /etc/../outside <<EOF
x
EOF
cat > relative <<EOF
x
EOF
`))...)
	for path, want := range map[string]string{"/etc/plain": "plain\n", "/etc/made/x": "made\n", "/etc/issue": "Debian\n"} {
		if got := text(t, tree, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"/etc/absent", "/etc/hosts", "/outside", "/relative"} {
		if tree.has(path) {
			t.Errorf("%s is there", path)
		}
	}
}

func TestConfigurationIsCopiedByUCF(t *testing.T) {
	tree := assemble(t, Config{}, system(scripted(`
ucf --three-way /usr/share/scripted/a.conf /etc/a.conf
ucf --debconf-ok /usr/share/scripted/a.conf "$conf"
ucf /usr/share/scripted/a.conf /etc/issue
ucf /usr/share/scripted/none.conf /etc/none.conf
ucf --help
`, imgtest.DebFile{Path: "usr/share/scripted/a.conf", Body: "a", Mode: 0o640}))...)
	if got := text(t, tree, "/etc/a.conf"); got != "a" || tree.entries["etc/a.conf"].Mode != 0o640 {
		t.Errorf("got %q with mode %o", got, tree.entries["etc/a.conf"].Mode)
	}
	if got := text(t, tree, "/etc/issue"); got != "Debian\n" || tree.has("/etc/none.conf") {
		t.Errorf("got issue %q", got)
	}
}

// An account that a script makes takes the next free number, which is another
// one in the next image.
func TestAccountsOfScriptsNeedANumber(t *testing.T) {
	sysusers := imgtest.DebFile{Path: "usr/lib/sysusers.d/x.conf", Body: "# type name\ng xgroup -\nu! xuser - \"X\"\nm xuser xgroup\nr - 500-900\n"}
	both := Config{Groups: []Group{{Name: "xgroup", GID: 900}}, Users: []User{{Name: "xuser", UID: 901, GID: 900}}}
	for name, tt := range map[string]struct {
		postinst string
		cfg      Config
		want     string
	}{
		"sysusers":              {"systemd-sysusers ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} x.conf", both, ""},
		"sysusers, no group":    {"systemd-sysusers x.conf", Config{}, `package scripted: scripts: /usr/lib/sysusers.d/x.conf: wants an account "xgroup" that is not in groups: give it a number there`},
		"sysusers, no user":     {"systemd-sysusers x.conf", Config{Groups: both.Groups}, `"xuser" that is not in users`},
		"sysusers of nothing":   {"systemd-sysusers none.conf", Config{}, ""},
		"adduser":               {"adduser --system --home /x --no-create-home xuser", both, ""},
		"adduser, no user":      {"adduser --system --home /x --no-create-home xuser", Config{}, `wants an account "xuser"`},
		"addgroup":              {"addgroup --system xgroup", both, ""},
		"addgroup, no group":    {"addgroup --system xgroup", Config{}, `wants an account "xgroup"`},
		"adduser, of Debian's":  {"adduser --quiet nobody", Config{}, ""},
		"adduser in the dark":   {"adduser --system $USER; adduser --home /x; adduser", Config{}, ""},
		"no command of a shell": {"echo adduser xuser", Config{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := try(t, tt.cfg, system(scripted(tt.postinst, sysusers))...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAlternativesOfScriptsAreLinked(t *testing.T) {
	const postinst = `
update-alternatives --quiet --install /usr/bin/pager pager /usr/bin/more 50 \
	--slave /usr/share/man/man1/pager.1.gz pager.1.gz /usr/share/man/man1/more.1.gz
update-alternatives --install /usr/bin/editor editor /usr/bin/absent 50
update-alternatives --install /usr/bin/x x /usr/bin/more high
update-alternatives --install "$a" b c 1
update-alternatives --remove pager /usr/bin/more
`
	more := imgtest.DebFile{Path: "usr/bin/more", Body: "more", Mode: 0o755}
	less := Alternative{Name: "pager", Link: "/usr/bin/pager", Path: "/usr/bin/less", Priority: 60}
	tree := assemble(t, Config{}, system(scripted(postinst, more))...)
	if got := link(t, tree, "etc/alternatives/pager"); got != "/usr/bin/more" || link(t, tree, "usr/bin/pager") != "/etc/alternatives/pager" {
		t.Errorf("got %q", got)
	}
	if tree.has("/usr/share/man/man1/pager.1.gz") || tree.has("/etc/alternatives/editor") || tree.has("/etc/alternatives/x") {
		t.Error("an alternative to nothing was made")
	}
	// As update-alternatives of Debian 13 writes it.
	const want = "auto\n/usr/bin/pager\npager.1.gz\n/usr/share/man/man1/pager.1.gz\n\n/usr/bin/more\n50\n/usr/share/man/man1/more.1.gz\n\n"
	if got := text(t, tree, "/var/lib/dpkg/alternatives/pager"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	tree = assemble(t, Config{Files: []File{{Path: "/usr/bin/less"}}, Alternatives: []Alternative{less}}, system(scripted(postinst, more))...)
	if got := link(t, tree, "etc/alternatives/pager"); got != "/usr/bin/less" {
		t.Errorf("got %q, want the Config's own with the higher priority", got)
	}
	lower := Alternative{Name: "pager", Link: "/usr/bin/pager", Path: "/usr/bin/more", Priority: 5}
	tree = assemble(t, Config{Alternatives: []Alternative{lower}}, system(scripted(postinst, more))...)
	if got := text(t, tree, "/var/lib/dpkg/alternatives/pager"); got != "auto\n/usr/bin/pager\n\n/usr/bin/more\n5\n\n" {
		t.Errorf("got %q, want the Config's own in the place of the script's", got)
	}
}

func TestOwnersAndModesOfScriptsAreSet(t *testing.T) {
	file := func(name string) imgtest.DebFile { return imgtest.DebFile{Path: name, Body: "x", Mode: 0o755} }
	tree := assemble(t, Config{Groups: []Group{{Name: "g", GID: 900}}, Users: []User{{Name: "u", UID: 901, GID: 900}}}, system(scripted(`
chown u /usr/a
chown u: /usr/b /usr/c
chown u:shadow /usr/d
chgrp g /usr/e
chmod 2755 /usr/e
chown :g /usr/f
chmod 4711 /usr/g
chgrp g "$DPKG_ROOT/usr/g"
chmod +x /usr/h; chmod 77777 /usr/h; chown -R u /usr/h; chown nobodyknows /usr/h; chown u:who /usr/h; chmod 600; chmod 600 /usr/none
chmod 600 /usr/i
dpkg-statoverride --update --add root g 02750 /usr/j
dpkg-statoverride --list /usr/h
dpkg-statoverride --update --add root who 0600 /usr/h
dpkg-statoverride --update --add root g 0600 /usr/none
`, file("usr/a"), file("usr/b"), file("usr/c"), file("usr/d"), file("usr/e"), file("usr/f"), file("usr/g"), file("usr/h"),
		imgtest.DebFile{Path: "usr/i", Symlink: "h"}, file("usr/j")))...)
	for path, want := range map[string]Entry{
		"a": {Mode: 0o755, UID: 901}, "b": {Mode: 0o755, UID: 901, GID: 900}, "c": {Mode: 0o755, UID: 901, GID: 900},
		"d": {Mode: 0o755, UID: 901, GID: 42}, "e": {Mode: 0o2755, GID: 900}, "f": {Mode: 0o755, GID: 900}, "g": {Mode: 0o711, GID: 900},
		"h": {Mode: 0o755}, "i": {Mode: 0o777}, "j": {Mode: 0o2750, GID: 900},
	} {
		if e := tree.entries["usr/"+path]; e.Mode != want.Mode || e.UID != want.UID || e.GID != want.GID {
			t.Errorf("%s: got %o %d:%d, want %o %d:%d", path, e.Mode, e.UID, e.GID, want.Mode, want.UID, want.GID)
		}
	}
	if got := text(t, tree, "/var/lib/dpkg/statoverride"); got != "root g 2750 /usr/j\n" {
		t.Errorf("got %q", got)
	}
}

func units(more ...imgtest.DebFile) []imgtest.DebFile {
	unit := func(name, install string) imgtest.DebFile {
		return imgtest.DebFile{Path: "usr/lib/systemd/system/" + name, Body: "[Unit]\nWantedBy=nobody.target\n\n[Install]\n" + install}
	}
	return append([]imgtest.DebFile{
		unit("a.service", "# WantedBy=comment.target\nWantedBy=multi-user.target \"graphical.target\"\nAlso=a.socket\nAlias=b.service\n"),
		unit("a.socket", "RequiredBy=sockets.target\nAlso=a.service\n"),
		unit("off.service", "WantedBy=multi-user.target\n"),
		unit("preset.service", "WantedBy=multi-user.target\n"),
		unit("tty@.service", "WantedBy=getty.target %i.target\nDefaultInstance=tty1\n"),
		{Path: "usr/lib/systemd/system-preset/90-x.preset", Body: "# x\nenable pre*\ndisable *.service extra\n"},
		{Path: "usr/lib/systemd/system-preset/80-x.preset", Body: "disable preset.*\nenable a.*\n"},
		{Path: "usr/bin/deb-systemd-helper", Body: "perl", Mode: 0o755},
	}, more...)
}

const enabling = `
deb-systemd-helper unmask 'a.service' >/dev/null || true
if deb-systemd-helper --quiet was-enabled 'a.service'; then
	deb-systemd-helper enable 'a.service' >/dev/null || true
else
	deb-systemd-helper update-state 'a.service' >/dev/null || true
fi
if deb-systemd-helper debian-installed 'off.service'; then
	deb-systemd-helper enable 'off.service' >/dev/null || true
fi
deb-systemd-helper update-state 'off.service' >/dev/null || true
deb-systemd-helper enable 'preset.service' >/dev/null || true
deb-systemd-helper enable 'absent.service' >/dev/null || true
systemctl ${DPKG_ROOT:+--root="$DPKG_ROOT"} enable tty@tty7.service || true
`

func TestUnitsAreEnabled(t *testing.T) {
	systemctl := imgtest.DebFile{Path: "usr/bin/systemctl", Body: "ELF", Mode: 0o755}
	tree := assemble(t, Config{}, system(scripted(enabling, units(systemctl)...))...)
	const etc, state, lib = "etc/systemd/system/", "var/lib/systemd/deb-systemd-helper-enabled/", "/usr/lib/systemd/system/"
	want := map[string]string{
		etc + "multi-user.target.wants/a.service": lib + "a.service", etc + "graphical.target.wants/a.service": lib + "a.service",
		etc + "b.service": lib + "a.service", etc + "sockets.target.requires/a.socket": lib + "a.socket",
		etc + "getty.target.wants/tty@tty7.service": lib + "tty@.service",
	}
	for path, e := range tree.entries {
		if strings.HasPrefix(path, etc) && e.Type == tar.TypeSymlink && want[path] != e.Target {
			t.Errorf("/%s points to %s, want %q", path, e.Target, want[path])
		}
	}
	for path := range want {
		if link(t, tree, path) == "" {
			t.Errorf("/%s is not there", path)
		}
	}
	// As deb-systemd-helper of Debian 13 writes them: first the units of Also, then Alias, then the rest.
	for path, want := range map[string]string{
		"a.service.dsh-also":               "/etc/systemd/system/sockets.target.requires/a.socket\n/etc/systemd/system/b.service\n/etc/systemd/system/multi-user.target.wants/a.service\n/etc/systemd/system/graphical.target.wants/a.service\n",
		"off.service.dsh-also":             "/etc/systemd/system/multi-user.target.wants/off.service\n",
		"preset.service.dsh-also":          "/etc/systemd/system/multi-user.target.wants/preset.service\n",
		"graphical.target.wants/a.service": "", "multi-user.target.wants/preset.service": "",
	} {
		if got := text(t, tree, state+path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"multi-user.target.wants/off.service", "absent.service.dsh-also", "tty@tty7.service.dsh-also"} {
		if tree.has(state + path) {
			t.Errorf("/%s is there", state+path)
		}
	}
}

func TestUnitsWithoutSystemdAreLinkedByTheHelper(t *testing.T) {
	tree := assemble(t, Config{}, system(scripted(enabling, units()...))...)
	const etc = "etc/systemd/system/"
	for path, want := range map[string]string{
		etc + "multi-user.target.wants/a.service":      "/lib/systemd/system/a.service",
		etc + "multi-user.target.wants/preset.service": "/lib/systemd/system/preset.service", // nobody reads presets
		etc + "multi-user.target.wants/off.service":    "",
		etc + "getty.target.wants/tty@tty7.service":    "", // nobody is asked
	} {
		if got := link(t, tree, path); got != want {
			t.Errorf("/%s: got %q, want %q", path, got, want)
		}
	}
	files := units()
	bare := assemble(t, Config{}, system(scripted(enabling, files[:len(files)-1]...))...)
	if bare.has("/etc/systemd") || bare.has("/var/lib/systemd") {
		t.Error("units are enabled without a program that does it")
	}
}

func TestUnitsOfUsers(t *testing.T) {
	tree := assemble(t, Config{}, system(scripted("deb-systemd-helper --user enable 'u.socket' || true", append(units(),
		imgtest.DebFile{Path: "usr/lib/systemd/user/u.socket", Body: "[Install]\nWantedBy=sockets.target\n"})...))...)
	if got := link(t, tree, "etc/systemd/user/sockets.target.wants/u.socket"); got != "/lib/systemd/user/u.socket" {
		t.Errorf("got %q", got)
	}
	if !tree.has("/var/lib/systemd/deb-systemd-user-helper-enabled/sockets.target.wants/u.socket") {
		t.Error("the link is not noted")
	}
}

func TestUnitsThatWantEachOther(t *testing.T) {
	files := append(units(), imgtest.DebFile{Path: "usr/lib/systemd/system/self.service", Body: "[Install]\nAlso=self.service ring.service\nWantedBy=a.target\n"},
		imgtest.DebFile{Path: "usr/lib/systemd/system/ring.service", Body: "[Install]\nAlso=self.service\nWantedBy=b.target\n"})
	tree := assemble(t, Config{}, system(scripted("deb-systemd-helper enable self.service", files...))...)
	if link(t, tree, "etc/systemd/system/a.target.wants/self.service") == "" || link(t, tree, "etc/systemd/system/b.target.wants/ring.service") == "" {
		t.Error("want both to be enabled")
	}
}

const temporaryConf = `# comment
d  /var/lib/made/deep 0750 who where 10d
d  /root :0755 - :where -
d  /tmp - - -
D! /var/lib/boot 0755
d  /var/lib/%m 0755
d  /run/x 0755
d- /var/lib/colon :0700 :who - -
f  /var/lib/made/file 0600 who - - some  words
f^ /var/lib/made/secret - - - - login.motd
L  /var/lib/made/link - - - - ../there
L  /etc/issue - - - - nowhere
L+ /etc/replaced - - - - new
L? /var/lib/made/maybe - - - - absent
L  /var/lib/made/empty
L+ /usr/bin - - - - /elsewhere
z  /etc/zed 0640 - where
z  /etc/none 0640
e  /var/lib/never 0700
r! /etc/issue
q  relative 0755
`

func TestTemporaryFilesAreCreated(t *testing.T) {
	files := []imgtest.DebFile{
		{Path: "usr/lib/tmpfiles.d/x.conf", Body: temporaryConf}, {Path: "usr/bin/systemd-tmpfiles", Body: "ELF", Mode: 0o755},
		{Path: "etc/replaced", Symlink: "old"}, {Path: "etc/zed", Body: "z"},
	}
	cfg := Config{Groups: []Group{{Name: "where", GID: 901}}, Users: []User{{Name: "who", UID: 900, GID: 901}}}
	const create = "systemd-tmpfiles ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} --create x.conf none.conf || true\n"
	tree := assemble(t, cfg, system(scripted(create, files...))...)
	for path, want := range map[string]Entry{
		"var/lib/made":      {Type: tar.TypeDir, Mode: 0o755},
		"var/lib/made/deep": {Type: tar.TypeDir, Mode: 0o750, UID: 900, GID: 901},
		"root":              {Type: tar.TypeDir, Mode: 0o700}, // was there
		"tmp":               {Type: tar.TypeDir, Mode: 0o1777},
		"var/lib/colon":     {Type: tar.TypeDir, Mode: 0o700, UID: 900},
		"var/lib/made/file": {Type: tar.TypeReg, Mode: 0o600, UID: 900},
		"var/lib/made/link": {Type: tar.TypeSymlink, Mode: 0o777, Target: "../there"},
		"etc/issue":         {Type: tar.TypeReg, Mode: 0o644},
		"etc/replaced":      {Type: tar.TypeSymlink, Mode: 0o777, Target: "new"},
		"etc/zed":           {Type: tar.TypeReg, Mode: 0o640, GID: 901},
		"usr/bin":           {Type: tar.TypeDir, Mode: 0o755},
	} {
		e := tree.entries[path]
		if e == nil || e.Type != want.Type || e.Mode != want.Mode || e.UID != want.UID || e.GID != want.GID || e.Target != want.Target {
			t.Errorf("/%s: got %+v, want %+v", path, e, want)
		}
	}
	if got := text(t, tree, "/var/lib/made/file"); got != "some words" {
		t.Errorf("got %q", got)
	}
	for _, path := range []string{"/var/lib/boot", "/var/lib/%m", "/run/x", "/var/lib/made/secret", "/var/lib/made/maybe",
		"/var/lib/made/empty", "/etc/none", "/var/lib/never", "/relative"} {
		if tree.entries[path[1:]] != nil {
			t.Errorf("%s is there", path)
		}
	}
	without := assemble(t, cfg, system(scripted(create, slices.Delete(files, 1, 2)...))...)
	if without.has("/var/lib/made") {
		t.Error("files are created without systemd-tmpfiles")
	}
}

// B05: a script is read, never run, but what it says is a package's word like any other.
func TestHostileScriptsAreRefusedOrMeanNothing(t *testing.T) {
	conf := func(text string) imgtest.DebFile {
		return imgtest.DebFile{Path: "usr/lib/tmpfiles.d/x.conf", Body: text}
	}
	tmpfiles := imgtest.DebFile{Path: "usr/bin/systemd-tmpfiles", Body: "ELF", Mode: 0o755}
	unit := func(install string) []imgtest.DebFile {
		return append(units(), imgtest.DebFile{Path: "usr/lib/systemd/system/x.service", Body: "[Install]\n" + install})
	}
	const create, enable = "systemd-tmpfiles --create x.conf", "deb-systemd-helper enable x.service"
	for name, tt := range map[string]struct {
		postinst string
		files    []imgtest.DebFile
		want     string // of the error; "" for none
	}{
		"document through a link":      {"cat > /etc/link/x <<EOF\nEOF\n", []imgtest.DebFile{{Path: "etc/link", Symlink: "/usr"}}, ""},
		"document that deletes":        {"cat > /etc/.wh.issue <<EOF\nEOF\n", nil, "etc/.wh.issue"},
		"document in place of a dir":   {"cat > /etc <<EOF\nEOF\n", nil, ""},
		"ucf to a link":                {"ucf /etc/issue /etc/link/x", []imgtest.DebFile{{Path: "etc/link", Symlink: "/usr"}}, "/etc/link"},
		"ucf with dots":                {"ucf /etc/issue /etc/../../x", nil, ""},
		"alternative named with dots":  {"update-alternatives --install /usr/bin/x ../x /etc/issue 1", nil, "alternatives/../x"},
		"alternative linked with dots": {"update-alternatives --install /usr/../../x x /etc/issue 1", nil, "usr/../../x"},
		"alternative that deletes":     {"update-alternatives --install /etc/.wh.passwd x /etc/issue 1", nil, "etc/.wh.passwd"},
		"alternative over a file":      {"update-alternatives --install /etc/issue x /etc/passwd 1", nil, ""},
		"temporary with dots":          {create, []imgtest.DebFile{tmpfiles, conf("d /etc/../x 0755\nL+ ../x - - - - y\n")}, ""},
		"temporary that deletes":       {create, []imgtest.DebFile{tmpfiles, conf("d /etc/.wh.x/y 0755\n")}, "etc/.wh.x"},
		"temporary below a file":       {create, []imgtest.DebFile{tmpfiles, conf("d /etc/issue/x 0755\n")}, "/etc/issue"},
		"temporary with a bad mode":    {create, []imgtest.DebFile{tmpfiles, conf("d /etc/x 77777\n")}, `/etc/x: mode "77777"`},
		"configuration with dots":      {"systemd-tmpfiles --create ../../etc/x.conf", []imgtest.DebFile{tmpfiles}, ""},
		"unit with dots":               {enable, unit("WantedBy=../../x ..\nAlso=../../y\n"), ""},
		"alias with dots":              {enable, unit("Alias=..\n"), "etc/systemd/system/.."},
		"unit without a name":          {"deb-systemd-helper enable ''; deb-systemd-helper enable; systemctl enable", units(), ""},
		"script that is too large":     {strings.Repeat("#", 5<<20), nil, "package scripted: postinst: has 5242897 bytes, want at most 4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := try(t, Config{}, system(scripted(tt.postinst, tt.files...))...)
			switch {
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case tt.want == "" && err != nil:
				t.Error(err)
			case err == nil && text(t, tree, "/etc/issue") != "Debian\n":
				t.Error("/etc/issue is another")
			}
		})
	}
}

// B14: names that differ by case alone are two files: iptables has libxt_TCPMSS.so
// and libxt_tcpmss.so. What is asked for twice is refused.
func TestDuplicatesAreRefusedAndCaseCounts(t *testing.T) {
	two := imgtest.Deb{Name: "two", Files: []imgtest.DebFile{{Path: "usr/lib/libxt_TCPMSS.so", Body: "upper"}, {Path: "usr/lib/libxt_tcpmss.so", Body: "lower"}}}
	_, bodies := readTar(t, assemble(t, Config{}, system(two)...))
	if bodies["usr/lib/libxt_TCPMSS.so"] != "upper" || bodies["usr/lib/libxt_tcpmss.so"] != "lower" {
		t.Errorf("got %q and %q", bodies["usr/lib/libxt_TCPMSS.so"], bodies["usr/lib/libxt_tcpmss.so"])
	}
	once := Config{Files: []File{{Path: "/etc/x"}}, Links: []Link{{Path: "/etc/y", Target: "x"}}}
	assemble(t, once, system()...)
	for name, cfg := range map[string]Config{
		"file":          {Files: []File{{Path: "/etc/x"}, {Path: "/etc/x"}}},
		"link":          {Links: []Link{{Path: "/etc/y", Target: "x"}, {Path: "/etc/y", Target: "z"}}},
		"file and link": {Files: []File{{Path: "/bin/x"}}, Links: []Link{{Path: "/usr/bin/x", Target: "y"}}},
	} {
		if _, err := try(t, cfg, system()...); err == nil || !strings.Contains(err.Error(), "already there") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	broken := imgtest.Deb{Name: "broken", Files: []imgtest.DebFile{{Path: "usr/bin/a\nb", Body: "x"}}}
	if _, err := try(t, Config{}, system(broken)...); err == nil || !strings.Contains(err.Error(), "a line break") {
		t.Errorf("got %v", err)
	}
}

func TestTheConfigHasTheLastWordOverScripts(t *testing.T) {
	cfg := Config{Files: []File{{Path: "/etc/plain", Content: "ours\n"}}, Links: []Link{{Path: "/etc/other", Target: "plain"}}}
	tree := assemble(t, cfg, system(scripted("cat > /etc/plain <<EOF\ntheirs\nEOF\ncat > /etc/other <<EOF\ntheirs\nEOF\n"))...)
	if got := text(t, tree, "/etc/other"); got != "ours\n" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseTemporary(f *testing.F) {
	f.Add(temporaryConf)
	f.Fuzz(func(t *testing.T, conf string) {
		tree := &Tree{entries: make(map[string]*Entry)}
		for _, l := range parseTemporary(conf) {
			if err := tree.createOne(l, &accounts{}); err != nil {
				continue
			}
		}
		for p, e := range tree.entries {
			if p == "" || p[0] == '/' || e.Mode&^0o7777 != 0 {
				t.Errorf("%q with mode %o", p, e.Mode)
			}
		}
	})
}

func FuzzInstallSection(f *testing.F) {
	f.Add("[Unit]\nWantedBy=a\n[Install]\nWantedBy=b \"c\"\nAlias=d\n")
	f.Fuzz(func(t *testing.T, unit string) {
		for _, s := range installSection(unit) {
			if s.word == "" || strings.ContainsAny(s.word, "/% \t\n") {
				t.Errorf("got %q", s)
			}
		}
	})
}
