package inspect

// leftovers are what a build must not leave in an image.
var leftovers = []struct{ glob, why string }{
	{"/var/cache/apt/*", "a cache of apt"},
	{"/var/lib/apt/lists/*", "a package list of apt"},
	{"/var/cache/debconf/*-old", "a backup of debconf"},
	{"/var/lib/dpkg/*-old", "a backup of dpkg"},
	{"/var/cache/ldconfig/*", "a cache of ldconfig, with numbers of the disk that it ran on"},
	{"/var/cache/man/*", "a cache of man"},
	{"*.deb", "a package file"},
	{"*.dpkg-new", "a file that dpkg has not renamed"},
	{"*.dpkg-tmp", "a file that dpkg has not renamed"},
	{"*.dpkg-old", "a configuration file that dpkg has replaced"},
	{"*.dpkg-dist", "a configuration file that dpkg has not installed"},
	{"*/__pycache__/*", "Python's byte-code, which has times in it"},
	{"/tmp/*", "a temporary file"},
	{"/var/tmp/*", "a temporary file"},
	{"/run/*", "a file of a running system"},
	{"/.dockerenv", "a file of a running container"},
}

// leftover says what of a build e is, "" for nothing. An empty log is none:
// programs that only append to logs need it to be there.
func leftover(e *Entry) string {
	if e.Type == File && e.Size > 0 && isBelow(e.Path, "/var/log") {
		return "a log"
	}
	for _, l := range leftovers {
		if match(l.glob, e.Path) {
			return l.why
		}
	}
	return ""
}

// generated are the files that the scripts of Debian's packages make, and that no
// package's list has for that reason. Each counts only where the package is installed.
var generated = []struct{ pkg, glob string }{
	{"base-files", "/etc/motd"},
	{"base-files", "/etc/profile"},
	{"base-files", "/etc/dpkg/origins/default"},
	{"base-files", "/etc/environment"},
	{"base-files", "/root/.bashrc"},
	{"base-files", "/root/.profile"},
	{"base-files", "/usr/local/man"},
	{"base-files", "/var/lock"},
	{"base-files", "/var/run"},
	{"base-files", "/var/spool/mail"},
	{"base-files", "/var/log/btmp"},
	{"base-files", "/var/log/lastlog"},
	{"base-files", "/var/log/wtmp"},
	{"base-passwd", "/etc/group"},
	{"base-passwd", "/etc/group-"},
	{"base-passwd", "/etc/gshadow"},
	{"base-passwd", "/etc/gshadow-"},
	{"base-passwd", "/etc/passwd"},
	{"base-passwd", "/etc/passwd-"},
	{"base-passwd", "/etc/shadow"},
	{"base-passwd", "/etc/shadow-"},
	{"base-passwd", "/etc/subgid"},
	{"base-passwd", "/etc/subuid"},
	{"ca-certificates", "/etc/ca-certificates.conf"},
	{"ca-certificates", "/etc/ssl/certs/*"}, // links by name and by hash, and all certificates in one file
	{"debianutils", "/etc/shells"},
	{"debianutils", "/var/lib/shells.state"},
	{"libc-bin", linkerCache},
	{"libc-bin", "/etc/nsswitch.conf"},
	{"sysvinit-utils", "/etc/mtab"},
	{"systemd", "/etc/machine-id"},
}

// ownFiles are those of dpkg itself, which is not always in the image, and what it
// is told of packages.exclude. Those about one package are that package's: see [database.owner].
var ownFiles = []string{
	"/etc/dpkg/dpkg.cfg.d/imgctl",
	dpkgDir + "arch", dpkgDir + "arch-native", dpkgDir + "available", dpkgDir + "diversions", dpkgDir + "lock", dpkgDir + "lock-frontend",
	dpkgDir + "statoverride", dpkgDir + "status", dpkgDir + "info/format", dpkgDir + "triggers/*", dpkgDir + "alternatives/*",
}

// generated reports whether e is what a program of Debian makes.
func (db *database) generated(e *Entry) bool {
	if len(db.packages) > 0 && matchAny(ownFiles, e.Path) {
		return true
	}
	for _, g := range generated {
		if db.installed[g.pkg] && match(g.glob, e.Path) {
			return true
		}
	}
	return false
}
