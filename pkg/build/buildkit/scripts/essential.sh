# Installs the Essential packages, whose files have been unpacked without dpkg,
# and then the accounts of the spec, before any other package asks for one.
#
# $1 has the lists, $2 the packages. All values are in the lists, one on each
# line, and none is ever a part of a script.
set -eu
data=$1 debs=$2

# What was unpacked has everything in it, and dpkg will not know that it is there.
set --
while IFS= read -r argument; do
	set -- "$@" "$argument"
done <"$data/unpacked"
"$@"

# invoke-rc.d(8): nothing is started.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

set --
while IFS= read -r option; do
	set -- "$@" "$option"
done <"$data/options"
while IFS= read -r name; do
	set -- "$@" "$debs/$name"
done <"$data/essential"
# Each finds the files of all others, but dpkg does not know that yet.
dpkg --force-depends --install "$@"

for file in passwd group; do
	cat "$data/$file" >>"/etc/$file"
done
if [ -e /etc/shadow ]; then # else the package passwd makes it, of these files
	pwconv
	grpconv
fi
