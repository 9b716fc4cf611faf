//! A bare host becomes a server, others join it, and each step says what is amiss and what comes next.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use weft_tests::eventually;
use weft_tests::ports::free_port;
use weft_tests::process::{Daemon, Outcome, run_weft, weft};
use weft_tests::tools::{have, run};

/// A command ends at once; the limit is for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A host with folders of its own, in place of `/etc/weft` and `/var/lib/weft`.
struct Host {
    name: &'static str,
    folder: TempDir,
    rpc: String,
    http: String,
    dns: String,
}

impl Host {
    fn new(name: &'static str) -> Self {
        let local = || format!("127.0.0.1:{}", free_port());
        let folder = tempfile::tempdir().expect("a folder");
        Self { name, folder, rpc: local(), http: local(), dns: local() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }

    /// Runs a set-up command that starts nothing.
    fn set_up(&self, args: &[&str]) -> Outcome {
        let (config, state) = (self.text("etc"), self.text("state"));
        let own = ["--no-start", "--config-dir", &config, "--state-dir", &state];
        run_weft(&[args, &own, &["--node-name", self.name]].concat(), LIMIT)
    }

    fn becomes_server(&self, args: &[&str]) -> Outcome {
        let own = ["--bind-addr", &self.rpc, "--advertise-addr", &self.rpc];
        self.set_up(&[&["server"], args, &own[..]].concat())
    }

    fn joins(&self, token: &str, more: &[&str]) -> Outcome {
        let own = ["--advertise-addr", "127.0.0.1", "--http-addr", &self.http];
        let dns = ["--dns-addr", &self.dns];
        self.set_up(&[&["agent", "join", token], &own[..], &dns[..], more].concat())
    }

    fn starts(&self, role: &str) -> Daemon {
        let config = self.text(&format!("etc/{role}.hcl"));
        let mut daemon = Daemon::weft(role, self.folder.path(), &[role, "--config", &config]);
        // Servers that come and go are told of by those that stay.
        if role == "server" {
            daemon.expect_log("");
        }
        daemon
    }

    fn token(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a token").trim().to_owned()
    }
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.output)
        .unwrap_or_else(|error| panic!("{error}:\n{}", outcome.output))
}

/// Finds what `weft check` says of a thing.
fn standing(checked: &Value, what: &str) -> String {
    let findings = checked["Findings"].as_array().expect("findings");
    let found = findings.iter().find(|it| it["What"] == what);
    found.unwrap_or_else(|| panic!("{what} is not in {checked}"))["Standing"].to_string()
}

