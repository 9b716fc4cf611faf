//! Every wire form of Weft.
//!
//! `grpc` between our own processes, `envelope` for records in binary, `json` for the public
//! API's bodies, `text` for configuration files. No decisions here.

pub mod envelope;
pub mod grpc;
pub mod join_token;
pub mod json;
pub mod text;
