# Installs one batch of packages.
#
# $1 has the packages, $2 the lists, $3 is the name of the list of the batch.
set -eu
debs=$1 data=$2 batch=$3
set --
while IFS= read -r option; do
	set -- "$@" "$option"
done <"$data/options"
while IFS= read -r name; do
	set -- "$@" "$debs/$name"
done <"$data/$batch"
exec dpkg --install "$@"