#[test]
fn a_host_founds_a_mesh_and_others_join_by_what_it_prints() {
    let (first, second) = (Host::new("host1"), Host::new("host2"));
    let done = first.becomes_server(&["init", "--datacenter", "fra1"]);
    assert_eq!(done.code, Some(0), "{}", done.output);
    for part in ["weft server --config", "weft agent join --token-file", "weft server join"] {
        assert!(done.output.contains(part), "{part:?} is not in:\n{}", done.output);
    }
    let again = first.becomes_server(&["init"]);
    assert_eq!(again.code, Some(1), "{}", again.output);
    assert!(again.output.contains("this host is set up"), "{}", again.output);
    let _server = first.starts("server");

    // A second server, by the token for servers.
    let token = first.token("state/server/server-join-token");
    let done = second.becomes_server(&["join", &token, "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.output);
    let _second = second.starts("server");

    // Hosts; before, the check tells whether the servers can be reached.
    let (file, token) =
        (first.text("state/server/join-token"), first.token("state/server/join-token"));
    let fit = run_weft(
        &["check", "--join-token-file", &file, "--json", "--http-addr", &first.http],
        LIMIT,
    );
    let fit = json(&fit);
    assert_eq!((&fit["Member"], standing(&fit, "join token")), (&false.into(), "\"ok\"".into()));
    assert_eq!(standing(&fit, &format!("server {}", first.rpc)), "\"ok\"");
    let done = json(&first.joins(&token, &["--json"]));
    assert_eq!((&done["Node"], &done["Datacenter"]), (&"host1".into(), &"fra1".into()), "{done}");
    let agent = first.starts("agent");
    eventually(LIMIT, "all is well", || {
        let checked = run_weft(&["check", "--json", "--http-addr", &first.http], LIMIT);
        let found = json(&checked);
        let all = ["agent", "certificate", "servers", "clock", "releases", "hosts", "checks"];
        match all.iter().find(|what| standing(&found, what) != "\"ok\"") {
            None => Ok(()),
            Some(what) => Err(format!("{what}:\n{found}")),
        }
    });
    drop(agent);
    let again = first.joins(&token, &[]);
    assert_eq!(again.code, Some(1), "{}", again.output);
    assert!(again.output.contains("this host is set up"), "{}", again.output);
}

#[test]
fn a_host_that_cannot_join_is_told_why_and_is_left_as_it_was() {
    let (first, other) = (Host::new("host1"), Host::new("host2"));
    assert_eq!(first.becomes_server(&["init"]).code, Some(0));
    let server = first.starts("server");
    let token = first.token("state/server/join-token");
    let for_servers = first.token("state/server/server-join-token");
    let taken = TcpListener::bind(&other.http).expect("a port");
    let own = format!("(process {})", std::process::id());
    let is_refused = |outcome: Outcome, parts: &[&str]| {
        assert_eq!(outcome.code, Some(1), "{}", outcome.output);
        for part in parts {
            assert!(outcome.output.contains(part), "{part:?} is not in:\n{}", outcome.output);
        }
        assert!(!outcome.output.contains(&token[10..]), "the token is not shown");
        assert!(!other.path("etc").exists() && !other.path("state").exists());
    };
    is_refused(other.joins(&token, &[]), &["taken by", &own, "--http-addr", "nothing was changed"]);
    drop(taken);
    is_refused(other.joins("weft1-nonsense", &[]), &["join token", "incomplete"]);
    is_refused(other.joins(&for_servers, &[]), &["it is for the role server, not agent"]);
    drop(server);
    is_refused(other.joins(&token, &[]), &["cannot be reached", "firewall"]);
    let checked = run_weft(&["check", "--join", &token, "--http-addr", &other.http], LIMIT);
    assert_eq!(checked.code, Some(1), "{}", checked.output);
    assert!(checked.output.contains("to mend first; each says how"), "{}", checked.output);
}

#[test]
fn a_host_whose_clock_is_off_is_told_that_and_waits_for_nothing() {
    if !have("a_host_whose_clock_is_off_is_told_that_and_waits_for_nothing", &["faketime"]) {
        return;
    }
    let (first, other) = (Host::new("host1"), Host::new("host2"));
    assert_eq!(first.becomes_server(&["init"]).code, Some(0));
    let _server = first.starts("server");
    let weft = weft().display().to_string();
    let (token, config, state) =
        (first.text("state/server/join-token"), other.text("etc"), other.text("state"));
    let join = ["agent", "join", "--token-file", &token, "--config-dir", &config];
    let more = ["--state-dir", &state, "--advertise-addr", "127.0.0.1", "--node-name", "host2"];
    let doors = ["--http-addr", &other.http, "--dns-addr", &other.dns, "--no-start"];
    for (offset, words) in
        [("-5h", "the server's certificate is good only from"), ("+50h", "it was good until")]
    {
        let args = [&["-f", offset, &weft][..], &join, &more, &doors].concat();
        let ran = run("faketime", &args);
        let said = ran.ok().expect_err("it is refused");
        assert!(said.starts_with("exit Some(1)") && said.contains(words), "{offset}: {said}");
    }
    assert!(!other.path("etc").exists() && !other.path("state").exists());
}
