//! What people write: configuration files and what is wrong with them.
//!
//! Every form ends as a JSON value and goes through the decoder of `json`.

mod fault;

pub use fault::Fault;
