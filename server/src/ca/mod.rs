//! The certificate authority of this server: keys and signatures. What may be signed is decided
//! by `core::ca`.

mod builtin;
mod entry_key;
#[cfg(test)]
mod request_mutants;
mod seal;
mod sealed_text;
mod signer;
#[cfg(test)]
mod tests;

pub use builtin::CaError;
pub(crate) use builtin::{Signed, make_root, request_for_new_key};
pub(crate) use entry_key::seal_entry_key;
pub use seal::SealError;
pub(crate) use seal::{Purpose, SealKey};
pub(crate) use signer::Signer;
pub use signer::SignerError;
