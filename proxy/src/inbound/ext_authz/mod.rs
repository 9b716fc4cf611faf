//! External authorisation: somebody else is asked whether a request may pass, once intentions let
//! it through. Without an answer it does not, unless the configuration says so.

mod grpc;
mod http;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ::http::header::{HeaderName, HeaderValue};
use tonic::transport::Channel;
use tracing::{debug, warn};
use weft_core::proxycfg::ExtAuthz;
use weft_runtime::http::HttpClient;
use weft_runtime::{clock, rpc};

use crate::http::h1::is_end_to_end;
use crate::http::{Edits, Extent, Held, Holding, Refusal, chain};
use crate::inbound::WholeRequest;
use crate::observe::Series;

/// Bytes of the body of an authoriser's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Says whether only the beginning of the body is told.
///
/// **Source**: Envoy: extensions/filters/http/ext_authz/v3/ext_authz.proto, BufferSettings.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
/// How often a worker says that there is no answer.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The way to an authoriser, of one worker.
#[derive(Debug)]
pub(crate) struct Authoriser {
    config: ExtAuthz,
    means: Means,
    /// When it was last said that there was no answer.
    told: Cell<Option<Instant>>,
}

#[derive(Debug)]
enum Means {
    Grpc(Channel),
    Http(HttpClient, SocketAddr),
    /// There is nobody to ask.
    Nobody,
}

/// What an authoriser is told.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: String,
    /// With the query, as it will be forwarded.
    pub(super) path: String,
    pub(super) host: String,
    /// Names in lower case; several values of one name are joined by commas.
    pub(super) headers: BTreeMap<String, String>,
    /// Of the body, if it is told.
    pub(super) body: Option<Held>,
    /// The caller's address, identity and service.
    pub(super) source: (Option<IpAddr>, String, String),
    /// Our own address, identity and service.
    pub(super) destination: (SocketAddr, String, String),
    /// What the caller's certificate says, as services are told it.
    pub(super) certificate: String,
}

/// What an authoriser answers.
#[derive(Debug)]
enum Answer {
    Allowed(Edits),
    Denied(Refusal),
}

