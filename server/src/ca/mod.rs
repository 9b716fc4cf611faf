//! The certificate authority of this server: keys and signatures. What may be signed is decided
//! by `core::ca`.

mod builtin;
mod certificate;
mod change;
mod counts;
mod cross;
mod entry_key;
mod provider;
#[cfg(test)]
mod request_mutants;
mod seal;
mod sealed_text;
mod signer;
#[cfg(test)]
mod tests;
mod vault;

pub use builtin::CaError;
pub(crate) use builtin::{Signed, make_root, request_for_new_key};
pub(crate) use change::ChangeError;
pub(crate) use change::{ChangeRequest, Given, WantedProvider};
pub(crate) use entry_key::seal_entry_key;
pub(crate) use provider::Shelf;
pub use seal::SealError;
pub(crate) use seal::{Purpose, SealKey};
pub(crate) use signer::Signer;
pub use signer::SignerError;
