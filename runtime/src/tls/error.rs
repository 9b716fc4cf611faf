//! Why a TLS configuration cannot be made.

use super::peer::PeerIdentityError;

/// States why key material does not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate where one was expected.
    #[error("{what} has no certificate")]
    NoCertificate {
        /// What was read, in words.
        what: &'static str,
    },
    /// A text is not PEM of the kind expected.
    #[error("{what} is not valid PEM: {reason}")]
    Pem {
        /// What was read, in words.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// The certificate does not say who its holder is.
    #[error("the certificate cannot be an identity of a mesh")]
    Identity(#[source] PeerIdentityError),
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("the private key does not fit the certificate")]
    Key(#[source] rustls::Error),
    /// The certificate leads to none of the roots, or is not valid at the moment.
    #[error("the certificate is not signed by a trusted root, or not valid now")]
    Chain(#[source] rustls::Error),
    /// A root cannot be trusted.
    #[error("a root of the trust bundle is not a usable certificate")]
    Root(#[source] rustls::Error),
    /// A fingerprint is not the SHA-256 of something.
    #[error("{fingerprint:?} is not a SHA-256 fingerprint, which has 64 hex digits")]
    Fingerprint {
        /// The text given.
        fingerprint: String,
    },
    /// A suite is not among those that are spoken.
    #[error("{name:?} is not a suite of TLS 1.2 that is spoken")]
    Suite {
        /// Its name.
        name: String,
    },
    /// The TLS library refused.
    #[error("the TLS library refuses the configuration")]
    Library(#[source] rustls::Error),
}
