//! What certificates look like, whatever was asked for.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PublicKeyData, SanType,
};
use weft_core::ca::rotation::CaChange;
use weft_core::ca::{CaRoot, CaSettings, CaTerms, KeyKind, TrustBundle};
use weft_core::identity::SpiffeId;
use weft_core::index::Index;
use weft_core::state::{Answer, Command, State};
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{Identity, Trust, certificates_from_pem};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::builtin::{CaError, Intermediate, make_root, make_root_of};
use super::certificate::generate;
use super::{ChangeError, ChangeRequest, Given, SealKey, Signer, WantedProvider};

const HOUR: Duration = Duration::from_secs(3600);

fn terms() -> CaTerms {
    CaSettings::default().terms(HOUR)
}

fn server_id() -> SpiffeId {
    SpiffeId::parse("spiffe://a.mesh/agent/server/dc/dc1/id/s1").expect("an id")
}

pub(super) fn intermediate(now: Timestamp) -> Intermediate {
    let (id, seal) = (server_id(), SealKey::generate());
    let root = make_root(&id.trust_domain, &seal, now).expect("a root");
    Intermediate::make(&root, &id, &terms(), &seal, now).expect("an intermediate")
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
fn keys_of_each_kind_that_leaves_may_have_are_signed() {
    use KeyKind::{EcP256, EcP384, Ed25519, Rsa2048, Rsa4096};
    let now = clock::wall();
    let intermediate = intermediate(now);
    for kind in [EcP256, EcP384, Ed25519, Rsa2048, Rsa4096] {
        let key = generate(kind).expect("a key");
        let signed = intermediate.sign(&greedy_request(&key), &server_id(), HOUR, now);
        let signed = signed.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let chain = certificates_from_pem("a chain", &signed.chain_pem).expect("a chain");
        let (_, leaf) = X509Certificate::from_der(&chain[0]).expect("a certificate");
        assert_eq!(leaf.public_key().subject_public_key.data, key.der_bytes());
    }
}

#[test]
fn a_request_that_is_not_ours_to_sign_is_refused() {
    let now = clock::wall();
    let intermediate = intermediate(now);
    let id = server_id();
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
    let params = CertificateParams::default();
    let request = params.serialize_request(&other_kind).expect("a request").der().to_vec();
    let refused = intermediate.sign(&request, &id, HOUR, now);
    assert!(matches!(refused, Err(CaError::KeyKind)), "{refused:?}");
    for rsa in [include_str!("requests/rsa-1024.pem"), include_str!("requests/rsa-8192.pem")] {
        let (_, request) = parse_x509_pem(rsa.as_bytes()).expect("PEM");
        let refused = intermediate.sign(&request.contents, &id, HOUR, now);
        assert!(matches!(refused, Err(CaError::KeyKind)), "{refused:?}");
    }
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
        roots: Vec::new(),
        roots_pem: roots.iter().map(|root| root.certificate_pem.clone()).collect(),
        revoked: Vec::new(),
        retired: Vec::new(),
    };
    let trusted = bundle(&[&old]);
    let made = Signer::make(&id, &seal, (&old, &trusted), None, (terms(), &tasks));
    let signer = made.await.expect("a signer");
    let before = signer.server_tls().load();
    let both = bundle(&[&new, &old]);
    signer.refresh(Arc::new(new.clone()), both, terms()).await.expect("refreshed");
    assert_eq!(signer.root(), new.fingerprint);
    assert!(!Arc::ptr_eq(&before, &signer.server_tls().load()), "the door shows the new chain");
    // A root that is sealed with another key changes nothing.
    let foreign = make_root(&id.trust_domain, &SealKey::generate(), clock::wall());
    let foreign = foreign.expect("a root");
    let both = bundle(&[&foreign, &new]);
    signer.refresh(Arc::new(foreign), both, terms()).await.expect_err("it cannot be opened");
    assert_eq!(signer.root(), new.fingerprint);
}

/// A mesh with one root: its state, and a signer of it.
struct Mesh {
    state: State,
    signer: Signer,
    at: u64,
}

