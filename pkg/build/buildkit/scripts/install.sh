# Installs one batch of packages.
#
# $1 has the packages, $2 is the list of their file names.
set -eu
debs=$1 list=$2
set --
while IFS= read -r name; do
	set -- "$@" "$debs/$name"
done <"$list"
exec dpkg --install "$@"
