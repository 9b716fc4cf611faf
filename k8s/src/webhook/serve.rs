//! The webhook as a process: HTTPS for the API server, and the upkeep of its certificate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use tower::service_fn;
use tracing::{debug, info, warn};
use weft_core::time::Timestamp;
use weft_runtime::backoff::Backoff;
use weft_runtime::http::{Body, Callers, Found, Router, ServeOptions, collect, full, serve};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::{CONTENT_TYPE as METRICS_TYPE, Counter, Family, Registry};
use weft_runtime::tls::{ServerTlsCell, TlsError, server_config_outside};
use weft_runtime::{clock, entropy, net};

use super::api::ApiServer;
use super::certificate::{Authorities, CertificateError, LEAF_AGE};
use super::keeper::{KeepError, Places, keep};
use super::review::{Outcome, answer};
use crate::inject::{Settings, Switch};

/// The largest question: a pod has 1.5 MiB at most, and an update would bring two.
const REVIEW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often authorities are looked after.
const ROUND: Duration = Duration::from_secs(30);
/// The pauses between attempts while the API server refuses.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How the webhook is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The name of its Service, below which the API server calls it.
    pub service: String,
    /// The namespace of Service and Secret.
    pub namespace: String,
    /// The Secret with its authorities.
    pub secret: String,
    /// Its MutatingWebhookConfiguration.
    pub configuration: String,
    /// What goes into pods.
    pub settings: Settings,
}

/// Why the webhook did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its port is taken, or not its own.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was told to end before it served.
    #[error("the webhook was stopped while it started")]
    Stopped,
    /// No certificate could be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate does not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The webhook.
#[derive(Debug)]
pub struct Webhook;

/// A webhook that serves.
#[derive(Debug)]
pub struct WebhookHandle {
    addr: SocketAddr,
}

