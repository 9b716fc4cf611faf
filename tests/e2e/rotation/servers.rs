//! Rotation with three servers: each follows, and one that lost its leader on the way is finished
//! by the others, while calls go on.

use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::run_weft;
use weft_tests::servers::{CLUSTER_LIMIT, ClusterServer};
use weft_tests::{Servers, TestAgent, Vault, eventually, tools, vault};
use x509_parser::pem::parse_x509_pem;

use super::load::Load;
use super::{CONFIGURATION, Mesh, ROOTS};

/// What every server asks of Vault before it signs under its root.
const SIGN: &str = "/v1/pki/root/sign-intermediate";
/// An intermediate is asked for again some time after a failure.
const FOLLOW_LIMIT: Duration = Duration::from_secs(120);

fn active(server: &ClusterServer) -> Result<Value, String> {
    let shown = server.api().get(ROOTS)?.ok()?.json();
    let all = shown["Roots"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|root| root["Active"] == true).ok_or_else(|| shown.to_string())
}

/// Waits until each of these servers signs under the root that is active now, and returns it.
fn wait_signing(servers: &Servers, of: &[usize]) -> Value {
    let root = eventually(CLUSTER_LIMIT, "a root is active", || active(&servers.all[of[0]]));
    let pem = root["RootCert"].as_str().expect("a certificate");
    let (_, block) = parse_x509_pem(pem.as_bytes()).expect("PEM");
    let end = block.parse_x509().expect("a certificate").validity().not_after.timestamp();
    for at in of {
        eventually(FOLLOW_LIMIT, &format!("server {at} signs under {root}"), || {
            let path = "/v1/agent/metrics?format=prometheus";
            let text = servers.all[*at].api().get(path)?.ok()?.body;
            let name = "weft_server_ca_root_valid_before_seconds ";
            let shown = text.lines().find_map(|line| line.strip_prefix(name));
            match shown.and_then(|text| text.trim().parse::<f64>().ok()) {
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below")]
                Some(shown) if (shown - end as f64).abs() < 0.5 => Ok(()),
                other => Err(format!("{other:?} and not {end}")),
            }
        });
    }
    root
}

#[test]
fn three_servers_follow_each_root_and_finish_a_rotation_without_its_leader() {
    let vault = Vault::start();
    let mut servers = Servers::start_with(3, &json!({ "leaf_lifetime": "1m" }));
    servers.wait_members(0, 3, 0);
    let token = servers.all[0].data().join("join-token");
    let mut agent = TestAgent::start(servers.folder.path(), "node1", &token);
    // Its server may be the one that is killed.
    agent.process.expect_log("");
    let mesh = Mesh::start(&agent);
    let before = wait_signing(&servers, &[0, 1, 2]);
    let first = mesh.serials();
    let load = Load::start(&mesh.shop);

    // A root of ours, asked for at a server that does not lead.
    let leader = servers.leader(0);
    let follower = (leader + 1) % 3;
    let api = servers.all[follower].api().addr().to_string();
    let rotated = run_weft(&["ca", "rotate", "--http-addr", &api], CLUSTER_LIMIT);
    assert_eq!(rotated.code, Some(0), "{}", rotated.output);
    let ours = wait_signing(&servers, &[follower, leader, (leader + 2) % 3]);
    assert_ne!(ours["ID"], before["ID"]);
    let second = mesh.wait_renewed(&first, "after the root");

    // Vault signs what proves its root, and nothing more: its root is active, and no server can
    // sign under it yet. That is where the leader dies.
    vault.hold(SIGN, vault.calls(SIGN) + 1);
    let access = json!({ "Provider": "vault", "Config": {
        "Address": vault.url(), "Token": vault::TOKEN, "RootPKIPath": "pki",
        "Namespace": vault::NAMESPACE, "LeafCertTTL": "1m", "IntermediateCertTTL": "3m",
    } });
    let answer = servers.all[follower].api().put(CONFIGURATION, &access).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually(SPREAD_LIMIT, "Vault is asked for an intermediate", || match vault.held() {
        0 => Err("nobody asks".to_owned()),
        _ => Ok(()),
    });
    let leader = servers.leader(follower);
    servers.all[leader].process.kill();
    let left: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let next = eventually(CLUSTER_LIMIT, "another one leads", || match servers.leader(left[0]) {
        at if at == leader => Err(format!("{at}")),
        at => Ok(at),
    });
    let of_vault = eventually(CLUSTER_LIMIT, "Vault's root is active", || {
        let root = active(&servers.all[next])?;
        if root["ID"] == ours["ID"] { Err(root.to_string()) } else { Ok(root) }
    });
    vault.let_go();
    assert_eq!(wait_signing(&servers, &left)["ID"], of_vault["ID"]);
    servers.all[leader].restart();
    assert_eq!(wait_signing(&servers, &[leader])["ID"], of_vault["ID"]);
    mesh.wait_renewed(&second, "under Vault's root");

    let report = load.end();
    tools::tell(&format!("rotation with three servers: {report:?}"));
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.requests > 0 && report.echoes > 0 && report.messages > 0, "{report:?}");
}
