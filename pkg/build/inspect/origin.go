package inspect

// leftovers are what a build must not leave in an image. Directories may stay.
var leftovers = []struct{ glob, why string }{
	{"/var/cache/*", "a cache"},
	{"/var/lib/apt/lists/*", "a package list of apt"},
	{"/var/lib/dpkg/*-old", "a backup of dpkg"},
	{"/var/lib/ucf/*", "a copy of a configuration file, for questions at the next upgrade"},
	{"/etc/passwd-", "a backup of the accounts"},
	{"/etc/group-", "a backup of the accounts"},
	{"/etc/shadow-", "a backup of the accounts"},
	{"/etc/gshadow-", "a backup of the accounts"},
	{"/etc/subuid-", "a backup of the accounts"},
	{"/etc/subgid-", "a backup of the accounts"},
	{"*.deb", "a package file"},
	{"*.dpkg-new", "a file that dpkg has not renamed"},
	{"*.dpkg-tmp", "a file that dpkg has not renamed"},
	{"*.dpkg-old", "a configuration file that dpkg has replaced"},
	{"*.dpkg-dist", "a configuration file that dpkg has not installed"},
	{"*.lock", "a lock"},
	{"*/__pycache__/*", "Python's byte-code, which has times in it"},
	{"/tmp/*", "a temporary file"},
	{"/var/tmp/*", "a temporary file"},
	{"/run/*", "a file of a running system"},
	{"/.dockerenv", "a file of a running container"},
	{"/etc/ssh/ssh_host_*_key", "a key that all machines would share"},
	{"/var/lib/systemd/random-seed", "a secret that all machines would share"},
}

// leftover says what of a build e is, "" for nothing. Logs may be there when they
// are empty: some programs only add to one. An empty machine ID is none yet.
func leftover(e *Entry) string {
	switch {
	case e.Type == File && e.Size > 0 && isBelow(e.Path, "/var/log"):
		return "a log"
	case e.Type == File && e.Size > 0 && (e.Path == "/etc/machine-id" || e.Path == "/var/lib/dbus/machine-id"):
		return "an identity that all machines would share"
	}
	for _, l := range leftovers {
		if match(l.glob, e.Path) {
			return l.why
		}
	}
	return ""
}

// generated are the files that the scripts of Debian's packages make, and that no
// package's list has for that reason. Each counts only where the package is
// installed, and of that type only.
var generated = []struct {
	pkg, glob string
	only      Type
}{
	{"base-files", "/etc/motd", File},
	{"base-files", "/etc/profile", File},
	{"base-files", "/etc/dpkg/origins/default", Symlink},
	{"base-files", "/root/.bashrc", File},
	{"base-files", "/root/.profile", File},
	{"base-files", "/usr/local/man", Symlink},
	{"base-files", "/var/lock", Symlink},
	{"base-files", "/var/run", Symlink},
	{"base-files", "/var/spool/mail", Symlink},
	{"base-files", "/var/log/btmp", File},
	{"base-files", "/var/log/lastlog", File},
	{"base-files", "/var/log/wtmp", File},
	{"base-passwd", "/etc/group", File},
	{"base-passwd", "/etc/gshadow", File},
	{"base-passwd", "/etc/passwd", File},
	{"base-passwd", "/etc/shadow", File},
	{"base-passwd", "/etc/subgid", File},
	{"base-passwd", "/etc/subuid", File},
	{"ca-certificates", "/etc/ca-certificates.conf", File},
	{"ca-certificates", "/etc/ssl/certs/*.crt", File}, // all certificates in one file
	{"ca-certificates", "/etc/ssl/certs/*", Symlink},  // by name and by hash
	{"debianutils", "/etc/shells", File},
	{"debianutils", "/var/lib/shells.state", File},
	{"init-system-helpers", "/etc/systemd/system/*", Symlink}, // units that are enabled
	{"init-system-helpers", "/etc/systemd/user/*", Symlink},
	{"init-system-helpers", "/var/lib/systemd/deb-systemd-helper-enabled/*", File},
	{"init-system-helpers", "/var/lib/systemd/deb-systemd-user-helper-enabled/*", File},
	{"kmod", "/etc/modules", File},
	{"libc-bin", linkerCache, File},
	{"libc-bin", "/etc/nsswitch.conf", File},
	{"libpam-modules", "/etc/environment", File},
	{"libpam-modules", "/etc/security/opasswd", File},
	{"libpam-runtime", "/etc/pam.d/common-*", File},
	{"libpam-runtime", "/var/lib/pam/*", File},
	{"libwrap0", "/etc/hosts.allow", File},
	{"libwrap0", "/etc/hosts.deny", File},
	{"netbase", "/etc/networks", File},
	{"nfs-common", "/etc/idmapd.conf", File},
	{"nfs-common", "/etc/nfs.conf", File},
	{"python3", "/etc/python3/debian_config", File},
	{"readline-common", "/etc/inputrc", File},
	{"tzdata", "/etc/localtime", Symlink},
	{"tzdata", "/etc/timezone", File},
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
		if db.installed[g.pkg] && g.only == e.Type && match(g.glob, e.Path) {
			return true
		}
	}
	return false
}
