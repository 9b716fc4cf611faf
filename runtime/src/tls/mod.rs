//! TLS between members of a mesh: whose certificate is accepted, and the rustls configurations
//! that follow. The only place that makes one.
//!
//! TLS 1.3, and 1.2 between proxies where the mesh entry says so, with aws-lc-rs, hybrid post-quantum key exchange first. Which identities may
//! talk to which is decided by intentions and by each door, on the [`peer_identity`] found here.

mod cell;
mod config;
mod error;
mod files;
mod identity;
mod moment;
mod origination;
mod outside;
mod peer;
mod pem;
mod provider;
mod sessions;
mod spoken;
mod trust;
mod verify;

pub use rustls;
pub use tokio_rustls;

pub use cell::{ClientTlsCell, ServerTlsCell};
pub use config::{
    ClientAuth, Resumption, ServerOptions, client_config, client_config_anonymous,
    client_config_pinned, client_config_with, peer_name, server_config, server_config_with,
};
pub use error::TlsError;
pub use files::{CertificateFileError, CertificateFiles};
pub use identity::Identity;
pub use moment::refused_for_time;
pub use origination::Origination;
pub use outside::{
    OutsideTrust, client_config_outside, client_config_outside_with, server_config_outside,
};
pub use peer::{
    PeerCertificate, PeerIdentityError, PeerNames, peer_certificate, peer_identity, peer_names,
};
pub use pem::{
    certificates_from_pem, certificates_to_pem, fingerprint, private_key_der, serial_number,
};
pub use provider::provider;
pub use sessions::{Sessions, called_name};
pub use spoken::Spoken;
pub use trust::Trust;
pub use verify::PeerCheck;

#[cfg(test)]
mod mutants;
#[cfg(test)]
pub(crate) mod test_authority;
#[cfg(test)]
mod tests;