impl WebhookHandle {
    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// What requests are answered from.
struct Desk {
    settings: Settings,
    registry: Registry,
    reviews: Family<Vec<(&'static str, &'static str)>, Counter>,
    router: Router<Route>,
}

#[derive(Debug, Clone, Copy)]
enum Route {
    Inject(Switch),
    Metrics,
    Ready,
}

impl Webhook {
    /// Starts the webhook, once it has a certificate that the API server trusts.
    ///
    /// # Errors
    /// [`StartError`]; an API server that is away is waited for.
    pub async fn start(
        config: Config,
        api: ApiServer,
        tasks: TaskTree,
    ) -> Result<WebhookHandle, StartError> {
        let Config { addr, service, namespace, secret, configuration, settings } = config;
        let listener =
            net::bind_tcp(addr).await.map_err(|source| StartError::Bind { addr, source })?;
        let addr = listener.local_addr().map_err(|source| StartError::Bind { addr, source })?;
        let names = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ];
        let places = Places { namespace, secret, configuration };
        let authorities = tokio::select! {
            () = tasks.cancelled() => return Err(StartError::Stopped),
            authorities = first_round(&api, &places) => authorities,
        };
        let tls = ServerTlsCell::new(issue(&authorities, &names, clock::wall())?);
        let upkeep = Upkeep { api, places, names, tls: tls.clone() };
        tasks.spawn("certificates", upkeep.run(authorities, tasks.clone()));
        let desk = Arc::new(Desk::new(settings));
        let service = service_fn(move |request: Request<Body>| {
            let desk = desk.clone();
            async move { Ok::<_, Infallible>(desk.answer(request).await) }
        });
        let options = ServeOptions {
            callers: Callers::Outsiders,
            body_bytes_max: REVIEW_BYTES_MAX,
            ..ServeOptions::default()
        };
        let tree = tasks.clone();
        tasks.spawn("https", async move {
            serve(listener, Some(tls), service, options, &tree).await;
        });
        Ok(WebhookHandle { addr })
    }
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let registry = Registry::new("webhook");
        let reviews = registry.register(
            "reviews",
            "Questions of the API server, by what came of them",
            Family::default(),
        );
        let router = Router::new()
            .route(Method::POST, "/inject/enabled", Route::Inject(Switch::Enabled))
            .route(Method::POST, "/inject/unsaid", Route::Inject(Switch::Unsaid))
            .route(Method::GET, "/metrics", Route::Metrics)
            .route(Method::GET, "/ready", Route::Ready);
        Self { settings, registry, reviews, router }
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let route = match self.router.find(request.method(), request.uri().path()) {
            Found::Handler { handler, .. } => *handler,
            Found::NotFound => return plain(StatusCode::NOT_FOUND, "no such path"),
            Found::WrongMethod { allow } => {
                return plain(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allow}"));
            }
        };
        match route {
            Route::Inject(namespace) => self.review(request, namespace).await,
            Route::Metrics => with_type(METRICS_TYPE, self.registry.encode()),
            Route::Ready => plain(StatusCode::OK, "ready"),
        }
    }

    async fn review(&self, request: Request<Body>, namespace: Switch) -> Response<Body> {
        let body = match collect(request.into_body(), REVIEW_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => {
                self.count(Outcome::Malformed);
                return plain(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
            }
        };
        match answer(&body, namespace, &self.settings) {
            Ok((review, outcome)) => {
                self.count(outcome);
                debug!(outcome = outcome.name(), "a pod was judged");
                with_type("application/json", review.to_string())
            }
            Err(error) => {
                self.count(Outcome::Malformed);
                plain(StatusCode::BAD_REQUEST, &error.to_string())
            }
        }
    }

    fn count(&self, outcome: Outcome) {
        self.reviews.get_or_create(&vec![("outcome", outcome.name())]).inc();
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = with_type("text/plain; charset=utf-8", format!("{text}\n"));
    *response.status_mut() = status;
    response
}

fn with_type(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// Repeats the first round until it has succeeded: without it nobody can call.
async fn first_round(api: &ApiServer, places: &Places) -> Authorities {
    let mut pauses = Backoff::new(RETRY_MIN, RETRY_MAX, entropy::rng());
    loop {
        match keep(api, places, clock::wall()).await {
            Ok(authorities) => return authorities,
            Err(error) => tell(&error),
        }
        tokio::time::sleep(pauses.next()).await;
    }
}

fn tell(error: &KeepError) {
    match error {
        KeepError::Api(super::ApiError::Conflict { path }) => {
            debug!(%path, "another replica was first");
        }
        KeepError::Api(_)
        | KeepError::Certificate(_)
        | KeepError::NoConfiguration(_)
        | KeepError::Secret(_) => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            warn!(%error, ?cause, "cannot look after the webhook's certificates");
        }
    }
}

/// Makes the TLS configuration of a new certificate.
fn issue(
    authorities: &Authorities,
    names: &[String],
    now: Timestamp,
) -> Result<Arc<weft_runtime::tls::rustls::ServerConfig>, StartError> {
    let signer = authorities.signer(now).expect("a round gives at least one authority");
    let (chain, key) = signer.issue(names, now)?;
    Ok(Arc::new(server_config_outside(&chain, &key, None, &["h2", "http/1.1"])?))
}

/// What keeps authorities and certificate good.
struct Upkeep {
    api: ApiServer,
    places: Places,
    names: Vec<String>,
    tls: ServerTlsCell,
}

impl Upkeep {
    async fn run(self, mut authorities: Authorities, tasks: TaskTree) {
        let mut issued = clock::wall();
        let mut signer = authorities.signer(issued).cloned();
        let mut rounds = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                // Both are cancel-safe.
                _ = rounds.tick() => {}
                () = tasks.cancelled() => return,
            }
            let now = clock::wall();
            match keep(&self.api, &self.places, now).await {
                Ok(kept) => authorities = kept,
                Err(error) => tell(&error),
            }
            let wanted = authorities.signer(now).cloned();
            if wanted == signer && now.since(issued) < LEAF_AGE {
                continue;
            }
            match issue(&authorities, &self.names, now) {
                Ok(config) => {
                    self.tls.store(config);
                    (issued, signer) = (now, wanted);
                    info!("the webhook has a new certificate");
                }
                Err(error) => warn!(%error, "the webhook keeps its old certificate"),
            }
        }
    }
}
