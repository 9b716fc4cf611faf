//! The doors at which the API is served to those who are no members of the mesh: without TLS on
//! loopback, and with TLS under the operator's own certificate.
//!
//! Nobody shows there who they are; tokens decide. Pages of other sites are kept out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use ::http::{Request, Response, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use tower::Service;
use weft_core::limits;
use weft_proto::text::HttpsConfig;
use weft_runtime::http::{Body, Callers, OwnHosts, Remote, ServeOptions, check_foreign, serve};
use weft_runtime::net::MemberListener;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{CertificateFileError, CertificateFiles, ServerTlsCell};

use super::error::ApiError;
use super::{Api, Entrance};
use crate::config::HttpConfig;
use crate::start::{StartError, bind};

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
        streams_max: limits::API_STREAMS_PER_CONNECTION_MAX,
        ..ServeOptions::default()
    };
    let tree = tasks.child(name);
    tasks.spawn(name, async move { serve(listener, tls, door, options, &tree).await });
}

/// Reads the certificate of the door with TLS, and keeps it fresh.
async fn certificate(
    https: &HttpsConfig,
    tasks: &TaskTree,
) -> Result<ServerTlsCell, CertificateFileError> {
    let HttpsConfig { cert_file, key_file, ca_file, .. } = https.clone();
    CertificateFiles { cert_file, key_file, ca_file }.open(tasks).await
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let own = match &self.allowed_hosts {
            Some(hosts) => OwnHosts::Named { allowed: hosts, of_host: &[] },
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
        let remote = request.extensions().get::<Remote>().copied();
        if let Some(Remote::Tcp(remote)) = remote
            && let Ok(value) = remote.ip().to_string().parse()
        {
            request.headers_mut().entry("x-forwarded-for").or_insert(value);
        }
        Box::pin(self.api.clone().count_and_answer(request, entrance).map(Ok))
    }
}
