//! Services outside the mesh: reached where an entry says, over TLS if it says so. Nobody judges
//! there who calls; what answers is judged here by its certificate.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tracing::{info, warn};
use weft_core::config_entry::{DestinationTls, DestinationTlsMode, ServiceDestination};
use weft_core::traffic::proxy_protocol::Header;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::Origination;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::rustls::pki_types::ServerName;
use weft_runtime::tls::tokio_rustls::TlsConnector;
use weft_runtime::{clock, net};

use crate::http::chain;
use crate::identity::{ALPN_HTTP2, ALPN_TCP};
use crate::transport::{HopWire, Socket, write_header};

/// How often files are looked at, when there is somebody to connect: a new certificate is there
/// hours before the old one ends.
const FILES_CHECK: Duration = Duration::from_secs(60);
/// Bytes of one PEM file: the authorities of a whole system are a quarter of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One address outside the mesh, as one worker calls it.
#[derive(Debug)]
pub(crate) struct Outside {
    host: Box<str>,
    destination: Arc<ServiceDestination>,
    /// What was made of the files last, and when they were looked at.
    made: RefCell<Option<(Made, Instant)>>,
}

/// What was read, and what came of it.
#[derive(Debug, Clone)]
struct Made {
    texts: Texts,
    config: Arc<ClientConfig>,
}

/// What files hold.
#[derive(Clone, PartialEq, Eq)]
struct Texts {
    authorities: Option<String>,
    identity: Option<(String, String)>,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key is in them.
        f.debug_struct("Texts").finish_non_exhaustive()
    }
}

impl Outside {
    /// Makes the way to one of a destination's addresses; nothing is opened or read yet.
    pub(crate) fn new(host: &str, destination: Arc<ServiceDestination>) -> Self {
        Self { host: host.into(), destination, made: RefCell::default() }
    }

    /// Opens a connection on which a protocol of the mesh is spoken inside.
    ///
    /// # Errors
    /// Those of the network, of the files, and of the handshake (`InvalidData`); `TimedOut` after
    /// the limit.
    pub(super) async fn open(
        &self,
        tasks: &TaskTree,
        spoken: &[Vec<u8>],
        limit: Duration,
    ) -> io::Result<HopWire> {
        let opening = async {
            let tls = self.destination.tls.as_deref();
            let tls = tls.filter(|tls| tls.mode != DestinationTlsMode::Disable);
            let config = match tls {
                Some(tls) => Some(self.config(tls, tasks).await?),
                None => None,
            };
            let stream = self.connect(limit).await?;
            match (tls, config) {
                (Some(tls), Some(config)) => self.shake(stream, (tls, &config), spoken).await,
                _ => Ok(HopWire::Plain(Box::new(Socket::new(stream)))),
            }
        };
        let opened = tokio::time::timeout(limit, Box::pin(opening)).await;
        opened.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect(&self, limit: Duration) -> io::Result<net::TcpStream> {
        let port = self.destination.port;
        let mut stream = match self.host.parse::<IpAddr>() {
            Ok(ip) => net::connect_tcp((ip, port).into(), limit).await?,
            Err(_) => net::connect_host(&format!("{}:{port}", self.host), limit).await?,
        };
        if let Some(version) = self.destination.proxy_protocol {
            // Connections are used for many callers, so it tells their own ends.
            let ends = Some((stream.local_addr()?, stream.peer_addr()?));
            let header = write_header(version, &Header { ends, ..Header::default() });
            stream.write_all(&header).await?;
        }
        Ok(stream)
    }

    async fn shake(
        &self,
        stream: net::TcpStream,
        (tls, config): (&DestinationTls, &ClientConfig),
        spoken: &[Vec<u8>],
    ) -> io::Result<HopWire> {
        let is_spoken = |word: &str| spoken.iter().any(|it| it == word.as_bytes());
        let mut config = config.clone();
        config.alpn_protocols = match is_spoken(ALPN_TCP) {
            true => tls.alpn.iter().map(|word| word.as_bytes().to_vec()).collect(),
            false => spoken.to_vec(),
        };
        let name = if tls.sni.is_empty() { &*self.host } else { &tls.sni };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, Socket::new(stream)).await?;
        if is_spoken(ALPN_HTTP2) && tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2.as_bytes()) {
            let reason = "the server does not speak HTTP/2 (ALPN h2)";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(HopWire::Own(Box::new(tls)))
    }

