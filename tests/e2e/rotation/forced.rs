//! A root that cannot certify another one: it is replaced by force only, and after the moment in
//! which everybody hears of it nothing fails.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::run_weft;
use weft_tests::{Cluster, consistently, eventually};

use super::load::Load;
use super::{Mesh, agents_show_what_servers_show, put, roots};

/// For how long nothing fails after the change.
const QUIET: Duration = Duration::from_secs(3);

/// An authority's certificate, its key and what signs under it.
fn authority(
    name: &str,
    above: Option<&Issuer<'_, KeyPair>>,
) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let made = match above {
        None => params.self_signed(&key),
        Some(above) => params.signed_by(&key, above),
    };
    (made.expect("a certificate").pem(), Issuer::new(params, key))
}

fn rotate(cluster: &Cluster, more: &[&str]) -> (Option<i32>, String) {
    let api = cluster.agent.api().addr().to_string();
    let args = [&["ca", "rotate", "--http-addr", &api], more].concat();
    let outcome = run_weft(&args, SPREAD_LIMIT);
    (outcome.code, outcome.output)
}

fn active(cluster: &Cluster) -> Value {
    let all = roots(cluster);
    all.into_iter().find(|root| root["Active"] == true).expect("one root is active")
}

#[test]
fn a_root_that_cannot_certify_another_is_replaced_by_force_only() {
    let mut cluster = Cluster::start_with(&json!({ "leaf_lifetime": "1m" }));
    // It is worth a warning, and so is what fails in the moment after it.
    cluster.server.process.expect_log("");
    cluster.agent.process.expect_log("");
    let mut mesh = Mesh::start(&cluster);
    mesh.expect_warnings();
    let first = mesh.serials();

    // An intermediate of an operator's: nobody here has the key of its root.
    let (root_pem, root) = authority("Example Root", None);
    let (chain_pem, issuing) = authority("Example Issuing", Some(&root));
    let load = Load::start(&mesh.shop);
    put(
        &cluster,
        &json!({ "Provider": "consul", "Config": {
        "RootCert": root_pem, "IntermediateCert": chain_pem,
        "PrivateKey": issuing.key().serialize_pem(), "LeafCertTTL": "1m",
    } }),
    );
    let second = mesh.wait_renewed(&first, "under the operator's root");
    let theirs = active(&cluster);
    assert_eq!(theirs["Name"], "Example Root");
    assert_eq!(theirs["RootCert"].as_str().map(str::trim_end), Some(root_pem.trim_end()));

    let (code, said) = rotate(&cluster, &["--key-type", "ec"]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("cannot certify the new one"), "{said}");
    assert_eq!(active(&cluster), theirs, "nothing has changed");
    assert_eq!(load.end().failures, Vec::<String>::new());

    let (code, said) = rotate(&cluster, &["--key-type", "ec", "--force-without-cross-signing"]);
    assert_eq!(code, Some(0), "{said}");
    let ours = active(&cluster);
    assert_ne!(ours["ID"], theirs["ID"]);
    agents_show_what_servers_show(&cluster);
    mesh.wait_renewed(&second, "after the forced change");
    // From then on all is as before.
    let calls_go_well = || {
        let answer = mesh.shop.to("web").get("/")?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    };
    eventually(SPREAD_LIMIT, "calls go well under the new root", calls_go_well);
    let load = Load::start(&mesh.shop);
    consistently(QUIET, "calls go well", calls_go_well);
    let report = load.end();
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.requests > 0 && report.echoes > 0 && report.messages > 0, "{report:?}");
}
