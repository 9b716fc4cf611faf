//! Certificates of the identities of this host.

mod keypair;

pub use keypair::{KeyError, KeyRequest, generate};
