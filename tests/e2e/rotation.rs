//! Leaves, intermediates, the root and its provider change while a mesh is at work: no request
//! fails, no connection breaks, nothing is restarted.

mod forced;
mod load;
mod over_tls;
mod servers;

use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::process::run_weft;
use weft_tests::{App, Cluster, TestAgent, Vault, eventually, tools, vault};

use crate::story::{Shop, speaks};
use load::{Echo, Load, Stream};

const ROOTS: &str = "/v1/connect/ca/roots";
const CONFIGURATION: &str = "/v1/connect/ca/configuration";
/// Roots go two minutes after the last change: leaves live for a minute here.
const PRUNE_LIMIT: Duration = Duration::from_secs(240);

#[test]
fn leaf_intermediate_root_and_provider_change_without_a_failed_request() {
    let cluster = Cluster::start_with(&json!({ "leaf_lifetime": "1m" }));
    let mesh = Mesh::start(&cluster);
    let first = mesh.serials();
    let load = Load::start(&mesh.shop);
    let vault = Vault::start();

    // Other intermediates: shorter ones, which are made at once.
    put(
        &cluster,
        &json!({ "Provider": "consul", "Config": {
        "LeafCertTTL": "1m", "IntermediateCertTTL": "3m", "RootCertTTL": "24h",
    } }),
    );
    assert_eq!(roots(&cluster).len(), 1, "the root stays");

    // Another root of ours.
    let api = cluster.agent.api().addr().to_string();
    let rotated =
        run_weft(&["ca", "rotate", "--key-type", "ec", "--http-addr", &api], SPREAD_LIMIT);
    assert_eq!(rotated.code, Some(0), "{}", rotated.output);
    agents_show_what_servers_show(&cluster);
    let second = mesh.wait_renewed(&first, "after the root");

    // Vault's root, and one of ours again.
    let access = json!({
        "Address": vault.url(), "Token": vault::TOKEN, "RootPKIPath": "pki",
        "Namespace": vault::NAMESPACE, "LeafCertTTL": "1m", "IntermediateCertTTL": "3m",
    });
    put(&cluster, &json!({ "Provider": "vault", "Config": access }));
    let third = mesh.wait_renewed(&second, "after the change to Vault");
    assert!(vault.calls("/v1/pki/root/sign-intermediate") > 0);
    let shown = cluster.agent.api().get(CONFIGURATION).expect("an answer");
    assert_eq!(shown.json()["Provider"], "vault");
    assert!(!shown.body.contains(vault::TOKEN), "secrets are not shown");
    put(
        &cluster,
        &json!({ "Provider": "consul", "Config": {
        "LeafCertTTL": "1m", "IntermediateCertTTL": "3m", "RootCertTTL": "24h",
    } }),
    );
    assert!(vault.calls("/v1/pki/root/sign-self-issued") > 0, "Vault certifies the next root");
    let fourth = mesh.wait_renewed(&third, "after the change back");
    assert_eq!(roots(&cluster).len(), 4, "all are trusted for a while");

    // Leaves and intermediates go on by themselves; the roots before go.
    mesh.wait_renewed(&fourth, "when their time came");
    eventually(PRUNE_LIMIT, "only the newest root is trusted", || match roots(&cluster).len() {
        1 => Ok(()),
        count => Err(format!("{count} roots")),
    });
    let report = load.end();
    tools::tell(&format!("rotation: {report:?}"));
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.requests > 1_000 && report.echoes > 100 && report.messages > 100, "{report:?}");
    assert!(report.connections > 100, "{report:?}");
}

