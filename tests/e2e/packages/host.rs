//! The life of a host that has Weft from its package: installed, configured, hung, killed, upgraded
//! under load, removed, purged. What runs is booted Debian; nothing of it is ours but the package.

use serde_json::Value;
use tempfile::TempDir;
use weft_tests::tools;

use super::machine::{Machine, base};
use super::package;

const NAME: &str = "host_with_packages";
const ONBOARDING: &str = "onboarding_with_packages";
/// Where the caller's sidecar takes calls to `web`.
const UPSTREAM: u16 = 9101;
/// Where the application listens.
const APPLICATION: u16 = 8080;
/// All units that run on the host.
const RUNNING: [&str; 4] = ["weft-server", "weft-agent", "weft-proxy@web-1", "weft-proxy@shop-1"];

/// All that could be started before anything is configured.
const UNCONFIGURED: [&str; 4] = ["weft-server", "weft-agent", "weft-proxy", "weft-proxy@web-1"];

const CONFIGURE: &str = r#"
cat > /etc/weft/server.hcl <<END
data_dir  = "/var/lib/weft/server"
bind_addr = "127.0.0.1:8300"
END
cat > /etc/weft/agent.hcl <<END
data_dir  = "/var/lib/weft/agent"
bind_addr = "127.0.0.1"
service {
  name = "web"
  id   = "web-1"
  port = 8080
  connect { sidecar_service {} }
}
service {
  name = "shop"
  id   = "shop-1"
  port = 8081
  connect { sidecar_service { proxy { upstreams = [{ destination_name = "web", local_bind_port = 9101 }] } } }
}
END
systemctl -q enable --now weft-server
install -m 640 -g weft /var/lib/weft/server/join-token /etc/weft/join-token
systemctl -q enable --now weft-agent weft-proxy@web-1 weft-proxy@shop-1
cat > /tmp/web.hcl <<END
Kind     = "service-defaults"
Name     = "web"
Protocol = "http"
END
weft config write /tmp/web.hcl
weft intention create --allow shop web
"#;

#[test]
fn a_host_lives_by_its_package_from_installation_to_purge() {
    let Some((host, _folder)) = booted(NAME, &["1.0.0", "1.1.0"]) else { return };
    install(&host);
    host.must(CONFIGURE);
    let mut load = host.load(APPLICATION, UPSTREAM);
    load.reach();
    is_as_promised(&host);
    reload(&host, "weft-proxy@shop-1");

    hang(&host);
    for unit in RUNNING {
        kill(&host, unit);
    }
    load.reach();

    load.begin();
    load.go_on();
    upgrade(&host);
    load.go_on();
    let (answered, failed) = load.counts();
    tools::tell(&format!("upgraded in place: {answered} requests, {failed} failed"));
    assert_eq!(failed, 0);
    drop(load);
    // Who is killed leaves warnings with the others; nothing of it is an error.
    assert_eq!(host.must("journalctl -u 'weft-*' | grep ' ERROR ' || true"), "");

    remove(&host);
}

