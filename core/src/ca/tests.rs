//! Records of the CA as people and clients of Consul read them.

use super::*;
use crate::identity::SpiffeId;

#[test]
fn words_for_people_and_clients_are_those_of_consul() {
    let vault = |auth: VaultAuth| VaultAccess {
        address: "https://vault".to_owned(),
        root_path: "pki".to_owned(),
        namespace: String::new(),
        ca_file: String::new(),
        auth,
    };
    let text = |text: &str| text.to_owned();
    let jwt = |path: &str| VaultAuth::Jwt { mount: text("jwt"), role: text("r"), path: text(path) };
    let role = VaultAuth::AppRole { mount: text("approle"), role_id: text("r") };
    let pod = VaultAuth::Kubernetes { mount: text("k"), role: text("r"), path: text("/token") };
    for (auth, kind, needs_secret) in [
        (role, "approle", true),
        (jwt(""), "jwt", true),
        (jwt("/run/jwt"), "jwt", false),
        (pod, "kubernetes", false),
        (VaultAuth::Token, "token", true),
    ] {
        assert_eq!((auth.kind(), auth.needs_secret()), (kind, needs_secret), "{auth:?}");
        assert_eq!(RootSource::Vault(vault(auth)).provider(), "vault");
    }
    let chain_pem = text("chain");
    for ours in [RootSource::BuiltIn, RootSource::Given, RootSource::Intermediate { chain_pem }] {
        assert_eq!(ours.provider(), "consul", "{ours:?}");
    }
    assert_eq!((MemberRole::Agent.as_str(), MemberRole::Server.as_str()), ("agent", "server"));
    assert_eq!(format!("{} {}", MemberRole::Agent, MemberRole::Server), "agent server");
}

#[test]
fn a_token_is_known_by_the_first_digits_of_its_digest() {
    let digest = "0123456789abcdef".repeat(4);
    let mut token = JoinTokenRecord::new(digest, MemberRole::Agent, None, Timestamp(1));
    assert_eq!(token.id(), "0123456789abcdef");
    token.secret_sha256 = "short".to_owned();
    assert_eq!(token.id(), "short");
}

#[test]
fn what_is_revoked_is_found_by_its_number_or_its_name() {
    let serial: SerialNumber = "5A0bff".parse().expect("a number");
    assert_eq!((serial.to_string(), String::from(serial.clone())), two("5a:0b:ff"));
    assert_eq!(Revoked::Certificate(serial).key(), "5a:0b:ff");
    let name = "spiffe://a1.mesh/ns/default/dc/dc1/svc/web";
    let id = SpiffeId::parse(name).expect("an id");
    assert_eq!(Revoked::Identity { id, issued_before: None }.key(), name);
}

fn two(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

fn root() -> CaRoot {
    let cross =
        |by: &str| CrossCertificate { by: by.to_owned(), certificate_pem: format!("{by} for it") };
    CaRoot {
        fingerprint: "abcd".to_owned(),
        name: "root".to_owned(),
        certificate_pem: "CERTIFICATE".to_owned(),
        sealed_key: b"SECRET".to_vec(),
        valid_after: Timestamp(1),
        valid_before: Timestamp(2),
        active: false,
        source: RootSource::Intermediate { chain_pem: "chain".to_owned() },
        key_kind: KeyKind::Rsa2048,
        cross_signed: vec![cross("one"), cross("two")],
        rotated_out_at: Some(Timestamp(3)),
        trusted_until: Some(Timestamp(4)),
        create_index: crate::index::Index(5),
        modify_index: crate::index::Index(6),
    }
}

#[test]
fn logs_tell_certificates_apart_and_have_no_keys() {
    let (valid_after, valid_before) = (Timestamp(1000), Timestamp(2000));
    let leaf = Leaf {
        certificate_pem: "CERTIFICATE".to_owned(),
        private_key_pem: "SECRET".to_owned(),
        valid_after,
        valid_before,
    };
    let (leaf, shown) = (format!("{leaf:?}"), format!("{:?}", root()));
    assert!(leaf.contains("valid_before") && !leaf.contains("SECRET"), "{leaf}");
    assert!(shown.contains("abcd") && !shown.contains("SECRET"), "{shown}");
    // [83, 69, …] are the letters as a list of bytes.
    assert!(!shown.contains("83, 69"), "{shown}");
}

#[test]
fn what_everyone_may_know_of_a_root_is_all_but_its_key() {
    let expected = PublicRoot {
        fingerprint: "abcd".to_owned(),
        name: "root".to_owned(),
        valid_after: Timestamp(1),
        valid_before: Timestamp(2),
        intermediates_pem: ["one for it", "two for it", "chain"].map(str::to_owned).to_vec(),
        key_kind: KeyKind::Rsa2048,
        rotated_out_at: Some(Timestamp(3)),
        trusted_until: Some(Timestamp(4)),
        create_index: crate::index::Index(5),
        modify_index: crate::index::Index(6),
    };
    assert_eq!(root().public(), expected);
    let ours = CaRoot { source: RootSource::BuiltIn, cross_signed: Vec::new(), ..root() };
    assert_eq!(ours.public().intermediates_pem, [""; 0]);
}
