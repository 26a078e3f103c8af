package rootfs

import "strings"

// residue is what installing packages leaves behind and no image should have.
// Each glob is one of [Config.Exclude]; one that ends in a slash means empty
// directories, the others mean everything but directories.
var residue = []struct{ glob, why string }{
	{"/etc/.pwd.lock", "lock of whoever changes accounts"},
	{"/etc/passwd-", "backup of the file without the dash, as are the next five"},
	{"/etc/group-", ""},
	{"/etc/shadow-", ""},
	{"/etc/gshadow-", ""},
	{"/etc/subuid-", ""},
	{"/etc/subgid-", ""},
	{"/etc/machine-id", "random: each machine has its own"},
	{"/var/lib/dbus/machine-id", "the same"},
	{"/etc/iscsi/initiatorname.iscsi", "the same"},
	{"/etc/ssh/ssh_host_*_key", "a secret, and the same for all who have the image"},
	{"/etc/ssh/ssh_host_*_key.pub", ""},
	{"/etc/rc?.d/*", "run levels of System V: what starts in an image is its entrypoint"},
	{"/run/*", "state of a running system"},
	{"/run/*/", ""},
	{"/tmp/*", "forgotten by a script"},
	{"/tmp/*/", ""},
	{"/var/tmp/*", ""},
	{"/var/tmp/*/", ""},
	{"/usr/*/__pycache__/*", "Python's bytecode: large, and Python does without"},
	{"/usr/*/__pycache__/", ""},
	{"/usr/local/lib/python3*/", "for packages that an administrator adds"},
	{"/var/lib/python/*", "says that bytecode is to be made"},
	{"/var/lib/python/", ""},
	{"/var/cache/*", "made again when it is missed; debconf's answers are here, too"},
	{"/var/lib/systemd/catalog/*", "made of what /usr has when it is missed"},
	{"/var/lib/systemd/catalog/", ""},
	{"/var/log/*", "tells of the build, not of the system"},
	{"/var/log/journal/", "says that the journal is kept, on a volume of the image"},
	{"/var/lib/dpkg/*-old", "backup of the database"},
	{"/var/lib/dpkg/lock", "empty, but for who writes"},
	{"/var/lib/dpkg/lock-frontend", ""},
	{"/var/lib/dpkg/triggers/Lock", ""},
	{"/var/lib/dpkg/diversions", "protects upgrades from Debian 12, which had /lib beside /usr/lib"},
	{"/var/lib/ucf/*", "remembers originals for the next upgrade's questions"},
	{"/var/lib/ucf/cache/", ""},
}

// kept is the one directory below /run that must be there before the first
// program runs: /var/lock points to it.
const kept = "/run/lock"

// Residue returns globs for what installing packages leaves behind and no image
// should have: locks, backups, logs, caches, what differs from one run to the
// next. A glob that ends in a slash means empty directories, the others mean
// everything but directories; [Config.Sweep] is the same as a command.
func Residue() []string {
	globs := make([]string, len(residue))
	for i, r := range residue {
		globs[i] = r.glob
	}
	return globs
}

// Sweep returns the command, for find(1), that makes a root file system in which
// dpkg has installed packages the one of [Assemble], as far as files are too many:
// it deletes what c.Exclude leaves out, with directories that only had such
// things, and the [Residue], but nothing that the Config itself asks for. Run it at
// the root when all else is done: dpkg, then the Config's directories, files,
// links and alternatives.
func (c Config) Sweep() []string {
	var files, dirs []string
	for _, r := range residue {
		if dir, ok := strings.CutSuffix(r.glob, "/"); ok {
			dirs = append(dirs, dir)
		} else {
			files = append(files, r.glob)
		}
	}
	argv := []string{"find", "/", "-xdev"}
	if own := c.own(); len(own) > 0 {
		for i := range own {
			own[i] = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(own[i])
		}
		argv = append(append(argv, "!", "("), paths(own)...)
		argv = append(argv, ")")
	}
	argv = append(argv, "(", "(")
	argv = append(argv, paths(files)...)
	argv = append(argv, ")", "!", "-type", "d", "-o", "(")
	argv = append(argv, paths(dirs)...)
	argv = append(argv, ")", "!", "-path", kept, "-type", "d", "-empty")
	if len(c.Exclude) > 0 {
		argv = append(argv, "-o", "(")
		argv = append(argv, paths(c.Exclude)...)
		argv = append(argv, ")")
		if len(c.Keep) > 0 {
			argv = append(append(argv, "!", "("), paths(c.Keep)...)
			argv = append(argv, ")")
		}
		argv = append(argv, "(", "!", "-type", "d", "-o", "-empty", ")")
	}
	return append(argv, ")", "-delete")
}

// paths is the expression of find(1) for a path that matches one of the globs.
func paths(globs []string) []string {
	var expression []string
	for i, g := range globs {
		if i > 0 {
			expression = append(expression, "-o")
		}
		expression = append(expression, "-path", g)
	}
	return expression
}

// isResidue reports whether an entry is among the residue. A directory is so
// only when it is empty.
func isResidue(path string, dir bool) bool {
	for _, r := range residue {
		glob, ofDirs := strings.CutSuffix(r.glob, "/")
		if ofDirs == dir && match(glob, path) {
			return !dir || path != kept
		}
	}
	return false
}
