//! Operators make the tokens with which hosts become members, and take them back.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::rpc::channel_tls;
use weft_runtime::tls::{self, ClientTlsCell};
use weft_tests::Servers;
use weft_tests::process::run_weft;
use weft_tests::servers::CLUSTER_LIMIT;

#[test]
fn servers_and_agents_join_with_tokens_that_operators_make_and_revoke() {
    let mut servers = Servers::start(1);
    let addr = servers.all[0].api().addr().to_string();
    let weft = |args: &[&str]| {
        let args =
            ["operator", "join-token"].iter().chain(args).copied().chain(["--http-addr", &addr]);
        run_weft(&args.collect::<Vec<_>>(), CLUSTER_LIMIT)
    };
    let made = weft(&["create", "--role", "server", "--uses", "2", "--ttl", "10m", "--json"]);
    assert_eq!(made.code, Some(0), "{}", made.output);
    let made: Value = serde_json::from_str(&made.output).expect("JSON");
    let token = servers.folder.path().join("for-two");
    std::fs::write(&token, made["Token"].as_str().expect("a text")).expect("written");
    servers.add_with(&token, &json!({}));
    servers.add_with(&token, &json!({}));
    servers.wait_members(0, 3, 0);

    // A third is told why not, in one line, and leaves nothing behind.
    let refused = servers.refused(&token, "server9");
    assert!(refused.contains("the join token has been used up"), "{refused}");
    let id = made["ID"].as_str().expect("an id");
    let listed = weft(&["list"]).output;
    let line = listed.lines().find(|line| line.contains(id)).expect("it is listed");
    assert!(line.contains("used up") && line.contains("server3"), "{line}");
    assert!(!listed.contains("weft1-"), "{listed}");

    let made = weft(&["create", "--node", "node7", "--json"]);
    let made: Value = serde_json::from_str(&made.output).expect("JSON");
    let id = made["ID"].as_str().expect("an id").to_owned();
    std::fs::write(&token, made["Token"].as_str().expect("a text")).expect("written");
    let agent = |node: &str| {
        let data = servers.folder.path().join(node);
        let args = ["agent", "--node-name", node, "--data-dir", &data.to_string_lossy()]
            .map(str::to_owned);
        let args: Vec<String> = args
            .into_iter()
            .chain(["--join-token-file".to_owned(), token.to_string_lossy().into_owned()])
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_weft(&args, CLUSTER_LIMIT)
    };
    let outcome = agent("node8");
    assert!(
        outcome.output.contains("the join token is for the node \"node7\""),
        "{}",
        outcome.output
    );
    let revoked = weft(&["revoke", &id]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.output);
    let outcome = agent("node7");
    assert!(outcome.output.contains("the join token has been revoked"), "{}", outcome.output);
    // An agent's token makes no server.
    let refused = servers.refused(&token, "server9");
    assert!(refused.contains("for the role agent"), "{refused}");
    // A token of another cluster leads nowhere: its servers would have to show another root.
    let mut other = Servers::start(1);
    std::fs::copy(other.all[0].data().join("server-join-token"), &token).expect("copied");
    other.all[0].process.kill();
    std::fs::remove_dir_all(other.all[0].data()).expect("removed");
    other.all[0].restart();
    let refused = servers.refused(&token, "server9");
    assert!(refused.contains("not of the cluster that the join token is for"), "{refused}");
}

/// Asks at a server to be made a member, as a host without a certificate.
async fn ask_to_join(token: &JoinToken, server: &str, node: &str) -> Result<(), tonic::Status> {
    let pinned = tls::client_config_pinned(&token.root_fingerprint, &["h2"]).expect("a config");
    let door = channel_tls(server, ClientTlsCell::new(Arc::new(pinned)));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request");
    let request = wire::JoinRequest {
        secret: token.secret.clone().into(),
        role: wire::Role::Agent.into(),
        node_name: node.to_owned(),
        csr_der: csr.der().to_vec().into(),
    };
    wire::join_client::JoinClient::new(door).join(request).await.map(drop)
}

/// Source: a join token of SPIRE could be used twice at the same time.
#[test]
fn a_token_makes_as_many_members_as_it_says_of_fifty_at_once() {
    const ASKING: usize = 50;
    let servers = Servers::start(3);
    let addr = servers.all[0].api().addr().to_string();
    let doors: Vec<String> =
        servers.all.iter().map(|server| server.process.ready_field("rpc")).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for uses in [1, 7] {
        let (uses_text, http) = (uses.to_string(), ["--http-addr", &addr]);
        let order = ["operator", "join-token", "create", "--uses", &uses_text, "--json"];
        let made = run_weft(&[&order[..], &http].concat(), CLUSTER_LIMIT);
        let made: Value = serde_json::from_str(&made.output).expect("JSON");
        let token: JoinToken = made["Token"].as_str().expect("a text").parse().expect("a token");
        let asking = (0..ASKING).map(|number| {
            let (token, door) = (token.clone(), doors[number % doors.len()].clone());
            async move { ask_to_join(&token, &door, &format!("host-{uses}-{number}")).await }
        });
        let outcomes = runtime.block_on(futures::future::join_all(asking));
        let members = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(members, uses, "{outcomes:?}");
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(refused.message().contains("has been used up"), "{refused:?}");
        }
    }
}
