#!/bin/sh
# Makes an archive that is unpacked over the root of any Linux host.
#
#   packaging/tarball.sh BINARY FOLDER    writes FOLDER/weft-VERSION-linux-ARCHITECTURE.tar.xz and prints its path
#
# It is refused for a binary that needs libraries of the host.
set -eu
binary=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/linkage.sh"
must_be_static "$binary"
version=$("$binary" version | cut -d ' ' -f 2)
name="weft-$version-linux-$(uname -m)"
mkdir -p "$folder"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$here/stage.sh" "$binary" "$stage/root"
level=-9
if [ "${WEFT_PACKAGE_FAST:-}" = 1 ]; then level=-0; fi
tar -C "$stage/root" --sort=name --owner=0 --group=0 --numeric-owner -cf - usr | xz "$level" >"$folder/$name.tar.xz"
echo "$folder/$name.tar.xz"
