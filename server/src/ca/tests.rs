//! What certificates look like, whatever was asked for.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SanType,
};
use weft_core::ca::TrustBundle;
use weft_core::identity::SpiffeId;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::certificates_from_pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::builtin::{CaError, Intermediate, make_root};
use super::{SealKey, Signer};

const HOUR: Duration = Duration::from_secs(3600);

fn server_id() -> SpiffeId {
    SpiffeId::parse("spiffe://a.mesh/agent/server/dc/dc1/id/s1").expect("an id")
}

pub(super) fn intermediate(now: Timestamp) -> Intermediate {
    let (id, seal) = (server_id(), SealKey::generate());
    let root = make_root(&id.trust_domain, &seal, now).expect("a root");
    Intermediate::make(&root, &id.trust_domain, "s1", &seal, now).expect("an intermediate")
}

/// A request that asks for more than anyone may have.
fn greedy_request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = "spiffe://a.mesh/ns/default/dc/dc1/svc/admin".try_into().expect("ASCII");
    params.subject_alt_names = vec![SanType::URI(other)];
    params.serialize_request(key).expect("a request").der().to_vec()
}

#[test]
fn of_a_request_only_the_key_is_used() {
    let now = clock::wall();
    let intermediate = intermediate(now);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let web = SpiffeId::parse("spiffe://a.mesh/ns/default/dc/dc1/svc/web").expect("an id");
    let request = greedy_request(&key);
    let signed = intermediate.sign(&request, &web, HOUR, now).expect("signed");
    let again = intermediate.sign(&request, &web, HOUR, now).expect("signed");

    let chain = certificates_from_pem("a chain", &signed.chain_pem).expect("a chain");
    assert_eq!(chain.len(), 2, "leaf and intermediate; the root is the reader's own");
    let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().expect("well-formed").expect("names");
    let [GeneralName::URI(uri)] = &names.value.general_names[..] else {
        panic!("{:?}", names.value.general_names)
    };
    assert_eq!(*uri, web.to_string());
    let serial = leaf.raw_serial();
    assert!(serial.len() == 16 && serial[0] & 0x80 == 0, "{serial:?}");
    let again = certificates_from_pem("a chain", &again.chain_pem).expect("a chain");
    let (_, again) = X509Certificate::from_der(&again[0]).expect("a certificate");
    assert_ne!(serial, again.raw_serial());
    let (_, above) = X509Certificate::from_der(&chain[1]).expect("a certificate");
    let constraints = above.basic_constraints().expect("well-formed").expect("some").value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
}

#[test]
fn a_request_that_is_not_ours_to_sign_is_refused() {
    let now = clock::wall();
    let intermediate = intermediate(now);
    let id = server_id();
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let params = CertificateParams::default();
    let request = params.serialize_request(&other_kind).expect("a request").der().to_vec();
    let refused = intermediate.sign(&request, &id, HOUR, now);
    assert!(matches!(refused, Err(CaError::KeyKind)), "{refused:?}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut forged = greedy_request(&key);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = intermediate.sign(&forged, &id, HOUR, now);
    assert!(matches!(refused, Err(CaError::BadRequest)), "{refused:?}");
    let late = intermediate.valid_before;
    let refused = intermediate.sign(&greedy_request(&key), &id, HOUR, late);
    assert!(matches!(refused, Err(CaError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn after_a_change_of_roots_the_new_one_signs() {
    let (id, seal, tasks) = (server_id(), SealKey::generate(), TaskTree::root("test"));
    let old = make_root(&id.trust_domain, &seal, clock::wall()).expect("a root");
    let new = make_root(&id.trust_domain, &seal, clock::wall()).expect("a root");
    let bundle = |roots: &[&weft_core::ca::CaRoot]| TrustBundle {
        trust_domain: id.trust_domain.clone(),
        active_root: roots[0].fingerprint.clone(),
        roots_pem: roots.iter().map(|root| root.certificate_pem.clone()).collect(),
        revoked: Vec::new(),
    };
    let signer = Signer::make(&id, &seal, &old, &bundle(&[&old]), &tasks).expect("a signer");
    let before = signer.server_tls().load();
    let both = bundle(&[&new, &old]);
    signer.refresh(Arc::new(new.clone()), both).await.expect("refreshed");
    assert_eq!(signer.root(), new.fingerprint);
    assert!(!Arc::ptr_eq(&before, &signer.server_tls().load()), "the door shows the new chain");
    // A root that is sealed with another key changes nothing.
    let foreign = make_root(&id.trust_domain, &SealKey::generate(), clock::wall());
    let foreign = foreign.expect("a root");
    let both = bundle(&[&foreign, &new]);
    signer.refresh(Arc::new(foreign), both).await.expect_err("it cannot be opened");
    assert_eq!(signer.root(), new.fingerprint);
}
