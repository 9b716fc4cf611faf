//! The task that sends spans to collectors, in batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tracing::warn;
use weft_core::config_entry::{Tracing, TracingProtocol};
use weft_proto::grpc::otlp::trace_service_client::TraceServiceClient;
use weft_runtime::http::HttpClient;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};
use weft_runtime::{clock, rpc};

use super::{Span, SpanCounts, otlp, zipkin};
use crate::http::chain;

/// Spans of one message.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How often it is said that a collector takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Tries of one batch, the first one included.
const TRIES: u32 = 3;
/// Between two tries; doubles.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// States why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("it cannot be reached, or does not speak HTTP")]
    Http(#[from] weft_runtime::http::CallError),
    #[error("it answers with the status {0}")]
    Status(StatusCode),
    #[error("it does not answer over gRPC")]
    Grpc(#[source] Box<tonic::Status>),
    #[error("it refused {0} spans: {1}")]
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
pub(super) async fn run(
    mut waiting: mpsc::Receiver<Span>,
    counts: Arc<SpanCounts>,
    tasks: TaskTree,
) {
    let mut exporter = Exporter { counts, tls: None, channel: None, told: None };
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(span) => span,
            None => tokio::select! {
                span = waiting.recv() => match span {
                    Some(span) => span,
                    None => return,
                },
                () = tasks.cancelled() => match waiting.try_recv() {
                    Ok(span) => span,
                    Err(_) => return,
                },
            },
        };
        let config: Arc<Tracing> = first.traced.config.clone();
        let mut batch = vec![first];
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while batch.len() < BATCH_MAX {
            tokio::select! {
                biased;
                span = waiting.recv() => match span {
                    Some(span) if span.traced.config == config => batch.push(span),
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

struct Exporter {
    counts: Arc<SpanCounts>,
    /// For the collector that was asked last over TLS.
    tls: Option<(Arc<Tracing>, Arc<ClientConfig>)>,
    /// To the collector that was asked last over gRPC.
    channel: Option<(Arc<Tracing>, Channel)>,
    told: Option<Instant>,
}

impl Exporter {
    async fn send(&mut self, config: &Arc<Tracing>, batch: &[Span], tasks: &TaskTree) {
        let mut wait = RETRY_AFTER;
        for attempt in 1.. {
            let sent = tokio::time::timeout(SEND_LIMIT, self.attempt(config, batch)).await;
            let (count, why) = match sent.unwrap_or(Err(NotTaken::Slow)) {
                Ok(()) => {
                    self.counts.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    return;
                }
                Err(why) if why.is_passing() && attempt < TRIES && !tasks.is_cancelled() => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = tasks.cancelled() => {}
                    }
                    wait *= 2;
                    continue;
                }
                Err(NotTaken::Partly(count, why)) => {
                    let refused = u64::try_from(count).unwrap_or(0).min(batch.len() as u64);
                    let taken = batch.len() as u64 - refused;
                    self.counts.sent.fetch_add(taken, Ordering::Relaxed);
                    (refused, NotTaken::Partly(count, why))
                }
                Err(why) => (batch.len() as u64, why),
            };
            self.counts.failed.fetch_add(count, Ordering::Relaxed);
            let now = clock::instant();
            if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
                self.told = Some(now);
                warn!(
                    collector = config.endpoint,
                    spans = count,
                    reason = chain(&why),
                    "the collector of traces does not take spans"
                );
            }
            return;
        }
    }

    async fn attempt(&mut self, config: &Arc<Tracing>, batch: &[Span]) -> Result<(), NotTaken> {
        let (kind, body) = match config.protocol {
            TracingProtocol::OtlpGrpc => return self.over_grpc(config, batch).await,
            TracingProtocol::OtlpHttp => ("application/x-protobuf", otlp::request(batch).bytes()),
            TracingProtocol::Zipkin => {
                ("application/json", zipkin::list(batch).to_string().into_bytes())
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut client = HttpClient::new(SEND_LIMIT, ANSWER_BYTES_MAX);
        if let Some(tls) = self.tls(config)? {
            client = client.with_tls(tls);
        }
        let answer = client.request(Method::POST, &config.url(), headers, body.into()).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(NotTaken::Status(answer.status)),
        }
    }

    async fn over_grpc(&mut self, config: &Arc<Tracing>, batch: &[Span]) -> Result<(), NotTaken> {
        let channel = match &self.channel {
            Some((of, channel)) if of == config => channel.clone(),
            Some(_) | None => {
                let channel = rpc::channel_outside(&config.host_port(), self.tls(config)?);
                self.channel = Some((config.clone(), channel.clone()));
                channel
            }
        };
        let answer = TraceServiceClient::new(channel)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .export(otlp::request(batch))
            .await
            .map_err(|status| NotTaken::Grpc(Box::new(status)))?;
        match answer.into_inner().partial_success {
            Some(partly) if partly.rejected_spans > 0 => {
                Err(NotTaken::Partly(partly.rejected_spans, partly.error_message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The configuration for a collector with TLS, `None` for one without.
    fn tls(&mut self, config: &Arc<Tracing>) -> Result<Option<Arc<ClientConfig>>, NotTaken> {
        if !config.endpoint.starts_with("https://") {
            return Ok(None);
        }
        if let Some((of, tls)) = &self.tls
            && of == config
        {
            return Ok(Some(tls.clone()));
        }
        let trust = match config.ca_file.is_empty() {
            true => OutsideTrust::System,
            false => OutsideTrust::File(config.ca_file.as_str().into()),
        };
        let mut tls = client_config_outside(&trust)?;
        if config.protocol == TracingProtocol::OtlpGrpc {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        let tls = Arc::new(tls);
        self.tls = Some((config.clone(), tls.clone()));
        Ok(Some(tls))
    }
}
