//! gRPC between our own processes: how a channel is opened, how a door serves gRPC and JSON on
//! one port. Services and messages are elsewhere.

mod answer;
mod channel;
mod hosts;
mod split;

pub use answer::messages;
pub use channel::{
    channel_outside, channel_over, channel_plain, channel_tls, channel_tls_any, channel_unix,
};
pub use hosts::Hosts;
pub use split::GrpcOrApi;

pub use tonic;
