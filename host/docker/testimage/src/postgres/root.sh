# Makes the root of an image of Debian's PostgreSQL, and writes its major version, a line end and a tar of it to stdout.
# Arguments: the release's codename, the mirror or nothing for debootstrap's own, what becomes the image's entrypoint.
# It is run in namespaces of its own: its mounts, processes and files are gone when it ends, however it ends.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL

# In memory, since dpkg syncs after each file, and since the folder for temporary files is often mounted without devices.
mount -t tmpfs -o mode=755 tmpfs /mnt
cd /mnt
debootstrap --variant=minbase --include=postgresql "$1" root ${2:+"$2"} >log 2>&1 || {
  tail -n 20 log >&2
  exit 1
}
cd root

# What no server needs: most of all the compiler of expressions (without it they are interpreted) and Debian's wrappers
# in Perl (PATH leads to the programs themselves). Also the server that Debian made on installing.
rm -rf var/cache/* var/lib/apt/lists/* var/log/* var/lib/postgresql/* \
  usr/share/doc usr/share/i18n usr/share/info usr/share/locale usr/share/man usr/share/perl \
  usr/lib/*/gconv usr/lib/*/libLLVM* usr/lib/*/libz3* usr/lib/*/perl usr/lib/postgresql/*/lib/bitcode
printf %s "$3" >usr/local/bin/docker-entrypoint.sh
chmod 755 usr/local/bin/docker-entrypoint.sh
# `postgres` is a user of the image.
chroot . install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data
chroot . install -d -o postgres -g postgres -m 2775 /run/postgresql

ls usr/lib/postgresql
exec tar --create --one-file-system --numeric-owner .
