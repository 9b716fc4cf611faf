//! The task that tells collectors, in batches: spans and lines of access logs alike.
//!
//! Whoever has something to tell never waits: the queue is bounded, and what it has no room for is
//! counted and dropped by who brought it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use weft_core::config_entry::{Collector, CollectorProtocol};
use weft_runtime::http::HttpClient;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};
use weft_runtime::{clock, rpc};

use crate::http::chain;

/// What waits to be sent. When full, more is dropped: a slow collector must not slow requests.
pub(super) const WAITING_MAX: usize = 8192;
/// What goes in one message.
const BATCH_MAX: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How often it is said that a collector takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Tries of one batch, the first one included.
const TRIES: u32 = 3;
/// Between two tries; doubles.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Something of which a collector is told.
pub(super) trait Signal: Send + Sync + Sized + 'static {
    /// Who asked for it; what has the same goes in one message.
    type Config: PartialEq + Send + Sync;
    /// Where it is counted.
    type Counts: Send + Sync;

    /// The path at which collectors take it over HTTP.
    fn path(protocol: CollectorProtocol) -> &'static str;

    /// Returns who asked for it.
    fn config(&self) -> &Arc<Self::Config>;

    /// Returns who is told.
    fn collector(config: &Self::Config) -> Collector;

    /// Puts a batch into a message for HTTP, with its media type.
    fn message(protocol: CollectorProtocol, batch: &[Self]) -> (&'static str, Vec<u8>);

    /// Sends a batch over gRPC; the answer is how many of it were refused, and why.
    ///
    /// # Errors
    /// The status of a call that failed.
    fn call(
        channel: Channel,
        batch: &[Self],
    ) -> impl Future<Output = Result<(i64, String), tonic::Status>> + Send;

    /// Counts what a collector has taken, and what it has not.
    fn count(counts: &Self::Counts, taken: u64, lost: u64);

    /// Logs that a collector does not take what it is sent.
    fn warn(collector: &str, lost: u64, reason: &str);
}

/// States why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("it cannot be reached, or does not speak HTTP")]
    Http(#[from] weft_runtime::http::CallError),
    #[error("it answers with the status {0}")]
    Status(StatusCode),
    #[error("it does not answer over gRPC")]
    Grpc(#[source] Box<tonic::Status>),
    #[error("it refused {0}: {1}")]
    Partly(i64, String),
    #[error("it does not answer in time")]
    Slow,
    #[error("the authorities that are to vouch for it cannot be used")]
    Tls(#[from] TlsError),
}

impl NotTaken {
    /// Whether asking once more may help.
    ///
    /// **Source**: Spec: OTLP 1.5, failures.
    fn is_passing(&self) -> bool {
        match self {
            Self::Http(_) | Self::Slow => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Grpc(status) => matches!(
                status.code(),
                tonic::Code::Cancelled
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::Aborted
                    | tonic::Code::OutOfRange
                    | tonic::Code::Unavailable
                    | tonic::Code::DataLoss
            ),
            Self::Partly(..) | Self::Tls(_) => false,
        }
    }
}

/// Sends what comes until nobody can send any more; of what waits when the proxy stops the last
/// batch is sent.
pub(super) async fn run<S: Signal>(
    mut waiting: mpsc::Receiver<S>,
    counts: Arc<S::Counts>,
    tasks: TaskTree,
) {
    let mut exporter = Exporter::<S> { counts, tls: None, channel: None, told: None };
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(signal) => signal,
            None => tokio::select! {
                signal = waiting.recv() => match signal {
                    Some(signal) => signal,
                    None => return,
                },
                () = tasks.cancelled() => match waiting.try_recv() {
                    Ok(signal) => signal,
                    Err(_) => return,
                },
            },
        };
        let config = first.config().clone();
        let mut batch = vec![first];
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                biased;
                signal = waiting.recv() => match signal {
                    Some(signal) if *signal.config() == config => batch.push(signal),
                    Some(other) => {
                        next = Some(other);
                        break;
                    }
                    None => break,
                },
                () = &mut linger => break,
                () = tasks.cancelled() => break,
            }
        }
        exporter.send(&config, &batch, &tasks).await;
    }
}

