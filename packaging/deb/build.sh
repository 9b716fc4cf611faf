#!/bin/sh
# Makes a package for Debian and its relatives, of a binary that is there.
#
#   packaging/deb/build.sh BINARY FOLDER    writes FOLDER/weft_VERSION_ARCHITECTURE.deb and prints its path
#
# WEFT_PACKAGE_FAST=1 packs quickly instead of small; WEFT_PACKAGE_VERSION stands in place of the binary's version.
set -eu
binary=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../linkage.sh"
version=${WEFT_PACKAGE_VERSION:-$("$binary" version | cut -d ' ' -f 2)}
architecture=$(dpkg --print-architecture)
mkdir -p "$folder"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

"$here/../stage.sh" "$binary" "$stage/root"
# What of the C library the program asks for; nothing where it is linked into it.
libc=$(grep -ao 'GLIBC_2\.[0-9]*' "$stage/root/usr/bin/weft" | sort -uV | tail -n 1 | sed 's/GLIBC_//')
needs="systemd, passwd"
if needs_libc "$stage/root/usr/bin/weft"; then
    needs="libc6 (>= ${libc:-2.34}), libgcc-s1, $needs"
fi
install -d "$stage/root/DEBIAN"
cat >"$stage/root/DEBIAN/control" <<EOF
Package: weft
Version: $version
Architecture: $architecture
Maintainer: The authors of Weft <weft@localhost>
Section: net
Priority: optional
Installed-Size: $(du -sk --apparent-size "$stage/root" | cut -f 1)
Depends: $needs
Suggests: nftables, bash-completion
Description: service mesh in one program
 Discovery, identity, mutual TLS, authorisation and traffic routing between
 services on any host. Servers replicate one state by Raft, an agent runs on
 each host, a proxy beside each service.
 .
 Nothing starts before it is configured: see /usr/share/doc/weft/examples.
EOF
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$stage/root/DEBIAN/$script"
done
(cd "$stage/root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$stage/root/DEBIAN/md5sums"
chmod 644 "$stage/root/DEBIAN/md5sums" "$stage/root/DEBIAN/control"

package="$folder/weft_${version}_$architecture.deb"
if [ "${WEFT_PACKAGE_FAST:-}" = 1 ]; then set -- -Zgzip -z1; else set -- -Zxz -z9; fi
dpkg-deb --root-owner-group "$@" --build "$stage/root" "$package" >/dev/null
echo "$package"
