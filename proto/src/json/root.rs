//! A root of the CA as `/v1/connect/ca/roots` and `/v1/agent/connect/ca/roots` show it.

use serde_json::{Value, json};
use weft_core::ca::PublicRoot;
use weft_core::name::TrustDomain;
use weft_core::time::Timestamp;

/// A root, and what its certificate and the state around it tell.
#[derive(Debug)]
pub struct RootBody<'a> {
    /// The root.
    pub root: &'a PublicRoot,
    /// Its certificate.
    pub certificate_pem: &'a str,
    /// The certificate's number in hex; empty if it cannot be read.
    pub serial_number: &'a str,
    /// Whether new certificates are signed under it.
    pub is_active: bool,
    /// Of which mesh it is, if that is known.
    pub trust_domain: Option<&'a TrustDomain>,
}

impl RootBody<'_> {
    /// Writes it with the fields of Consul's answer and `TrustedUntil`.
    ///
    /// **Shape**: what is not so is null: a root that nobody took the place of, or that no other
    /// certified. `SigningKeyID` is empty: keys that sign are told apart by their certificates.
    ///
    /// **Source**: Consul: api-docs/connect/ca#list-ca-root-certificates.
    pub fn value(&self) -> Value {
        let root = self.root;
        let (kind, bits) = root.key_kind.parts();
        let intermediates = &root.intermediates_pem;
        let domain = self.trust_domain.map(TrustDomain::as_str).unwrap_or_default();
        json!({
            "ID": root.fingerprint,
            "Name": root.name,
            "SerialNumber": self.serial_number,
            "SigningKeyID": "",
            "ExternalTrustDomain": domain.trim_end_matches(".mesh"),
            "NotBefore": root.valid_after.rfc3339(),
            "NotAfter": root.valid_before.rfc3339(),
            "RootCert": self.certificate_pem,
            "IntermediateCerts": (!intermediates.is_empty()).then_some(intermediates),
            "Active": self.is_active,
            "RotatedOutAt": root.rotated_out_at.map(Timestamp::rfc3339),
            "TrustedUntil": root.trusted_until.map(Timestamp::rfc3339),
            "PrivateKeyType": kind,
            "PrivateKeyBits": bits,
            "CreateIndex": root.create_index,
            "ModifyIndex": root.modify_index,
        })
    }
}