struct Exporter<S: Signal> {
    counts: Arc<S::Counts>,
    /// For the collector that was asked last over TLS.
    tls: Option<(Collector, Arc<ClientConfig>)>,
    /// To the collector that was asked last over gRPC.
    channel: Option<(Collector, Channel)>,
    told: Option<Instant>,
}

impl<S: Signal> Exporter<S> {
    async fn send(&mut self, config: &S::Config, batch: &[S], tasks: &TaskTree) {
        let collector = S::collector(config);
        let all = batch.len() as u64;
        let mut wait = RETRY_AFTER;
        for attempt in 1.. {
            let sent = tokio::time::timeout(SEND_LIMIT, self.attempt(&collector, batch)).await;
            let (lost, why) = match sent.unwrap_or(Err(NotTaken::Slow)) {
                Ok(()) => return S::count(&self.counts, all, 0),
                Err(why) if why.is_passing() && attempt < TRIES && !tasks.is_cancelled() => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = tasks.cancelled() => {}
                    }
                    wait *= 2;
                    continue;
                }
                Err(NotTaken::Partly(count, why)) => {
                    let refused = u64::try_from(count).unwrap_or(0).min(all);
                    (refused, NotTaken::Partly(count, why))
                }
                Err(why) => (all, why),
            };
            S::count(&self.counts, all - lost, lost);
            let now = clock::instant();
            if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
                self.told = Some(now);
                S::warn(&collector.endpoint, lost, &chain(&why));
            }
            return;
        }
    }

    async fn attempt(&mut self, collector: &Collector, batch: &[S]) -> Result<(), NotTaken> {
        if collector.protocol == CollectorProtocol::OtlpGrpc {
            let channel = self.channel(collector)?;
            return match S::call(channel, batch).await {
                Ok((0, _)) => Ok(()),
                Ok((count, why)) => Err(NotTaken::Partly(count, why)),
                Err(status) => Err(NotTaken::Grpc(Box::new(status))),
            };
        }
        let (kind, body) = S::message(collector.protocol, batch);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut client = HttpClient::new(SEND_LIMIT, ANSWER_BYTES_MAX);
        if let Some(tls) = self.tls(collector)? {
            client = client.with_tls(tls);
        }
        let url = collector.url(S::path(collector.protocol));
        let answer = client.request(Method::POST, &url, headers, body.into()).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(NotTaken::Status(answer.status)),
        }
    }

    fn channel(&mut self, collector: &Collector) -> Result<Channel, NotTaken> {
        if let Some((of, channel)) = &self.channel
            && of == collector
        {
            return Ok(channel.clone());
        }
        let channel = rpc::channel_outside(&collector.host_port(), self.tls(collector)?);
        self.channel = Some((collector.clone(), channel.clone()));
        Ok(channel)
    }

    /// The configuration for a collector with TLS, `None` for one without.
    fn tls(&mut self, collector: &Collector) -> Result<Option<Arc<ClientConfig>>, NotTaken> {
        if !collector.is_tls() {
            return Ok(None);
        }
        if let Some((of, tls)) = &self.tls
            && of == collector
        {
            return Ok(Some(tls.clone()));
        }
        let trust = match collector.ca_file.is_empty() {
            true => OutsideTrust::System,
            false => OutsideTrust::File(collector.ca_file.as_str().into()),
        };
        let mut tls = client_config_outside(&trust)?;
        if collector.protocol == CollectorProtocol::OtlpGrpc {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        let tls = Arc::new(tls);
        self.tls = Some((collector.clone(), tls.clone()));
        Ok(Some(tls))
    }
}