impl Mesh {
    async fn new() -> Self {
        let (id, seal, tasks) = (server_id(), SealKey::generate(), TaskTree::root("test"));
        let root = make_root(&id.trust_domain, &seal, clock::wall()).expect("a root");
        let trusted = bundle(&[&root]);
        let made = Signer::make(&id, &seal, (&root, &trusted), None, (terms(), &tasks));
        let signer = made.await.expect("a signer");
        let mut mesh = Self { state: State::default(), signer, at: 0 };
        mesh.apply(Command::SetCaRoot(root));
        mesh
    }

    fn apply(&mut self, command: Command) {
        self.at += 1;
        let (answer, _) = self.state.apply(Index(self.at), clock::wall(), command);
        assert_eq!(answer, Answer::Done { changed: true });
    }

    fn active(&self) -> Arc<CaRoot> {
        self.state.roots().1[0].clone()
    }

    async fn wish(&self, provider: WantedProvider, force: bool) -> Result<CaChange, ChangeError> {
        let settings = CaSettings::default();
        let request = ChangeRequest { settings, provider, renew: false, force };
        self.signer.change(&self.state, request, terms()).await
    }

    async fn carry_out(&mut self, provider: WantedProvider) -> Arc<CaRoot> {
        let change = self.wish(provider, false).await.expect("a change");
        assert!(change.root.is_some(), "there is to be another root");
        self.apply(Command::ChangeCa(change));
        let root = self.active();
        let all: Vec<CaRoot> = self.state.roots().1.iter().map(|root| (**root).clone()).collect();
        let all: Vec<&CaRoot> = all.iter().collect();
        self.signer.refresh(root.clone(), bundle(&all), terms()).await.expect("refreshed");
        root
    }

    /// Signs a leaf as for a service.
    async fn leaf(&self) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let web = SpiffeId::parse("spiffe://a.mesh/ns/default/dc/dc1/svc/web").expect("an id");
        let signed = self.signer.sign(greedy_request(&key), web, HOUR).await.expect("signed");
        Identity::from_pem(&signed.chain_pem, &key.serialize_pem()).expect("an identity")
    }
}

fn bundle(roots: &[&CaRoot]) -> TrustBundle {
    TrustBundle {
        trust_domain: server_id().trust_domain,
        active_root: roots[0].fingerprint.clone(),
        roots: Vec::new(),
        roots_pem: roots.iter().map(|root| root.certificate_pem.clone()).collect(),
        revoked: Vec::new(),
        retired: Vec::new(),
    }
}

/// Whether who trusts these roots accepts the identity, by the verifier of every handshake.
fn accepts(roots: &[&CaRoot], identity: &Identity) -> bool {
    let trust = Trust::from_bundle(&bundle(roots)).expect("a bundle");
    trust.check(identity, clock::wall()).is_ok()
}

