# Removes what only making the image needed, and what would differ from one
# build to the next.
#
# $1 has the lists. $2 is what comes before every path: nothing, but in a test.
set -eu
data=$1 root=${2-}

# What packages.exclude names and a script has made, or dpkg keeps by itself.
# Directories go when nothing is left in them.
prune() {
	set --
	while IFS= read -r glob; do
		set -- "$@" -o -path "$root$glob"
	done <"$data/exclude"
	[ $# -gt 0 ] || return 0
	shift
	set -- '(' "$@" ')'
	while IFS= read -r glob; do
		set -- "$@" ! -path "$root$glob"
	done <"$data/keep"
	find "$root/" -xdev -depth "$@" '(' -type d -exec rmdir --ignore-fail-on-non-empty '{}' + -o ! -type d -delete ')'
}

# Caches, logs, locks and backups, which only hold the traces of this build; and
# the byte code of Python, which can be made from its source at any time.
traces() {
	rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/imgctl"
	for dir in tmp var/tmp var/cache/apt var/cache/debconf var/cache/ldconfig var/lib/apt/lists; do
		[ ! -d "$root/$dir" ] || find "$root/$dir" -xdev -mindepth 1 -delete
	done
	[ ! -d "$root/var/log" ] || find "$root/var/log" -xdev -type f -size +0 -delete
	rm -f "$root"/var/lib/dpkg/*-old "$root/var/lib/dpkg/lock" "$root/var/lib/dpkg/lock-frontend" "$root/var/lib/dpkg/triggers/Lock" \
		"$root/etc/passwd-" "$root/etc/group-" "$root/etc/shadow-" "$root/etc/gshadow-" "$root/etc/subuid-" "$root/etc/subgid-" "$root/etc/.pwd.lock" \
		"$root/var/lib/dbus/machine-id"
	find "$root/usr" -xdev -depth -name __pycache__ -type d -exec rm -rf '{}' +
	[ ! -e "$root/etc/machine-id" ] || : >"$root/etc/machine-id" # each node gets its own: machine-id(5)
}

# dpkg remembers what it unpacked and what it left out. Who reads its database is
# to find there what is in the image.
database() {
	for list in "$root"/var/lib/dpkg/info/*.list; do
		[ -f "$list" ] || continue
		present=$(while IFS= read -r path; do
			if [ -e "$root$path" ] || [ -L "$root$path" ]; then
				printf '%s\n' "$path"
			fi
		done <"$list")
		printf '%s' "${present:+$present
}" >"$list"
	done
	for sums in "$root"/var/lib/dpkg/info/*.md5sums; do
		[ -f "$sums" ] || continue
		present=$(while IFS= read -r line; do
			if [ -e "$root/${line#*  }" ]; then
				printf '%s\n' "$line"
			fi
		done <"$sums")
		printf '%s' "${present:+$present
}" >"$sums"
	done
}

prune
traces
database
