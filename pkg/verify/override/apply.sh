#!/bin/sh
# Puts the files below etc/ in place. What was there is kept for undo.sh.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-}
kept=$root/var/lib/imgctl/override
if [ -e "$kept" ]; then
	echo "apply: $kept is there: undo.sh first" >&2
	exit 1
fi
mkdir -p "$kept/before"
: >"$kept/files"

# keep FILE: remembers what is at /FILE, or that nothing is.
keep() {
	if grep -qxF "$1" "$kept/files"; then
		return
	fi
	echo "$1" >>"$kept/files"
	if [ -e "$root/$1" ] || [ -L "$root/$1" ]; then
		mkdir -p "$kept/before/$(dirname "$1")"
		cp -a "$root/$1" "$kept/before/$1"
	fi
}

# put FILE NEW: the file is the old one or the new one, and never half of it.
put() {
	mkdir -p "$root/$(dirname "$1")"
	cp "$2" "$root/$1.imgctl-new"
	chmod 0644 "$root/$1.imgctl-new"
	mv -f "$root/$1.imgctl-new" "$root/$1"
}

# replace OLD NEW: in the manifests of static pods. Both name the same digest.
replace() {
	for path in "$root"/etc/kubernetes/manifests/*.yaml; do
		[ -f "$path" ] && grep -qF "$1" "$path" || continue
		file=${path#"$root/"}
		keep "$file"
		old=$(printf '%s' "$1" | sed 's/[].[]/\\&/g')
		sed "s|$old|$2|g" "$path" >"$kept/edited"
		put "$file" "$kept/edited"
		rm "$kept/edited"
		echo "replaced in /$file"
	done
}

cd "$here"
find etc -type f | sort >"$kept/list"
while read -r file; do
	if [ "$file" = etc/containers/policy.json ] && [ -e "$root/$file" ]; then
		echo "apply: /$file stays as it is: add the entries of $here/$file to it" >&2
		continue
	fi
	keep "$file"
	put "$file" "$here/$file"
	echo "wrote /$file"
done <"$kept/list"
rm "$kept/list"
# REPLACEMENTS
if [ -z "$root" ] && command -v systemctl >/dev/null; then
	systemctl daemon-reload
fi