/// A root of an operator's, and its key: made as other software may make it.
fn foreign_root(name: &str) -> (KeyPair, CertificateParams, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let mut params = CertificateParams::default();
    let printable = DnValue::PrintableString(name.try_into().expect("plain letters"));
    params.distinguished_name.push(DnType::OrganizationName, printable);
    params.distinguished_name.push(DnType::CommonName, "Corporate Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).expect("a root").pem();
    (key, params, pem)
}

#[tokio::test]
async fn under_a_new_root_of_any_kind_everybody_accepts_everybody() {
    use KeyKind::{EcP256, EcP384, Ed25519, Rsa2048};
    let mut mesh = Mesh::new().await;
    for kind in [EcP384, Ed25519, Rsa2048, EcP256] {
        let (old, before) = (mesh.active(), mesh.leaf().await);
        let new = mesh.carry_out(WantedProvider::BuiltIn(Some(kind))).await;
        assert_eq!(new.key_kind, kind);
        let after = mesh.leaf().await;
        assert!(accepts(&[&old], &before) && accepts(&[&new, &old], &before), "{kind:?}");
        assert!(!accepts(&[&new], &before), "{kind:?}: the old root is out");
        assert!(accepts(&[&old], &after), "{kind:?}: who has not heard of the new root");
        assert!(accepts(&[&new, &old], &after) && accepts(&[&new], &after), "{kind:?}");
    }
    // Each of the five roots vouches for what is signed now, also the first.
    let (_, roots) = mesh.state.roots();
    assert_eq!(roots.len(), 5);
    let leaf = mesh.leaf().await;
    for root in &roots {
        assert!(accepts(&[root], &leaf), "{}", root.name);
    }
}

#[tokio::test]
async fn a_root_of_an_operator_takes_over_and_goes_again() {
    let mut mesh = Mesh::new().await;
    let first = mesh.active();
    let (key, _, root_pem) = foreign_root("Example Ltd");
    let given = Given { root_pem: root_pem.clone(), key_pem: key.serialize_pem(), chain_pem: None };
    let theirs = mesh.carry_out(WantedProvider::Given(given)).await;
    assert_eq!(theirs.key_kind, KeyKind::EcP384);
    let leaf = mesh.leaf().await;
    assert!(accepts(&[&first], &leaf) && accepts(&[&theirs], &leaf));
    let kept = mesh.wish(WantedProvider::BuiltIn(None), false).await.expect("a change");
    assert_eq!(kept.root, None, "what is shown has no key and changes nothing");
    let ours = mesh.carry_out(WantedProvider::BuiltIn(Some(KeyKind::EcP256))).await;
    let leaf = mesh.leaf().await;
    assert!(accepts(&[&theirs], &leaf) && accepts(&[&ours], &leaf) && accepts(&[&first], &leaf));
}

#[tokio::test]
async fn an_intermediate_of_an_operator_signs_and_only_force_leads_away_from_it() {
    let mut mesh = Mesh::new().await;
    let first = mesh.active();
    let (root_key, root_params, root_pem) = foreign_root("Example Ltd");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Mesh Issuing");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let above = Issuer::new(root_params, root_key);
    let chain_pem = params.signed_by(&key, &above).expect("an intermediate").pem();
    let given = |key_pem: String| Given {
        root_pem: root_pem.clone(),
        key_pem,
        chain_pem: Some(chain_pem.clone()),
    };
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    let refused = mesh.wish(WantedProvider::Given(given(other)), false).await;
    let refused = refused.expect_err("another key").words();
    assert_eq!(refused, "Config.PrivateKey: is not the key of Config.IntermediateCert");
    let theirs = mesh.carry_out(WantedProvider::Given(given(key.serialize_pem()))).await;
    let leaf = mesh.leaf().await;
    assert!(accepts(&[&first], &leaf) && accepts(&[&theirs], &leaf));
    let ours = || WantedProvider::BuiltIn(Some(KeyKind::EcP256));
    let refused = mesh.wish(ours(), false).await.expect_err("nobody can certify the new root");
    assert!(matches!(refused, ChangeError::CrossSigning { .. }), "{refused}");
    let forced = mesh.wish(ours(), true).await.expect("forced");
    let new = forced.root.expect("a root");
    let by: Vec<&str> = new.cross_signed.iter().map(|cross| cross.by.as_str()).collect();
    assert_eq!(by, [first.fingerprint.as_str()], "who still can does");
}

#[tokio::test]
async fn what_cannot_be_an_authority_is_refused_by_name() {
    let mesh = Mesh::new().await;
    let (key, _, root_pem) = foreign_root("Example Ltd");
    let key_pem = key.serialize_pem();
    let leaf = CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    for (root, key, expected) in [
        ("x".to_owned(), &key_pem, "Config.RootCert: must be one certificate"),
        (root_pem.repeat(2), &key_pem, "Config.RootCert: must be one certificate"),
        (leaf, &key_pem, "Config.RootCert: is not the certificate of an authority that may sign"),
        (root_pem.clone(), &"x".to_owned(), "Config.PrivateKey: is no key that can be read"),
        (root_pem, &other, "Config.PrivateKey: is not the key of Config.RootCert"),
    ] {
        let given = Given { root_pem: root, key_pem: key.clone(), chain_pem: None };
        let refused = mesh.wish(WantedProvider::Given(given), false).await.expect_err(expected);
        let words = refused.words();
        assert!(words.starts_with(expected), "{words}");
    }
    let short = CaTerms { root: HOUR, intermediate: HOUR, leaf: HOUR / 3 };
    let root = make_root_of(
        KeyKind::EcP256,
        short.root,
        &server_id().trust_domain,
        (&SealKey::generate(), clock::wall()),
    );
    assert!(root.expect("a root").valid_before <= clock::wall().saturating_add(HOUR));
}
