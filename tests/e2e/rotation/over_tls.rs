//! A Vault behind TLS: who vouches for it must be told, and its token is renewed for as long as it
//! is in use.

use std::time::Duration;

use serde_json::json;
use weft_tests::{Cluster, TlsFront, Vault, eventually, vault};

use super::{CONFIGURATION, put, roots};

/// Renewals come every second here; a busy machine needs more for some of them.
const RENEWAL_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn vault_is_believed_by_the_authority_that_is_given_and_its_token_is_renewed() {
    let cluster = Cluster::start();
    let vault = Vault::start();
    vault.lease(3);
    let (front, other) = (TlsFront::start(vault.addr()), TlsFront::start(vault.addr()));
    let file = |name: &str, pem: &str| {
        let path = cluster.folder.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path
    };
    let of = |ca_file: &std::path::Path| {
        json!({ "Provider": "vault", "Config": {
            "Address": front.url(), "Token": vault::TOKEN, "RootPKIPath": "pki",
            "Namespace": vault::NAMESPACE, "CAFile": ca_file,
        } })
    };
    let missing = cluster.folder.path().join("missing.pem");
    for (ca_file, reason) in [
        ("".into(), "certificate"),
        (missing, "Config.CAFile"),
        (file("empty.pem", "nothing"), "Config.CAFile"),
        (file("other.pem", &other.authority_pem), "certificate"),
    ] {
        let answer = cluster.agent.api().put(CONFIGURATION, &of(&ca_file)).expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(reason), "{reason}: {}", answer.body);
    }
    assert_eq!(vault.calls("/v1/pki/root/generate/internal"), 0, "nothing was asked");
    assert_eq!(roots(&cluster).len(), 1, "nothing has changed");

    put(&cluster, &of(&file("vault.pem", &front.authority_pem)));
    assert_eq!(roots(&cluster).len(), 2);
    let renewals = || vault.calls("/v1/auth/token/renew-self");
    eventually(RENEWAL_LIMIT, "the token is renewed again and again", || match renewals() {
        0..4 => Err(renewals().to_string()),
        _ => Ok(()),
    });
}