    /// Returns the configuration, with what the files hold now or held a while ago.
    async fn config(
        &self,
        tls: &DestinationTls,
        tasks: &TaskTree,
    ) -> io::Result<Arc<ClientConfig>> {
        let (known, now) = (self.made.borrow().clone(), clock::instant());
        let known = match known {
            Some((known, looked)) if now < looked + FILES_CHECK => return Ok(known.config),
            other => other.map(|(known, _)| known),
        };
        let (of_reading, host, before) = (tls.clone(), self.host.clone(), known.clone());
        let read = tasks.blocking(move || read(&of_reading, &host, before)).await;
        let made = match (read.map_err(io::Error::other)?, known) {
            (Ok(made), Some(known)) if !Arc::ptr_eq(&made.config, &known.config) => {
                info!(host = %self.host, "new certificates for a destination are in use");
                made
            }
            (Ok(made), _) => made,
            // The old ones serve on; files may be half-written at the moment.
            (Err(error), Some(known)) => {
                warn!(host = %self.host, error = chain(&error), "cannot read certificates again");
                known
            }
            (Err(error), None) => return Err(error),
        };
        let config = made.config.clone();
        *self.made.borrow_mut() = Some((made, now));
        Ok(config)
    }
}

/// Reads the files; makes a configuration of them if they are others than before. Blocks.
fn read(tls: &DestinationTls, host: &str, before: Option<Made>) -> io::Result<Made> {
    let text = |field: &str, path: &str| {
        let read = || {
            let length = std::fs::metadata(path)?.len();
            if length > FILE_BYTES_MAX {
                let reason = format!("it has {length} bytes, more than the {FILE_BYTES_MAX} read");
                return Err(io::Error::other(reason));
            }
            std::fs::read_to_string(path)
        };
        let named = |error| io::Error::other(format!("cannot read {field} {path:?}: {error}"));
        read().map_err(named)
    };
    let authorities = match (&*tls.ca_file, &*tls.ca_pem) {
        ("", "") => None,
        ("", pem) => Some(pem.to_owned()),
        (path, _) => Some(text("CAFile", path)?),
    };
    let identity = match tls.mode {
        DestinationTlsMode::Mutual => {
            Some((text("CertFile", &tls.cert_file)?, text("KeyFile", &tls.key_file)?))
        }
        DestinationTlsMode::Disable | DestinationTlsMode::Simple => None,
    };
    let texts = Texts { authorities, identity };
    if let Some(before) =
        before.filter(|before| before.texts == texts && texts.authorities.is_some())
    {
        return Ok(before);
    }
    let names = match (&tls.subject_alt_names[..], &*tls.sni) {
        ([], "") => vec![host.to_owned()],
        ([], sni) => vec![sni.to_owned()],
        (names, _) => names.to_vec(),
    };
    let identity = texts.identity.as_ref().map(|(chain, key)| (chain.as_str(), key.as_str()));
    let (authorities, needs_tls13) = (texts.authorities.as_deref(), tls.needs_tls13());
    let wanted = Origination { authorities, names: &names, identity, needs_tls13 };
    let config = wanted.client_config().map_err(|error| {
        let reason = chain(&error);
        io::Error::other(format!("the TLS of the destination cannot be set up: {reason}"))
    })?;
    Ok(Made { texts, config: Arc::new(config) })
}

/// Whether TLS is spoken with a destination.
pub(super) fn speaks_tls(destination: &ServiceDestination) -> bool {
    let tls = destination.tls.as_deref();
    tls.is_some_and(|tls| tls.mode != DestinationTlsMode::Disable)
}

/// Returns the host that requests to a destination are for, `None` where the caller's is kept:
/// those outside know themselves by their own names.
pub(super) fn own_host(destination: &ServiceDestination) -> Option<String> {
    let host = destination.addresses.first()?;
    let is_name = host.parse::<IpAddr>().is_err() && !host.starts_with('*');
    let is_usual = destination.port == if speaks_tls(destination) { 443 } else { 80 };
    let host = if is_usual { host.clone() } else { format!("{host}:{}", destination.port) };
    (is_name && !destination.disable_auto_host_rewrite).then_some(host)
}