#[test]
fn vault_is_logged_in_to_in_each_way_and_its_refusals_are_told() {
    let mut cluster = Cluster::start();
    let vault = Vault::start();
    let of = |more: Value| {
        let mut config = json!({
            "Address": vault.url(), "RootPKIPath": "pki", "Namespace": vault::NAMESPACE,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        json!({ "Provider": "vault", "Config": config })
    };
    let refused = |body: &Value, expected: &str| {
        let answer = cluster.agent.api().put(CONFIGURATION, body).expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(expected), "{expected:?}: {}", answer.body);
    };
    refused(&of(json!({ "Token": "hvs.of-somebody" })), "403 Forbidden: permission denied");
    refused(&of(json!({ "Token": vault::TOKEN, "Namespace": "team-b" })), "permission denied");
    let wrong = json!({ "Type": "approle", "Params": { "role_id": "weft", "secret_id": "x" } });
    refused(&of(json!({ "AuthMethod": wrong })), "the login with 400 Bad Request: invalid role");
    refused(&of(json!({})), "Config.Token: is missing");
    vault.seal(true);
    refused(&of(json!({ "Token": vault::TOKEN })), "Vault is sealed");
    vault.seal(false);
    assert_eq!(roots(&cluster).len(), 1, "nothing has changed");

    let file = cluster.folder.path().join("jwt");
    std::fs::write(&file, "a.signed.token\n").expect("a file");
    let methods = [
        json!({ "Type": "approle", "Params": { "role_id": "weft", "secret_id": "open sesame" } }),
        json!({ "Type": "jwt", "Params": { "role": "weft", "jwt": "a.signed.token" } }),
        json!({ "Type": "kubernetes", "Params": { "role": "weft", "token_path": file } }),
    ];
    for method in methods {
        put(&cluster, &of(json!({ "AuthMethod": method })));
        let shown = cluster.agent.api().get(CONFIGURATION).expect("an answer");
        assert_eq!(shown.json()["Config"]["AuthMethod"]["Type"], method["Type"]);
        assert!(!shown.body.contains("sesame") && !shown.body.contains("a.signed"), "{shown:?}");
        // What is shown is written back, without the secret, and changes nothing.
        put(&cluster, &shown.json());
        assert_eq!(roots(&cluster).len(), 2);
    }
    // A server starts with what it has while Vault is away.
    vault.seal(true);
    cluster.agent.process.expect_log("");
    cluster.server.process.terminate();
    cluster.server.restart();
    eventually(SPREAD_LIMIT, "the server answers", || {
        cluster.agent.api().get(ROOTS)?.ok().map(|_| ())
    });
}

fn put(cluster: &Cluster, body: &Value) {
    let answer = cluster.agent.api().put(CONFIGURATION, body).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn roots(cluster: &Cluster) -> Vec<Value> {
    let answer = cluster.agent.api().get(ROOTS).expect("an answer");
    answer.json()["Roots"].as_array().cloned().unwrap_or_default()
}

/// The roots with all that is known of them, the one before among them.
fn agents_show_what_servers_show(cluster: &Cluster) {
    eventually(SPREAD_LIMIT, "the agent's page shows the same roots", || {
        let shown = cluster.agent.api().get("/v1/agent/connect/ca/roots")?.ok()?.json();
        let (all, known) = (shown["Roots"].as_array().cloned().unwrap_or_default(), roots(cluster));
        let is_old = |root: &Value| root["RotatedOutAt"].is_string() && root["Active"] == false;
        let is_crossed = |root: &Value| root["IntermediateCerts"][0].is_string();
        match all == known && all.iter().any(is_old) && all.iter().any(is_crossed) {
            true => Ok(()),
            false => Err(format!("{shown} and not {known:?}")),
        }
    });
}

/// A caller with its sidecar, and three services with theirs: HTTP, TCP and gRPC.
struct Mesh<'a> {
    agent: &'a TestAgent,
    shop: Shop,
    _echo: Echo,
    _stream: Stream,
    _web: App,
    proxies: Vec<weft_tests::TestProxy>,
}

impl<'a> Mesh<'a> {
    fn start(host: &'a impl AsRef<TestAgent>) -> Self {
        let agent = host.as_ref();
        let (web, echo, stream) = (App::start("web"), Echo::start(), Stream::start());
        let mut proxies = Vec::new();
        for (name, protocol, port) in [
            ("web", "http", web.port()),
            ("feed", "tcp", echo.port()),
            ("chat", "grpc", stream.port()),
        ] {
            speaks(agent, name, protocol);
            agent.register(&meshed(name, name, port, &[]));
            proxies.push(agent.sidecar(name));
            agent.intend("shop", name, "allow");
        }
        let shop = Shop::open(agent, &["web", "feed", "chat"]);
        shop.wait_status("web", 200);
        Self { agent, shop, _echo: echo, _stream: stream, _web: web, proxies }
    }

    /// Takes no warning of a sidecar for a fault.
    fn expect_warnings(&mut self) {
        for proxy in self.proxies.iter_mut().chain([&mut self.shop.proxy]) {
            proxy.process.expect_log("");
        }
    }

    /// The serials of all leaves.
    fn serials(&self) -> Vec<String> {
        let serial = |name: &&str| {
            let path = format!("/v1/agent/connect/ca/leaf/{name}");
            let answer = self.agent.api().get(&path).and_then(weft_tests::Answer::ok);
            answer.expect("a leaf").json()["SerialNumber"].to_string()
        };
        ["shop", "web", "feed", "chat"].iter().map(serial).collect()
    }

    /// Waits until every service has another leaf than these.
    fn wait_renewed(&self, before: &[String], when: &str) -> Vec<String> {
        eventually(Duration::from_secs(90), &format!("leaves are renewed {when}"), || {
            let now = self.serials();
            match now.iter().zip(before).all(|(now, before)| now != before) {
                true => Ok(now),
                false => Err(format!("{now:?} after {before:?}")),
            }
        })
    }
}
