//! The doors at which the API is served to those who are no members of the mesh: without TLS on
//! loopback, and with TLS under the operator's own certificate.
//!
//! Nobody shows there who they are; tokens decide. Pages of other sites are kept out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use tower::Service;
use tracing::{info, warn};
use weft_runtime::http::{Body, Callers, OwnHosts, ServeOptions, check_foreign, serve};
use weft_runtime::net::MemberListener;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{ServerTlsCell, TlsError, server_config_outside};

use super::error::ApiError;
use super::{Api, Entrance};
use crate::config::{HttpConfig, HttpsConfig};
use crate::start::{StartError, bind};

/// How often the files of the certificate are looked at: a new one is there hours before the
/// old one ends.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);

/// States why the API cannot be served with TLS.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A file cannot be read.
    #[error("https: cannot read {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The files do not make a configuration.
    #[error("https: the certificate of {path:?} cannot be used: {source}")]
    Tls {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        source: TlsError,
    },
}

/// The certificate of a door: what was read, and what came of it.
struct Certificate {
    texts: [Option<String>; 3],
    config: Arc<weft_runtime::tls::rustls::ServerConfig>,
}

impl Certificate {
    /// Reads the files. Blocks.
    fn read(config: &HttpsConfig) -> Result<Self, HttpsError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|source| HttpsError::File { path: path.to_owned(), source })
        };
        let (chain, key) = (read(&config.cert_file)?, read(&config.key_file)?);
        let authorities = config.ca_file.as_deref().map(read).transpose()?;
        let alpn = ["h2", "http/1.1"];
        let made = server_config_outside(&chain, &key, authorities.as_deref(), &alpn)
            .map_err(|source| HttpsError::Tls { path: config.cert_file.clone(), source })?;
        Ok(Self { texts: [Some(chain), Some(key), authorities], config: Arc::new(made) })
    }
}

/// The doors, bound but not yet open.
pub(crate) struct ApiDoors {
    http: Option<(MemberListener, SocketAddr)>,
    https: Option<(MemberListener, SocketAddr, ServerTlsCell)>,
}

/// Where the doors of the API listen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ApiAddresses {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
}

impl ApiDoors {
    /// Binds what the configuration names, and reads the certificate.
    ///
    /// # Errors
    /// [`StartError`] with the address or the file.
    pub(crate) async fn bind(config: &HttpConfig, tasks: &TaskTree) -> Result<Self, StartError> {
        let http = match config.addr {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let https = match &config.https {
            Some(https) => {
                let (listener, address) = bind(https.addr).await?;
                Some((listener, address, certificate(https, tasks).await?))
            }
            None => None,
        };
        Ok(Self { http, https })
    }

    /// Serves the API at them.
    pub(crate) fn open(self, api: &Api, config: &HttpConfig, tasks: &TaskTree) -> ApiAddresses {
        let mut addresses = ApiAddresses::default();
        if let Some((listener, address)) = self.http {
            addresses.http = Some(address);
            let hosts = Some(config.allowed_hosts.clone().into());
            let door = OutsideDoor { api: api.clone(), allowed_hosts: hosts };
            open("http", listener, None, door, config, tasks);
        }
        if let Some((listener, address, tls)) = self.https {
            addresses.https = Some(address);
            let door = OutsideDoor { api: api.clone(), allowed_hosts: None };
            open("https", listener, Some(tls), door, config, tasks);
        }
        addresses
    }
}

fn open(
    name: &'static str,
    listener: MemberListener,
    tls: Option<ServerTlsCell>,
    door: OutsideDoor,
    config: &HttpConfig,
    tasks: &TaskTree,
) {
    let options = ServeOptions {
        callers: Callers::Outsiders,
        connections_per_client_max: config.connections_per_client_max,
        // Each route has its own bound.
        body_bytes_max: usize::MAX,
        ..ServeOptions::default()
    };
    let tree = tasks.child(name);
    tasks.spawn(name, async move { serve(listener, tls, door, options, &tree).await });
}

/// Reads the certificate of the door with TLS, and keeps it fresh.
async fn certificate(https: &HttpsConfig, tasks: &TaskTree) -> Result<ServerTlsCell, StartError> {
    let of_reading = https.clone();
    let first = tasks.blocking(move || Certificate::read(&of_reading)).await??;
    let cell = ServerTlsCell::new(first.config.clone());
    tasks.spawn("api certificate", keep_fresh(https.clone(), first, cell.clone(), tasks.clone()));
    Ok(cell)
}

/// Takes a new certificate into use once it is there.
async fn keep_fresh(
    config: HttpsConfig,
    mut current: Certificate,
    cell: ServerTlsCell,
    tasks: TaskTree,
) {
    loop {
        tokio::select! {
            // A sleep loses nothing when it is dropped.
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
            () = tasks.cancelled() => return,
        }
        let of_reading = config.clone();
        match tasks.blocking(move || Certificate::read(&of_reading)).await {
            Ok(Ok(read)) if read.texts == current.texts => {}
            Ok(Ok(read)) => {
                cell.store(read.config.clone());
                current = read;
                info!(path = ?config.cert_file, "a new certificate of the API is in use");
            }
            // The old one serves on; files may be half-written at the moment.
            Ok(Err(error)) => warn!(%error, "the certificate of the API could not be read again"),
            Err(_) => return,
        }
    }
}

/// The API behind the check of where a request comes from.
#[derive(Clone)]
struct OutsideDoor {
    api: Api,
    /// By which names it is called; `None` behind a certificate.
    allowed_hosts: Option<Arc<[String]>>,
}

impl Service<Request<Body>> for OutsideDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let own = match &self.allowed_hosts {
            Some(hosts) => OwnHosts::Named(hosts),
            None => OwnHosts::Certified,
        };
        if let Err(foreign) = check_foreign(&request, own) {
            let refused = ApiError::new(StatusCode::FORBIDDEN, foreign.to_string());
            return Box::pin(std::future::ready(Ok(refused.into_response())));
        }
        let entrance = match self.allowed_hosts {
            Some(_) => Entrance::Host,
            None => Entrance::Outside,
        };
        Box::pin(self.api.clone().count_and_answer(request, entrance).map(Ok))
    }
}
