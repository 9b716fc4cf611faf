#!/bin/sh
# Makes a package for Fedora, RHEL, SUSE and their relatives, of a binary that is there.
#
#   packaging/rpm/build.sh BINARY FOLDER    writes FOLDER/weft-VERSION-1.ARCHITECTURE.rpm and prints its path
#
# Needs rpmbuild (Debian: rpm). WEFT_PACKAGE_FAST=1 packs quickly instead of small.
set -eu
binary=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v rpmbuild >/dev/null; then
    echo "rpmbuild is missing: install rpm (Debian) or rpm-build (Fedora)" >&2
    exit 1
fi
version=${WEFT_PACKAGE_VERSION:-$("$binary" version | cut -d ' ' -f 2)}
mkdir -p "$folder"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
"$here/../stage.sh" "$binary" "$stage/root"
payload=w9.xzdio
if [ "${WEFT_PACKAGE_FAST:-}" = 1 ]; then payload=w1.gzdio; fi
rpmbuild -bb --quiet --define "_topdir $stage/rpm" --define "weft_version $version" \
    --define "weft_stage $stage/root" --define "_binary_payload $payload" "$here/weft.spec" >&2
package=$(find "$stage/rpm/RPMS" -name '*.rpm')
cp "$package" "$folder/"
echo "$folder/${package##*/}"
