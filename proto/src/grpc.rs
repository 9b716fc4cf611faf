//! The generated gRPC modules, named.

// Generated code follows the generator's rules; the `.proto` files carry the documentation.
#![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

/// Package `weft.v1`.
pub mod v1 {
    tonic::include_proto!("weft.v1");
}
