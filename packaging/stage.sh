#!/bin/sh
# Lays out what every package installs, under a folder that stands for the root of a host.
#
#   packaging/stage.sh BINARY FOLDER
#
# The binary writes its own pages of the manual and completions, so it must run on this machine. Symbols are left
# out of the copy, never of the binary itself.
set -eu
binary=$1 root=$2
here=$(cd "$(dirname "$0")" && pwd)

rm -rf "$root"
install -d -m 755 "$root"
install -D -m 755 "$binary" "$root/usr/bin/weft"
if command -v strip >/dev/null; then strip "$root/usr/bin/weft"; fi

for unit in "$here"/systemd/*.service; do
    install -D -m 644 "$unit" "$root/usr/lib/systemd/system/${unit##*/}"
done
install -D -m 644 "$here/systemd/weft.sysusers" "$root/usr/lib/sysusers.d/weft.conf"
install -D -m 644 "$here/systemd/weft.tmpfiles" "$root/usr/lib/tmpfiles.d/weft.conf"
install -D -m 755 "$here/units.sh" "$root/usr/lib/weft/units"

"$binary" man --dir "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
for place in bash:bash-completion/completions/weft zsh:zsh/site-functions/_weft \
    fish:fish/vendor_completions.d/weft.fish; do
    file="$root/usr/share/${place#*:}"
    install -d -m 755 "${file%/*}"
    "$binary" completion "${place%%:*}" >"$file"
done

doc="$root/usr/share/doc/weft"
for example in "$here"/config/*.hcl "$here/systemd-resolved/weft.conf"; do
    name=${example##*/}
    [ "$name" = weft.conf ] && name=systemd-resolved.conf
    install -D -m 644 "$example" "$doc/examples/$name"
done
install -m 644 "$here/../LICENSE" "$doc/LICENSE"
install -m 644 "$here/deb/copyright" "$doc/copyright"
gzip -9n <"$here/../CHANGELOG.md" >"$doc/changelog.gz"
find "$root" -type d -exec chmod 755 {} +
find "$root" -type f ! -perm -100 -exec chmod 644 {} +
