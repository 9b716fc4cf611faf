//! When a root is replaced, who can certify the next, and when one goes.

use super::*;
use crate::ca::VaultAuth;

fn root(fingerprint: &str, source: RootSource) -> CaRoot {
    CaRoot {
        fingerprint: fingerprint.to_owned(),
        name: "a root".to_owned(),
        certificate_pem: String::new(),
        sealed_key: vec![1],
        valid_after: Timestamp(0),
        valid_before: Timestamp(3_000_000),
        active: true,
        source,
        key_kind: KeyKind::EcP256,
        cross_signed: Vec::new(),
        rotated_out_at: None,
        trusted_until: None,
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn vault() -> VaultAccess {
    VaultAccess {
        address: "https://vault:8200".to_owned(),
        root_path: "pki".to_owned(),
        namespace: String::new(),
        ca_file: String::new(),
        auth: VaultAuth::Token,
    }
}

fn intermediate(chain: &str) -> RootSource {
    RootSource::Intermediate { chain_pem: chain.to_owned() }
}

#[test]
fn a_root_is_replaced_only_when_another_one_is_wanted() {
    let access = vault();
    let given = |fingerprint, chain_pem| Wanted::Given { fingerprint, chain_pem };
    let of_vault = |fingerprint| Wanted::Vault { fingerprint, access: &access };
    let in_vault = || RootSource::Vault(vault());
    for (source, wanted, expected) in [
        (RootSource::BuiltIn, Wanted::Made(None), Step::Keep),
        (RootSource::BuiltIn, Wanted::Made(Some(KeyKind::EcP256)), Step::Keep),
        (RootSource::BuiltIn, Wanted::Made(Some(KeyKind::EcP384)), Step::Replace),
        // What is shown has no key in it and is written back like that.
        (RootSource::Given, Wanted::Made(None), Step::Keep),
        (intermediate("x"), Wanted::Made(None), Step::Keep),
        (in_vault(), Wanted::Made(None), Step::Replace),
        (RootSource::BuiltIn, given("b", None), Step::Replace),
        (RootSource::Given, given("a", None), Step::Keep),
        (RootSource::Given, given("a", Some("x")), Step::Update),
        (intermediate("x"), given("a", Some("x")), Step::Keep),
        (intermediate("x"), given("a", Some("y")), Step::Update),
        (intermediate("x"), given("a", None), Step::Update),
        (in_vault(), given("a", None), Step::Update),
        (RootSource::BuiltIn, of_vault("v"), Step::Replace),
        (in_vault(), of_vault("a"), Step::Update),
        (in_vault(), of_vault("v"), Step::Replace),
    ] {
        let active = root("a", source);
        assert_eq!(step(&active, wanted), expected, "{:?} {wanted:?}", active.source);
    }
}

#[test]
fn only_who_has_the_roots_key_signs_across() {
    assert_eq!(can_cross_sign(&root("a", RootSource::BuiltIn)), Ok(()));
    assert_eq!(can_cross_sign(&root("a", RootSource::Given)), Ok(()));
    assert!(can_cross_sign(&root("a", intermediate("x"))).is_err());
    let without = CaRoot { sealed_key: Vec::new(), ..root("a", RootSource::BuiltIn) };
    assert!(can_cross_sign(&without).is_err());
    // Vault has the key, and a server of Kubernetes needs no secret.
    let of_vault = root("a", RootSource::Vault(vault()));
    assert_eq!(can_cross_sign(&CaRoot { sealed_key: Vec::new(), ..of_vault }), Ok(()));
}

#[test]
fn a_root_of_ours_is_replaced_at_two_thirds_of_its_life() {
    let ours = root("a", RootSource::BuiltIn);
    assert!(!is_root_due(&ours, Timestamp(1_999_999)));
    assert!(is_root_due(&ours, Timestamp(2_000_000)));
    let theirs = root("a", RootSource::Given);
    assert!(!is_root_due(&theirs, Timestamp(2_900_000)));
}

#[test]
fn the_first_root_to_go_is_waited_for() {
    let retired = |until: Option<u64>| {
        let trusted_until = until.map(Timestamp);
        Arc::new(CaRoot { active: false, trusted_until, ..root("a", RootSource::BuiltIn) })
    };
    let active = Arc::new(root("b", RootSource::BuiltIn));
    assert_eq!(prune_due(&[active.clone(), retired(None)]), None);
    let all = [active, retired(None), retired(Some(7)), retired(Some(5))];
    assert_eq!(prune_due(&all), Some(Timestamp(5)));
}

#[test]
fn kinds_of_keys_are_read_as_they_are_shown() {
    use KeyKind::{EcP256, EcP384, Ed25519, Rsa2048, Rsa4096};
    for kind in [EcP256, EcP384, Ed25519, Rsa2048, Rsa4096] {
        let (name, bits) = kind.parts();
        assert_eq!(KeyKind::parse(name, bits.into()), Some(kind));
    }
    assert_eq!(KeyKind::parse("ec", 0), Some(EcP256));
    assert_eq!(KeyKind::parse("rsa", 1024), None);
    assert_eq!(KeyKind::parse("dsa", 0), None);
}
