//! The rustls configurations of members.
//!
//! A configuration belongs to one identity and one trust bundle and is replaced whole when
//! either changes (`cell`). Sessions are kept inside it, so that none outlives the checks under
//! which it was made.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{DnsName, ServerName};

use super::provider::WallClock;
use super::verify::{ClientVerifier, PeerCheck, ServerVerifier};
use super::{Identity, Spoken, TlsError, Trust};

/// Sessions that a client keeps for resumption: one per peer address, of those it calls often.
pub(super) const CLIENT_SESSIONS_MAX: usize = 256;

/// How long one ticket key lives. A ticket is good for at most twice that, which bounds how
/// long a certificate that has expired since can still resume.
const TICKET_KEY_SECONDS: u32 = 600;

/// Whether a server asks callers for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A caller may come without one; if it has one, that must be good.
    Optional,
    /// A caller without a good one is turned away in the handshake.
    Required,
}

/// Whether a server lets callers resume sessions without a full handshake.
///
/// A resumed session is not checked against the trust bundle again. The keys of its ticket
/// belong to this one configuration, so replacing the configuration (new roots, new leaf) ends
/// every session made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// Every connection is a full handshake.
    Off,
    /// Callers get a ticket that is good for some minutes, at longest as long as the
    /// configuration is in use.
    Tickets,
}

/// What a server's configuration is made of besides identity and trust.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions<'a> {
    /// Whether callers need a certificate.
    pub client_auth: ClientAuth,
    /// Protocols of the application layer, the preferred one first; none when empty.
    pub alpn: &'a [&'a str],
    /// Whether sessions may be resumed.
    pub resumption: Resumption,
    /// Versions and suites.
    pub spoken: &'a Spoken,
}

/// Makes a server's configuration without resumption.
///
/// # Errors
/// [`TlsError`] when the library refuses the key material.
pub fn server_config(
    identity: &Identity,
    trust: &Trust,
    client_auth: ClientAuth,
    alpn: &[&str],
) -> Result<ServerConfig, TlsError> {
    let spoken = &Spoken::default();
    let options = ServerOptions { client_auth, alpn, resumption: Resumption::Off, spoken };
    server_config_with(identity, trust, &options)
}

/// Makes a server's configuration.
///
/// # Errors
/// [`TlsError`] when the library refuses the key material.
pub fn server_config_with(
    identity: &Identity,
    trust: &Trust,
    options: &ServerOptions<'_>,
) -> Result<ServerConfig, TlsError> {
    let verifier = ClientVerifier::new(trust, options.client_auth)?;
    let Spoken { versions, provider } = options.spoken;
    let mut config = ServerConfig::builder_with_details(provider.clone(), Arc::new(WallClock))
        .with_protocol_versions(versions)
        .map_err(TlsError::Library)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity.resolver());
    config.alpn_protocols = protocols(options.alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Without it a session of TLS 1.2 is not bound to its handshake (RFC 7627).
    config.require_ems = true;
    match options.resumption {
        Resumption::Off => config.send_tls13_tickets = 0,
        Resumption::Tickets => {
            config.ticketer = ticketer()?;
            // One per connection: a pool opens few connections and each brings a fresh one.
            config.send_tls13_tickets = 1;
        }
    }
    Ok(config)
}

/// Makes the configuration of a client that shows its identity.
///
/// Sessions resume only within this configuration, hence only with peers that passed `check`.
///
/// # Errors
/// [`TlsError`] when the library refuses the key material.
pub fn client_config(
    identity: &Identity,
    trust: &Trust,
    check: PeerCheck,
    alpn: &[&str],
) -> Result<ClientConfig, TlsError> {
    client_config_with(identity, trust, check, (alpn, &Spoken::default()))
}

/// Makes such a configuration that speaks what it is told.
///
/// # Errors
/// As [`client_config`].
pub fn client_config_with(
    identity: &Identity,
    trust: &Trust,
    check: PeerCheck,
    (alpn, spoken): (&[&str], &Spoken),
) -> Result<ClientConfig, TlsError> {
    let verifier = ServerVerifier::Member { trust: trust.clone(), check };
    let mut config = client_builder_of(Arc::new(verifier), spoken)?
        .with_client_cert_resolver(identity.resolver());
    config.alpn_protocols = protocols(alpn);
    config.resumption = rustls::client::Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX);
    config.require_ems = true;
    // Peers are known by SPIFFE ID; the name given to a connection only keys its sessions.
    config.enable_sni = false;
    Ok(config)
}

/// Makes the configuration of a client that has no certificate, to see what a server presents
/// and that it refuses to serve.
///
/// # Errors
/// [`TlsError`] when the library refuses the trust.
pub fn client_config_anonymous(
    trust: &Trust,
    check: PeerCheck,
    alpn: &[&str],
) -> Result<ClientConfig, TlsError> {
    let verifier = ServerVerifier::Member { trust: trust.clone(), check };
    let mut config = client_builder(Arc::new(verifier))?.with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Makes the configuration of a host that joins: it has no certificate yet, and knows of the
/// mesh only the fingerprint of a root.
///
/// The server must present that root in its chain ([`Identity::presenting_roots`]) and be a
/// server of the mesh.
///
/// # Errors
/// [`TlsError::Fingerprint`] when the fingerprint is none.
pub fn client_config_pinned(
    root_fingerprint: &str,
    alpn: &[&str],
) -> Result<ClientConfig, TlsError> {
    let is_sha256 =
        root_fingerprint.len() == 64 && root_fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_sha256 {
        return Err(TlsError::Fingerprint { fingerprint: root_fingerprint.to_owned() });
    }
    let verifier =
        ServerVerifier::Pinned { root_fingerprint: root_fingerprint.to_ascii_lowercase() };
    let mut config = client_builder(Arc::new(verifier))?.with_no_client_auth();
    config.alpn_protocols = protocols(alpn);
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Returns the name under which a client connects to a peer: it stands for the address, so that
/// sessions of neighbours on one host are kept apart, and is never sent.
pub fn peer_name(address: SocketAddr) -> ServerName<'static> {
    let ip: String = match address.ip() {
        std::net::IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        std::net::IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    };
    let name = DnsName::try_from(format!("ip-{ip}-port-{}.peer", address.port()))
        .expect("hex digits, digits and hyphens make a DNS label of at most 63 bytes");
    ServerName::DnsName(name)
}

fn client_builder(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    client_builder_of(verifier, &Spoken::default())
}

fn client_builder_of(
    verifier: Arc<dyn ServerCertVerifier>,
    spoken: &Spoken,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_details(spoken.provider.clone(), Arc::new(WallClock))
        .with_protocol_versions(spoken.versions)
        .map_err(TlsError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    let rotator = rustls::ticketer::TicketRotator::new(TICKET_KEY_SECONDS, || {
        match rustls::crypto::aws_lc_rs::Ticketer::new() {
            Ok(key) => Ok(Box::new(TicketKey(key))),
            Err(_) => Err(rustls::crypto::GetRandomFailed),
        }
    })
    .map_err(TlsError::Library)?;
    Ok(Arc::new(rotator))
}

/// One key of the rotator.
#[derive(Debug)]
struct TicketKey(Arc<dyn ProducesTickets>);

impl ProducesTickets for TicketKey {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }
    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }
    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