/// Boots a Debian that has packages of these versions in a folder; `None` skips the test.
fn booted(test: &str, versions: &[&str]) -> Option<(Machine, TempDir)> {
    let programs = ["dpkg-deb", "debootstrap", "systemd-nspawn", "nsenter", "ip", "python3"];
    if !tools::have(test, &programs) {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let started =
        base().map_err(|reason| format!("no Debian to boot ({reason})")).and_then(|base| {
            for version in versions {
                package("deb/build.sh", version, folder.path());
            }
            let host = Machine::boot(&base, folder.path());
            host.map_err(|reason| format!("no machine can be booted ({reason})"))
        });
    match started {
        Ok(host) => Some((host, folder)),
        Err(reason) => {
            tools::skip(test, &reason);
            None
        }
    }
}

/// What is found wrong on the host, or would be in the way of Weft.
fn amiss(host: &Machine, role: &str) -> Vec<String> {
    let checked = host.run(&["weft", "check", "--role", role, "--json"]).stdout;
    let checked: Value = serde_json::from_str(&checked).unwrap_or_else(|error| {
        panic!("{error}: {checked}");
    });
    let findings = checked["Findings"].as_array().cloned().unwrap_or_default();
    let bad = findings.iter().filter(|finding| finding["Standing"] == "FAIL");
    bad.map(|finding| format!("{} {}", finding["What"], finding["Detail"])).collect()
}

#[test]
fn a_bare_host_becomes_a_mesh_with_two_commands() {
    let Some((host, _folder)) = booted(ONBOARDING, &["1.0.0"]) else { return };
    host.must("dpkg -i /pkg/weft_1.0.0_*.deb");
    let local = "--advertise-addr 127.0.0.1";
    let said = host.must(&format!("weft server init {local} --datacenter fra1"));
    assert!(said.contains("A mesh was founded; its first server is 127.0.0.1:8300"), "{said}");
    let token = "--token-file /var/lib/weft/server/join-token";
    assert!(said.contains(&format!("weft agent join {token}")), "{said}");
    let said = host.must(&format!("weft agent join {token} {local}"));
    assert!(said.contains("is a member of fra1 now") && said.contains("weft check"), "{said}");
    for unit in ["weft-server", "weft-agent"] {
        let state =
            host.must(&format!("systemctl is-active {unit} && systemctl is-enabled {unit}"));
        assert_eq!(state.split_whitespace().collect::<Vec<_>>(), ["active", "enabled"], "{unit}");
        let owner = host.must("stat -c %U /var/lib/weft/agent/member.json /var/lib/weft/server");
        assert_eq!(owner.split_whitespace().collect::<Vec<_>>(), ["weft", "weft"]);
    }
    assert_eq!(host.must("stat -c '%U:%G %a' /etc/weft/agent.hcl"), "root:weft 640");
    assert_eq!(host.must("cat /etc/weft/*.hcl | grep -c weft1- || true"), "0", "no token is kept");
    host.must("weft services register --name web --port 8080");
    host.wait("weft catalog services | grep -c '^web' || true", "1");
    assert_eq!(amiss(&host, "agent"), [] as [String; 0]);
    // Again is told, and changes nothing.
    let again = host.run(&["weft", "agent", "join", "weft1-x"]);
    assert!(again.code == Some(1) && again.stderr.contains("this host is set up"), "{again:?}");

    // Out of the mesh, and nobody keeps it from coming back in.
    host.must("weft leave");
    host.wait("systemctl is-active weft-agent || true", "inactive");
}

/// Installs the package: a user, folders, and nothing that runs before it is configured.
fn install(host: &Machine) {
    host.must("dpkg -i /pkg/weft_1.0.0_*.deb");
    host.must("systemctl start weft-server weft-agent weft-proxy weft-proxy@web-1");
    for unit in UNCONFIGURED {
        assert_eq!(host.run(&["systemctl", "is-active", unit]).stdout.trim(), "inactive", "{unit}");
    }
    assert_eq!(host.must("stat -c '%U:%G %a' /etc/weft"), "root:weft 750");
}

/// What the units promise holds while they run.
fn is_as_promised(host: &Machine) {
    let members = host.must("weft members");
    assert!(members.lines().filter(|line| line.contains("alive")).count() == 2, "{members}");
    for unit in RUNNING {
        let pid = host.main_process(unit);
        let status = host.must(&format!("cat /proc/{pid}/status"));
        let user = host.must(&format!("stat -c %U /proc/{pid}"));
        assert_eq!(user, "weft", "{unit}");
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{unit}: {status}");
        }
    }
    // The token was told by the service manager alone.
    let token = "/run/credentials/weft-agent.service/join-token";
    assert_eq!(host.must(&format!("cmp {token} /etc/weft/join-token && echo same")), "same");
}

