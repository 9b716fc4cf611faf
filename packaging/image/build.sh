#!/bin/sh
# Makes a container image of a statically linked binary, without a registry, a daemon or a container.
#
#   packaging/image/build.sh BINARY FOLDER    writes FOLDER/weft-VERSION-image.tar and prints its path
#
# The archive is an OCI image layout: `podman load -i`, `docker load -i`, `skopeo copy oci-archive:…`,
# `ctr image import`. Beside it lies FOLDER/image, the context for the Containerfile.
set -eu
binary=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../linkage.sh"
must_be_static "$binary"
mkdir -p "$folder"
version=$("$binary" version | cut -d ' ' -f 2)
root="$folder/image"
rm -rf "$root"
install -D -m 755 "$binary" "$root/usr/bin/weft"
if command -v strip >/dev/null; then strip "$root/usr/bin/weft"; fi
install -d -m 755 "$root/etc" "$root/var/lib/weft" "$root/run/weft" "$root/var/lib" "$root/run"
echo 'weft:x:65532:65532:Weft:/var/lib/weft:/usr/bin/weft' >"$root/etc/passwd"
echo 'weft:x:65532:' >"$root/etc/group"
python3 "$here/layout.py" "$root" "$folder/weft-$version-image.tar" "$version"
echo "$folder/weft-$version-image.tar"