/// States why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the body is no UTF-8, and is told as text unless PackAsBytes is set")]
    Body,
    #[error("it asks for changes of the query, which are not made")]
    Changes,
    #[error("it does not answer over HTTP")]
    Http(#[source] weft_runtime::http::CallError),
    #[error("the authoriser is no upstream of this service")]
    Nobody,
    #[error("the request cannot be told")]
    Question,
    #[error("it answers with the status {0}")]
    Status(u16),
    #[error("it does not answer over gRPC")]
    Grpc(#[source] Box<tonic::Status>),
    #[error("it does not answer in time")]
    Slow,
}

impl Authoriser {
    /// Makes the way to an authoriser; nothing is opened yet.
    pub(crate) fn new(config: &ExtAuthz) -> Self {
        let limit = config.config.target().map(|target| target.limit()).unwrap_or_default();
        let means = match (&config.config.grpc_service, config.address) {
            (Some(_), Some(address)) => Means::Grpc(rpc::channel_plain(address)),
            (None, Some(address)) => Means::Http(HttpClient::new(limit, ANSWER_BYTES_MAX), address),
            (_, None) => Means::Nobody,
        };
        Self { config: config.clone(), means, told: Cell::new(None) }
    }

    /// Whether it asks as this configuration says.
    pub(crate) fn is_of(&self, config: &ExtAuthz) -> bool {
        self.config == *config
    }

    /// Returns how much of bodies it is shown.
    pub(super) fn holding(&self) -> Option<Holding> {
        let body = self.config.config.with_request_body.as_ref()?;
        let bytes_max = usize::try_from(body.max_request_bytes).unwrap_or(usize::MAX);
        Some(Holding { bytes_max, allows_partial: body.allow_partial_message })
    }

    /// Asks; returns what becomes of the request.
    ///
    /// # Errors
    /// [`Refusal`] when it must not pass.
    pub(super) async fn ask(&self, question: &Question, series: &Series) -> Result<Edits, Refusal> {
        let config = &self.config.config;
        let limit = config.target().map(|target| target.limit()).unwrap_or_default();
        let asking = async {
            match (&self.means, &config.grpc_service, &config.http_service) {
                (Means::Grpc(channel), Some(grpc), _) => {
                    let body = config.with_request_body.as_ref();
                    let as_bytes = body.is_some_and(|body| body.pack_as_bytes);
                    grpc::ask(channel.clone(), (grpc, as_bytes), question).await
                }
                (Means::Http(client, address), _, Some(http)) => {
                    http::ask(client, (http, *address), question).await
                }
                _ => Err(NoAnswer::Nobody),
            }
        };
        let asked = tokio::time::timeout(limit, Box::pin(asking)).await;
        match asked.unwrap_or(Err(NoAnswer::Slow)) {
            Ok(Answer::Allowed(edits)) => {
                series.authorised.add(1);
                Ok(edits)
            }
            Ok(Answer::Denied(refusal)) => {
                series.unauthorised.add(1);
                debug!(
                    caller = question.source.1,
                    status = refusal.status,
                    "the authoriser refused a request"
                );
                Err(refusal)
            }
            Err(why) => {
                series.authorisers_failed.add(1);
                let (reason, passes) = (chain(&why), config.failure_mode_allow);
                let now = clock::instant();
                if self.told.get().is_none_or(|told| now >= told + TELL_EVERY) {
                    self.told.set(Some(now));
                    warn!(reason, passes, "the authoriser gives no answer");
                }
                if passes {
                    return Ok(Edits::default());
                }
                let status = if config.status_on_error == 0 { 403 } else { config.status_on_error };
                let message = format!("the external authoriser gives no answer: {reason}");
                Err(Refusal::new(status, "authoriser-failed", message))
            }
        }
    }
}

impl Question {
    /// Puts together what is told of a request; `path` is the one that is forwarded.
    pub(super) fn new(
        request: &dyn WholeRequest,
        path: &[u8],
        source: (Option<IpAddr>, String, String),
        destination: (SocketAddr, String, String),
    ) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        request.each_field(&mut |name, value| {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
            let between = if name == "cookie" { "; " } else { "," };
            headers
                .entry(name)
                .and_modify(|known| {
                    known.push_str(between);
                    known.push_str(&value);
                })
                .or_insert(value);
        });
        let mut path = String::from_utf8_lossy(path).into_owned();
        if let Some(query) = request.query() {
            path.push('?');
            path.push_str(&String::from_utf8_lossy(query));
        }
        let host = headers.get("host").cloned().unwrap_or_else(|| destination.2.clone());
        let method = request.method().to_owned();
        let certificate = String::new();
        Self { method, path, host, headers, body: None, source, destination, certificate }
    }

    /// Adds what the caller's certificate says, as services are told it.
    pub(super) fn showing(mut self, certificate: String) -> Self {
        self.certificate = certificate;
        self
    }

    /// Adds what was held back of the body, as the authoriser wants it.
    ///
    /// # Errors
    /// [`Refusal`] when that is not enough of it.
    pub(super) fn with_body(
        mut self,
        held: Option<Held>,
        wanted: Option<Holding>,
    ) -> Result<Self, Refusal> {
        let Some(wanted) = wanted else { return Ok(self) };
        let Some(held) = held else {
            let message = "an external authoriser was named meanwhile; send the request again";
            return Err(Refusal::new(503, "authoriser-failed", message));
        };
        let is_whole = match held.extent {
            Extent::Partial => false,
            Extent::TooLong => {
                let most = wanted.bytes_max;
                let message = format!(
                    "the body has more than the {most} bytes that the external authoriser reads"
                );
                return Err(Refusal::new(413, "body-too-large", message));
            }
            Extent::Whole => true,
        };
        self.headers.insert(PARTIAL_BODY.to_owned(), (!is_whole).to_string());
        self.body = Some(held);
        Ok(self)
    }
}

/// A refusal in the authoriser's words.
fn denied(
    status: u16,
    headers: impl IntoIterator<Item = (String, Vec<u8>)>,
    body: Vec<u8>,
) -> Answer {
    let status = if (200..=599).contains(&status) { status } else { 403 };
    let message = "the external authoriser refuses this request";
    let mut refusal = Refusal::new(status, "authoriser-denied", message);
    for (name, value) in headers {
        let pair = (HeaderName::try_from(name), HeaderValue::from_bytes(&value));
        if let (Ok(name), Ok(value)) = pair
            && is_end_to_end(name.as_str().as_bytes())
        {
            refusal.fields.push((name, value));
        }
    }
    if !body.is_empty() {
        refusal.own_body = Some(body);
    }
    Answer::Denied(refusal)
}
