//! HTTP for APIs: serving with limits, routing, calling. The proxy's data path has its own.
//!
//! Which routes exist, and what they answer, is decided by the processes.

mod accept;
mod audit;
mod body;
mod client;
mod clients;
mod compress;
mod connection;
mod guard;
mod ping;
mod router;
mod serve;

pub use accept::{Accept, Remote};
pub use audit::{ApiAudit, Noted};
pub use body::{Body, BodyError, BoxError, collect, empty, full, is_empty, streamed, told_bytes};
pub use client::{CallError, HttpClient, HttpResponse};
pub use compress::{accepts_gzip, gzip, gzipped};
pub use guard::{ForeignRequest, OwnHosts, check_foreign};
pub use ping::ping_h2;
pub use router::{Found, Params, Router};
pub use serve::{Callers, PeerIdentity, ServeOptions, serve};

#[cfg(test)]
mod tests;
