#!/usr/bin/env bash
# Fetches the peers of `make bench-servers` and of `tests/compat` into a folder, from Debian's
# archive only: etcd-server of this release, Consul 1.8.7 of bullseye. The packages are unpacked,
# not installed: nothing of the system changes and no service starts.
#
#   tests/bench-servers/fetch-peers.sh [FOLDER]     (target/peers when left out)
#
# Prints the folder; the programs are FOLDER/consul and FOLDER/etcd. A program that is there is
# kept; one that cannot be had is told on standard error, and the status is 1.
set -euo pipefail

folder=${1:-${WEFT_PEERS:-target/peers}}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The mirror that this system uses.
mirror() {
    local line
    line=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
               /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^[[:space:]]*#' | grep -oE 'https?://[^ ]+' | grep -v -- '-security' | head -n 1)
    echo "${line:-http://deb.debian.org/debian}"
}

# unpack SUITE PACKAGE PATH NAME: PATH of the suite's package becomes FOLDER/NAME.
unpack() {
    local suite=$1 package=$2 path=$3 name=$4 room
    [ -x "$folder/$name" ] && return 0
    room=$(mktemp -d "$folder/.fetch-XXXXXX")
    mkdir -p "$room"/{lists/partial,cache/archives/partial,root}
    echo "deb [signed-by=$keyring] $(mirror) $suite main" >"$room/sources.list"
    local options=(
        -qq
        -o "Dir::Etc::sourcelist=$room/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$room/lists" -o "Dir::Cache=$room/cache"
        -o Dir::State::status=/dev/null -o APT::Sandbox::User=
        -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false
    )
    if apt-get "${options[@]}" update >"$room/log" 2>&1 &&
        (cd "$room" && apt-get "${options[@]}" download "$package" >>"$room/log" 2>&1) &&
        dpkg -x "$room"/*.deb "$room/root" && cp "$room/root/$path" "$folder/$name.new"; then
        mv "$folder/$name.new" "$folder/$name"
        rm -rf "$room"
    else
        echo "fetch-peers: no $package of Debian $suite here:" >&2
        tail -n 3 "$room/log" >&2
        rm -rf "$room"
        return 1
    fi
}

status=0
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
unpack "$release" etcd-server usr/bin/etcd etcd || status=1
unpack bullseye consul usr/bin/consul consul || status=1
echo "$folder"
exit "$status"
