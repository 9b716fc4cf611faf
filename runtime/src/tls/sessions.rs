//! Sessions of a client that calls many peers by one name: each peer's are kept apart.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls_pki_types::{DnsName, ServerName};

use super::config::CLIENT_SESSIONS_MAX;
use super::peer_name;

/// Sessions with many peers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Sessions(Arc<ClientSessionMemoryCache>);

/// Those with one of them.
struct SessionsOf {
    peer: ServerName<'static>,
    all: Arc<ClientSessionMemoryCache>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self(Arc::new(ClientSessionMemoryCache::new(CLIENT_SESSIONS_MAX)))
    }
}

impl Sessions {
    /// Returns how to resume with the peer at an address, by whatever name it is called.
    pub fn with_peer(&self, address: SocketAddr) -> Resumption {
        let peer = peer_name(address);
        Resumption::store(Arc::new(SessionsOf { peer, all: self.0.clone() }))
    }
}

/// Returns what a peer is called by, and told so in the handshake; a name that DNS has no room for
/// is not told.
pub fn called_name(sni: &str, address: SocketAddr) -> ServerName<'static> {
    match DnsName::try_from(sni.to_owned()) {
        Ok(name) => ServerName::DnsName(name),
        Err(_) => ServerName::IpAddress(address.ip().into()),
    }
}

impl fmt::Debug for SessionsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsOf").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl ClientSessionStore for SessionsOf {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.all.set_kx_hint(self.peer.clone(), group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.all.kx_hint(&self.peer)
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.all.set_tls12_session(self.peer.clone(), value);
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.all.tls12_session(&self.peer)
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        self.all.remove_tls12_session(&self.peer);
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.all.insert_tls13_ticket(self.peer.clone(), value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.all.take_tls13_ticket(&self.peer)
    }
}
