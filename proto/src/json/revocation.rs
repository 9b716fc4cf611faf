//! The bodies of `/v1/connect/ca/revocations`: whom nobody trusts any more.

use serde::{Deserialize, Serialize};
use weft_core::ca::{Revocation, Revoked};

/// What is asked for: exactly one of the first four.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RevocationRequest {
    /// One certificate, by its number in hex.
    pub serial_number: String,
    /// An identity as it stands in certificates.
    #[serde(rename = "SPIFFEID")]
    pub spiffe_id: String,
    /// A service of this datacenter.
    pub service: String,
    /// The agent of a node of this datacenter.
    pub node: String,
    /// Whether certificates that are signed from now on are good; only for services.
    pub only_until_now: bool,
    /// Why, for people.
    pub reason: String,
}

/// A revocation as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RevocationBody {
    /// What it is taken back by: the number or the identity.
    pub key: String,
    /// `certificate`, `identity` (nothing is signed for it) or `certificates-until` (those signed
    /// before a moment).
    pub kind: String,
    /// Certificates signed from then on are good; empty for the other kinds.
    pub issued_before: String,
    /// Why.
    pub reason: String,
    /// When it was revoked.
    pub revoked_at: String,
    /// When it was written.
    pub create_index: u64,
}

impl From<&Revocation> for RevocationBody {
    fn from(revocation: &Revocation) -> Self {
        let Revocation { what, reason, revoked_at, create_index } = revocation;
        let (kind, issued_before) = match what {
            Revoked::Certificate(_) => ("certificate", String::new()),
            Revoked::Identity { issued_before: None, .. } => ("identity", String::new()),
            Revoked::Identity { issued_before: Some(before), .. } => {
                ("certificates-until", before.rfc3339())
            }
        };
        Self {
            key: what.key(),
            kind: kind.to_owned(),
            issued_before,
            reason: reason.clone(),
            revoked_at: revoked_at.rfc3339(),
            create_index: create_index.0,
        }
    }
}
