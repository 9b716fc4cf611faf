//! The secrets of a process by the names that SPIRE's agent has for them, so that an Envoy that was
//! configured for it finds them here, too.

use std::collections::BTreeSet;

use tonic::Status;
use weft_core::ca::{Leaf, TrustBundle};
use weft_proto::grpc::secret::secret::Type;
use weft_proto::grpc::secret::spiffe_cert_validator_config::TrustDomain;
use weft_proto::grpc::secret::{
    Any, CertificateValidationContext, DataSource, Secret, SpiffeCertValidatorConfig,
    TlsCertificate, TypedExtensionConfig,
};
use weft_proto::secret::{pack, pack_validator};

use crate::grpc::workload::message::Known;

/// Under which name Envoy has its check of SPIFFE certificates.
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

/// The certificate of the first service.
const DEFAULT: &str = "default";
/// Whom to trust: the roots of the own mesh, and those of all meshes, which are the same.
const ROOTS: [&str; 2] = ["ROOTCA", "ALL"];
/// Characters of a name that somebody else gives.
const NAME_CHARS_MAX: usize = 256;

/// Encoded secrets, in a fixed order.
pub(super) type Secrets = Vec<Any>;

/// How an Envoy checks the certificate of a peer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// It leads to a root.
    #[default]
    Roots,
    /// It is one of the trust domain, and leads to a root of that.
    TrustDomain,
}

/// What an Envoy asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// **Shape**: empty for all that there is.
    pub(super) names: BTreeSet<String>,
    pub(super) validation: Validation,
}

/// What there is of it.
pub(super) struct Found {
    pub(super) secrets: Secrets,
    /// Whether nothing is missing.
    pub(super) is_whole: bool,
}

impl Wanted {
    /// Finds what is wanted.
    ///
    /// # Errors
    /// When a name is not for this process.
    pub(super) fn find(&self, known: &Known) -> Result<Found, Status> {
        let domain = known.domain_id();
        let ids: Vec<String> = known.services.iter().map(|service| known.id(service)).collect();
        self.check_names(&domain, &ids)?;
        let mut found = Found { secrets: Vec::new(), is_whole: true };
        for name in ROOTS.into_iter().chain([domain.as_str()]) {
            if self.names.contains(name) || (self.names.is_empty() && name == domain) {
                let bundle = known.bundle.as_deref();
                found.add(bundle.map(|bundle| self.roots(name, &domain, bundle)));
            }
        }
        if self.names.contains(DEFAULT) {
            let first = known.present().next();
            found.add(first.map(|(_, leaf)| certificate(DEFAULT, leaf)));
            // Another service's certificate is better than none, but not before it is sure that
            // there is none.
            found.is_whole &= first.map(|(name, _)| name) == known.services.first();
        }
        for (service, id) in known.services.iter().zip(&ids) {
            if self.names.contains(id) || self.names.is_empty() {
                let leaf = known.present().find(|(name, _)| *name == service);
                found.add(leaf.map(|(_, leaf)| certificate(id, leaf)));
            }
        }
        Ok(found)
    }

    fn check_names(&self, domain: &str, ids: &[String]) -> Result<(), Status> {
        let is_known = |name: &str| {
            name == DEFAULT
                || ROOTS.contains(&name)
                || name == domain
                || ids.iter().any(|id| id == name)
        };
        match self.names.iter().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(NAME_CHARS_MAX).collect();
                Err(Status::permission_denied(format!(
                    "resource_names has {name:?}, which is none of this process: there are \
                     {DEFAULT:?}, {ROOTS:?}, {domain:?} and {ids:?}"
                )))
            }
        }
    }

    fn roots(&self, name: &str, domain: &str, bundle: &TrustBundle) -> Any {
        let lines = bundle.roots_pem.iter().flat_map(|pem| pem.lines());
        let roots = inline(lines.flat_map(|line| [line, "\n"]).collect());
        let context = match self.validation {
            Validation::Roots => {
                CertificateValidationContext { trusted_ca: roots, ..Default::default() }
            }
            Validation::TrustDomain => {
                // Envoy has the domain without its scheme.
                let domain = domain.trim_start_matches("spiffe://").to_owned();
                let domain = TrustDomain { name: domain, trust_bundle: roots };
                let config = SpiffeCertValidatorConfig { trust_domains: vec![domain] };
                CertificateValidationContext {
                    custom_validator_config: Some(TypedExtensionConfig {
                        name: VALIDATOR.to_owned(),
                        typed_config: Some(pack_validator(&config)),
                    }),
                    ..Default::default()
                }
            }
        };
        secret(name, Type::ValidationContext(context))
    }
}

impl Found {
    fn add(&mut self, secret: Option<Any>) {
        self.is_whole &= secret.is_some();
        self.secrets.extend(secret);
    }
}

fn certificate(name: &str, leaf: &Leaf) -> Any {
    let certificate = TlsCertificate {
        certificate_chain: inline(leaf.certificate_pem.clone()),
        private_key: inline(leaf.private_key_pem.clone()),
    };
    secret(name, Type::TlsCertificate(certificate))
}

fn inline(text: String) -> Option<DataSource> {
    Some(DataSource { inline_bytes: text.into() })
}

fn secret(name: &str, of_type: Type) -> Any {
    pack(&Secret { name: name.to_owned(), r#type: Some(of_type) })
}
