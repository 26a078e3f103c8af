#!/bin/sh
# Puts back what apply.sh has kept.
set -eu
root=${1:-}
kept=$root/var/lib/imgctl/override
if [ ! -e "$kept/files" ]; then
	echo "undo: $kept is not there: nothing was applied" >&2
	exit 1
fi
while read -r file; do
	if [ -e "$kept/before/$file" ] || [ -L "$kept/before/$file" ]; then
		rm -f "$root/$file"
		cp -a "$kept/before/$file" "$root/$file"
		echo "restored /$file"
	else
		rm -f "$root/$file"
		echo "removed /$file"
	fi
done <"$kept/files"
rm -r "$kept"
if [ -z "$root" ] && command -v systemctl >/dev/null; then
	systemctl daemon-reload
fi
