# Removes what only making the image needed, what the spec leaves out, and what
# would differ from one build to the next.
#
# $1 has the lists.
set -eu
data=$1
rm -f /usr/sbin/policy-rc.d

# A package that is installed on top of the image is treated alike.
if [ -s "$data/dpkg.cfg" ]; then
	mkdir -p /etc/dpkg/dpkg.cfg.d
	cp "$data/dpkg.cfg" /etc/dpkg/dpkg.cfg.d/imgctl
fi

set --
while IFS= read -r argument; do
	set -- "$@" "$argument"
done <"$data/sweep"
exec "$@"
