//! What is judged: one call, as the proxy of the service called sees it.

use std::net::IpAddr;

use super::Token;
use crate::canonical_path::{CanonicalPath, UnclearPath};
use crate::traffic::RequestView;

/// A call by a connection, or one request on it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The address of the calling proxy; `None` when it is not known.
    pub address: Option<IpAddr>,
    /// The port of the service called; `None` when it is not known.
    pub port: Option<u16>,
    /// The server name that the caller gave in TLS; `None` when it gave none.
    pub sni: Option<&'a str>,
    /// The request; `None` for a connection that carries bytes.
    pub request: Option<Asked<'a>>,
}

/// A request with its path in the one form that is judged.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The request.
    pub request: &'a dyn RequestView,
    /// Its path in canonical form, or why it has none.
    pub path: Result<&'a CanonicalPath, UnclearPath>,
    /// What is known of its tokens, one for each provider that is asked about; see
    /// [`super::Judge::providers`].
    pub tokens: &'a [Token],
}
