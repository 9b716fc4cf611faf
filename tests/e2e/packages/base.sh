#!/bin/sh
# Makes a small Debian with systemd to boot from, once for all runs.
#
#   base.sh FOLDER SUITE    afterwards FOLDER is there, whole; archives come from where this host's apt takes them
set -eu
folder=$1 suite=$2
[ -d "$folder" ] && exit 0
mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')
if [ -z "$mirror" ]; then
    echo "apt of this host has no archive of $suite" >&2
    exit 1
fi
mkdir -p "${folder%/*}"
exec 9>"$folder.lock"
flock 9
[ -d "$folder" ] && exit 0
part="$folder.part"
rm -rf "$part"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,procps "$suite" "$part" "$mirror"
# Else the name that a machine is started with would not count.
rm -f "$part/etc/hostname"
rm -rf "$part"/var/cache/apt/archives/*.deb "$part"/var/lib/apt/lists/*
mv "$part" "$folder"
