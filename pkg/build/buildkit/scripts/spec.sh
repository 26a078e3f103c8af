# Makes what the spec asks for beside the packages.
#
# $1 has the lists: records of a fixed number of lines, one value on each. $3 is
# what comes before every path: nothing, but in a test.
set -eu
data=$1 root=${3-}

die() {
	printf '%s\n' "$1" >&2
	exit 1
}

# own gives $2 to the user $3 and the group $4, with mode $1. The owner comes
# first: changing it takes setuid and setgid away.
own() {
	chown -- "$3:$4" "$root$2"
	chmod -- "$1" "$root$2"
}

# clear makes room for a file or link at $1. What is there comes from a package's
# script; the spec has the last word, and the log says so.
clear() {
	mkdir -p -- "$root${1%/*}"
	if [ -d "$root$1" ] && [ ! -L "$root$1" ]; then
		die "$1: there is a directory, want none"
	fi
	rm -f -- "$root$1"
}

directories() {
	while IFS= read -r path; do
		read -r mode
		IFS= read -r user
		IFS= read -r group
		mkdir -p -- "$root$path"
		own "$mode" "$path" "$user" "$group"
	done
}

files() {
	while IFS= read -r path; do
		IFS= read -r from
		read -r mode
		IFS= read -r user
		IFS= read -r group
		case $from in
		content/*) from=$data/$from ;;
		*) from=$root$from ;;
		esac
		[ -f "$from" ] || die "$path: copy of ${from#"$root"}, which is not a file of the image"
		if [ -f "$root$path" ] && ! cmp -s "$from" "$root$path"; then
			printf '%s: replaced what a package made\n' "$path"
		fi
		clear "$path"
		cp -- "$from" "$root$path"
		own "$mode" "$path" "$user" "$group"
	done
}

links() {
	while IFS= read -r path; do
		IFS= read -r target
		clear "$path"
		ln -s -- "$target" "$root$path"
	done
}

# Each record: name, link, path, priority, number of slaves; then of each slave name, link and path.
alternatives() {
	while IFS= read -r name; do
		IFS= read -r link
		IFS= read -r path
		read -r priority
		read -r slaves
		[ -e "$root$path" ] || die "alternatives: $name: $path is not in the image"
		set -- --install "$link" "$name" "$path" "$priority"
		while [ "$slaves" -gt 0 ]; do
			IFS= read -r slave
			IFS= read -r link
			IFS= read -r path
			set -- "$@" --slave "$link" "$slave" "$path"
			slaves=$((slaves - 1))
		done
		update-alternatives --quiet "$@"
		update-alternatives --quiet --auto "$name"
	done
}

directories <"$data/directories"
files <"$data/files"
links <"$data/links"
alternatives <"$data/alternatives"
