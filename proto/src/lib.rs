//! Every wire form of Weft.
//!
//! `grpc` between our own processes, `framing` its messages that share their content, `envelope`
//! for records in binary and `encoded` for those that are written once, `json` for the public
//! API's bodies, `secret` how Envoy is given some, `text` for configuration files. No decisions
//! here.

pub mod encoded;
pub mod envelope;
pub mod framing;
pub mod grpc;
pub mod join_token;
pub mod json;
pub mod secret;
pub mod text;