/// An agent that stands still is ended by its watchdog and started again.
fn hang(host: &Machine) {
    host.must(
        "mkdir -p /run/systemd/system/weft-agent.service.d
         printf '[Service]\nWatchdogSec=5s\nTimeoutAbortSec=1s\n' \
         > /run/systemd/system/weft-agent.service.d/test.conf
         systemctl daemon-reload && systemctl restart weft-agent",
    );
    let pid = host.main_process("weft-agent");
    host.must(&format!("kill -STOP {pid}"));
    host.wait("journalctl -u weft-agent | grep -c 'Watchdog timeout'", "1");
    host.must("rm -r /run/systemd/system/weft-agent.service.d && systemctl daemon-reload");
    let restarts = "systemctl show --value -p NRestarts weft-agent";
    host.wait(&format!("systemctl is-active -q weft-agent && {restarts}"), "1");
    assert_ne!(host.main_process("weft-agent"), pid);
}

/// The reload of a proxy's unit ends when another process serves in its place.
fn reload(host: &Machine, unit: &str) {
    let before = host.main_process(unit);
    host.must(&format!("systemctl reload {unit}"));
    assert_ne!(host.main_process(unit), before);
}

/// A unit that is killed comes back by itself.
fn kill(host: &Machine, unit: &str) {
    let pid = host.main_process(unit);
    host.must(&format!("kill -KILL {pid}"));
    let script = format!(
        "test $(systemctl show --value -p MainPID {unit}) != {pid} && systemctl is-active {unit}"
    );
    host.wait(&script, "active");
}

/// The next version takes the place of this one: what runs is new, and nothing of the host's own is
/// touched.
fn upgrade(host: &Machine) {
    let before = RUNNING.map(|unit| host.main_process(unit));
    let config = host.must("sha256sum /etc/weft/*");
    host.must("dpkg -i /pkg/weft_1.1.0_*.deb");
    for (unit, before) in RUNNING.iter().zip(&before) {
        let script = format!(
            "test $(systemctl show --value -p MainPID {unit}) != {before} && \
             systemctl is-active {unit}"
        );
        host.wait(&script, "active");
        // None of them failed on the way: proxies were never started by the service manager.
        let result = host.must(&format!("systemctl show --value -p Result {unit}"));
        assert_eq!(result, "success", "{unit}");
        // So it hears of their end at once.
        let pid = host.main_process(unit);
        assert_eq!(host.must(&format!("ps -o ppid= -p {pid}")), "1", "{unit}");
    }
    for proxy in ["shop", "web"] {
        let listed = host.must("weft ps --json");
        assert!(listed.contains(&format!("{proxy}-1-sidecar-proxy")), "{listed}");
    }
    assert_eq!(host.must("sha256sum /etc/weft/*"), config);
    assert_eq!(host.must("dpkg-query -W -f '${Version}' weft"), "1.1.0");
}

/// Removal ends what runs and keeps what the host has; a purge leaves nothing.
fn remove(host: &Machine) {
    host.must("dpkg -r weft");
    // All of them drained, the proxies that took over as well.
    assert_eq!(host.must("systemctl list-units --plain --no-legend --state=failed 'weft*'"), "");
    assert_eq!(host.must("journalctl | grep 'weft-proxy.*Killing process' || true"), "");
    assert_eq!(host.must("pgrep -u weft -c || true"), "0");
    host.must("test -s /etc/weft/agent.hcl && test -s /var/lib/weft/agent/member.json");
    let wanted = "ls /etc/systemd/system/multi-user.target.wants | grep weft || true";
    assert_eq!(host.must(wanted), "");
    host.must("dpkg -P weft");
    assert_eq!(host.must("ls -d /etc/weft /var/lib/weft /var/log/weft /run/weft 2>&- || true"), "");
    assert_eq!(host.must("getent passwd weft || echo nobody"), "nobody");
}
