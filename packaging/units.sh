#!/bin/sh
# What packages have the service manager do.
#
#   /usr/lib/weft/units prepare   make user and folders, read the units
#   /usr/lib/weft/units upgrade   the same; then put the new program into force in what runs: servers and the
#                                 agent start anew, proxies hand their connections over
#   /usr/lib/weft/units remove    end everything, take rules of capture away, and start nothing at the next boot
#   /usr/lib/weft/units purge     remove configuration, state, logs and user
set -eu

booted() { [ -d /run/systemd/system ]; }

proxies() { systemctl list-units --plain --no-legend --state=active "$@" 'weft-proxy.service' 'weft-proxy@*.service' | cut -d ' ' -f 1; }

prepare() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers weft.conf
        # What is only known to a running host is made at its start.
        systemd-tmpfiles --create weft.conf || true
    else
        getent passwd weft >/dev/null || useradd --system --user-group --home-dir /var/lib/weft \
            --shell /usr/sbin/nologin weft
        install -d -o root -g weft -m 750 /etc/weft
        install -d -m 755 /var/lib/weft
    fi
    if booted; then systemctl daemon-reload; fi
}

# A unit that does not come up again is told, and keeps no package from being installed.
upgrade() {
    prepare
    booted || return 0
    for unit in weft-server.service weft-agent.service; do
        systemctl try-restart "$unit" || echo "$unit does not start: journalctl -u $unit" >&2
    done
    for unit in $(proxies); do
        systemctl reload "$unit" || echo "$unit goes on with the version before: journalctl -u $unit" >&2
    done
}

remove() {
    if booted; then
        systemctl stop weft-proxy.service 'weft-proxy@*.service' weft-agent.service weft-server.service
        systemctl disable --quiet weft-proxy@.service weft-proxy.service weft-agent.service weft-server.service || true
    fi
    # Rules of transparent capture would lead calls to proxies that are gone.
    /usr/bin/weft capture remove || echo "rules of capture may be left: weft capture show" >&2
}

purge() {
    rm -rf /etc/weft /var/lib/weft /var/log/weft /run/weft
    if getent passwd weft >/dev/null; then userdel weft 2>/dev/null || true; fi
    if getent group weft >/dev/null; then groupdel weft 2>/dev/null || true; fi
}

case ${1:-} in
prepare | upgrade | remove | purge) "$1" ;;
*)
    echo "say prepare, upgrade, remove or purge" >&2
    exit 2
    ;;
esac
