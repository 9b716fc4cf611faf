//! Requests that are values, between proxies: on a stream beside others they need no HTTP/2 of their
//! own. [`weft_core::traffic::message`] says how they look, this carries it out.
//!
//! `call` is the caller's side of one request, `serve` the called side of request after request,
//! `channel` what both have of the stream, `head` and `body` what is read, `upload` what is sent.

mod body;
mod call;
mod channel;
mod head;
mod serve;
mod upload;

pub(crate) use body::{BrokenMessage, MessageBody};
pub(crate) use call::Call;
pub(crate) use serve::serve;
