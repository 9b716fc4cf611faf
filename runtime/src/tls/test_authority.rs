//! A certificate authority for tests: good certificates, and bad ones made on purpose.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use weft_core::ca::{Revoked, TrustBundle};
use weft_core::name::TrustDomain;

use super::{Identity, Trust};

pub(crate) struct TestAuthority {
    pub(crate) root_pem: String,
    root: Issuer<'static, KeyPair>,
    intermediate: Issuer<'static, KeyPair>,
    intermediate_pem: String,
    domain: String,
}

pub(crate) struct TestLeaf {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl TestAuthority {
    pub(crate) fn new(domain: &str) -> Self {
        let root_key = key();
        let root_params = authority_params("root");
        let root_pem = root_params.self_signed(&root_key).expect("a root").pem();
        let root = Issuer::new(root_params, root_key);
        let intermediate_key = key();
        let params = authority_params("intermediate");
        let intermediate_pem =
            params.signed_by(&intermediate_key, &root).expect("an intermediate").pem();
        let intermediate = Issuer::new(params, intermediate_key);
        Self { root_pem, root, intermediate, intermediate_pem, domain: domain.to_owned() }
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust_without(Vec::new())
    }

    /// Trust in all but these.
    pub(crate) fn trust_without(&self, revoked: Vec<Revoked>) -> Trust {
        Trust::from_bundle(&TrustBundle {
            trust_domain: TrustDomain::parse(&self.domain).expect("a domain"),
            active_root: String::new(),
            roots: Vec::new(),
            roots_pem: vec![self.root_pem.clone()],
            revoked,
            retired: Vec::new(),
        })
        .expect("a bundle")
    }

    pub(crate) fn uri(&self, path: &str) -> String {
        format!("spiffe://{}/{path}", self.domain)
    }

    /// A good certificate for the path.
    pub(crate) fn identity(&self, path: &str) -> Identity {
        let leaf = self.leaf(leaf_params(&[&self.uri(path)]));
        Identity::from_pem(&leaf.chain_pem, &leaf.key_pem).expect("a good leaf")
    }

    /// A leaf under an issuer of its own that this authority's intermediate, or its root, has
    /// signed with the parameters given.
    pub(crate) fn leaf_below(
        &self,
        above: CertificateParams,
        is_of_root: bool,
        params: CertificateParams,
    ) -> TestLeaf {
        let above_key = key();
        let signer = if is_of_root { &self.root } else { &self.intermediate };
        let above_pem = above.signed_by(&above_key, signer).expect("an issuer").pem();
        let issuer = Issuer::new(above, above_key);
        let leaf_key = key();
        let leaf = params.signed_by(&leaf_key, &issuer).expect("a leaf");
        let top = if is_of_root { "" } else { &self.intermediate_pem };
        TestLeaf {
            chain_pem: format!("{}{above_pem}{top}", leaf.pem()),
            key_pem: leaf_key.serialize_pem(),
        }
    }

    /// A leaf under an intermediate under another one, which allows none below it.
    pub(crate) fn below_narrow(
        &self,
        narrow: CertificateParams,
        params: CertificateParams,
    ) -> TestLeaf {
        let (narrow_key, below_key, leaf_key) = (key(), key(), key());
        let narrow_pem = narrow.signed_by(&narrow_key, &self.root).expect("one").pem();
        let narrow = Issuer::new(narrow, narrow_key);
        let below = authority_params("below");
        let below_pem = below.signed_by(&below_key, &narrow).expect("another").pem();
        let leaf = params.signed_by(&leaf_key, &Issuer::new(below, below_key)).expect("a leaf");
        TestLeaf {
            chain_pem: format!("{}{below_pem}{narrow_pem}", leaf.pem()),
            key_pem: leaf_key.serialize_pem(),
        }
    }

    pub(crate) fn leaf(&self, params: CertificateParams) -> TestLeaf {
        let leaf_key = key();
        let leaf = params.signed_by(&leaf_key, &self.intermediate).expect("a leaf");
        TestLeaf {
            chain_pem: format!("{}{}", leaf.pem(), self.intermediate_pem),
            key_pem: leaf_key.serialize_pem(),
        }
    }
}

/// Parameters of a good leaf with the given URIs.
pub(crate) fn leaf_params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}
