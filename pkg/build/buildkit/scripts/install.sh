# Installs one batch of packages.
#
# $1 has the lists, $2 the packages.
set -eu
data=$1 debs=$2
set --
while IFS= read -r option; do
	set -- "$@" "$option"
done <"$data/options"
while IFS= read -r name; do
	set -- "$@" "$debs/$name"
done <"$data/batch"
exec dpkg --install "$@"
