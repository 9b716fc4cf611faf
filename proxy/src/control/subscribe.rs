//! Snapshots from the agent: a stream that is opened again, with pauses, for as long as the
//! proxy lives.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};
use weft_core::proxycfg::ProxySnapshot;
use weft_proto::envelope;
use weft_proto::grpc::v1::proxy_control_client::ProxyControlClient;
use weft_proto::grpc::v1::proxy_request::Request;
use weft_proto::grpc::v1::{
    PlaintextSource, ProxyAck, ProxyConfiguration, ProxyFlows, ProxyHello, ProxyKeysWanted,
    ProxyPlaintext, ProxyRequest,
};
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy, rpc};

use super::drive::Driver;
use super::watching::Watching;
use crate::StartError;
use crate::config::WorkloadId;
use crate::http::chain;
use crate::observe::PlaintextReport;
use crate::tenant::Questions;

/// The shortest and longest pause before the agent is called again: it restarts in a second,
/// and being called twice a minute costs nothing.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Requests on their way to the agent: one acknowledgement follows one configuration.
const REQUESTS_MAX: usize = 4;
/// How often the agent is told who came without mutual TLS, if that has changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often the agent is told what those who watch have to see: often enough for a person.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Bytes of one configuration: a thousand upstreams with their endpoints.
const CONFIGURATION_BYTES_MAX: usize = 64 << 20;

/// How an agent is asked for one workload.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) workload: WorkloadId,
    /// Whether it is one of many of a host proxy.
    pub(super) is_hosted: bool,
}

/// Follows the agent until the tree is cancelled.
pub(super) async fn subscribe(
    driver: &mut Driver,
    (socket, subject): (&Path, &Subject),
    mut questions: Questions,
    tasks: &TaskTree,
) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    loop {
        let ended = tokio::select! {
            // Dropping the stream ends the call; the next one begins with the newest snapshot.
            ended = follow(driver, (socket, subject), &mut questions, &mut backoff) => ended,
            () = tasks.cancelled() => return,
        };
        let refuses = refuses(&ended);
        match (driver.is_started(), refuses) {
            // It may be registered a moment later, as hosts start everything at once.
            (false, true) => driver.wait_for(&format!("the agent refuses: {}", ended.message())),
            (false, false) => {
                driver.wait_for(&format!("no agent answers at {}", socket.display()));
                debug!(error = chain(&ended), "the agent's stream ended");
            }
            // The list of those that are served says so, too.
            (true, true) if subject.is_hosted && ended.code() == Code::NotFound => {
                debug!(error = chain(&ended), "the agent knows the proxy no more");
            }
            (true, true) => {
                driver.fail(StartError::Unknown { reason: ended.message().to_owned() });
            }
            (true, false) => debug!(error = chain(&ended), "the agent's stream ended"),
        }
        let pause = backoff.next();
        tokio::select! {
            // Both only wait.
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
        driver.rebind().await;
    }
}

/// Whether the agent has heard, and will not.
pub(super) fn refuses(ended: &Status) -> bool {
    matches!(ended.code(), Code::NotFound | Code::InvalidArgument | Code::PermissionDenied)
}

/// Tells the agent who came without mutual TLS, if that has changed and there is room.
fn report(
    driver: &Driver,
    requests: &mpsc::Sender<ProxyRequest>,
    reported: &mut Option<PlaintextReport>,
) {
    let newest = driver.plaintext();
    if newest != *reported
        && let Some(report) = newest.clone()
        && requests.try_send(plaintext(report)).is_ok()
    {
        *reported = newest;
    }
}

fn plaintext(report: PlaintextReport) -> ProxyRequest {
    let PlaintextReport { since, sources } = report;
    let sources = sources.into_iter().map(|(source, seen)| PlaintextSource {
        source,
        connections: seen.connections,
        last_ms: seen.last.0,
    });
    let plaintext = ProxyPlaintext { since_ms: since.0, sources: sources.collect() };
    ProxyRequest { request: Some(Request::Plaintext(plaintext)) }
}

/// One stream, to its end.
async fn follow(
    driver: &mut Driver,
    (socket, subject): (&Path, &Subject),
    questions: &mut Questions,
    backoff: &mut Backoff,
) -> Status {
    let mut client = ProxyControlClient::new(rpc::channel_unix(socket))
        .max_decoding_message_size(CONFIGURATION_BYTES_MAX);
    let (requests, stream) = mpsc::channel(REQUESTS_MAX);
    let (sidecar_for, proxy_id) = match &subject.workload {
        WorkloadId::Proxy(id) => (String::new(), id.clone()),
        WorkloadId::SidecarFor(id) => (id.clone(), String::new()),
    };
    let weft_version = env!("CARGO_PKG_VERSION").to_owned();
    let is_hosted = subject.is_hosted;
    let generation = driver.generation();
    let takes_wishes = true;
    let hello =
        ProxyHello { sidecar_for, proxy_id, weft_version, is_hosted, generation, takes_wishes };
    let hello = Request::Hello(hello);
    if requests.send(ProxyRequest { request: Some(hello) }).await.is_err() {
        return Status::internal("the request stream closed by itself");
    }
    let configurations = match client.configure(ReceiverStream::new(stream)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    let mut watching = Watching::default();
    let with = (configurations, &requests, &mut watching);
    let ended = converse(driver, with, questions, backoff).await;
    watching.end(driver.tenant());
    ended
}

/// Takes what the agent says and answers, to the end of the stream.
async fn converse(
    driver: &mut Driver,
    (mut configurations, requests, watching): (
        Streaming<ProxyConfiguration>,
        &mpsc::Sender<ProxyRequest>,
        &mut Watching,
    ),
    questions: &mut Questions,
    backoff: &mut Backoff,
) -> Status {
    let gone = || Status::unavailable("the agent ended the stream");
    let (mut reports, mut looks) = (interval(REPORT_EVERY), interval(TELL_EVERY));
    let mut reported = None;
    loop {
        let configuration = tokio::select! {
            // All are cancel-safe: a message not yet complete stays in the stream.
            message = configurations.message() => message,
            Some(provider) = questions.recv() => {
                let provider = provider.as_str().to_owned();
                let wanted = Request::KeysWanted(ProxyKeysWanted { provider });
                if requests.send(ProxyRequest { request: Some(wanted) }).await.is_err() {
                    return gone();
                }
                continue;
            }
            _ = reports.tick() => {
                if !driver.is_replaced() {
                    report(driver, requests, &mut reported);
                    if watching.wants_flows() {
                        tell_flows(driver, requests);
                    }
                }
                continue;
            }
            _ = looks.tick(), if watching.is_open() => {
                tell(watching, requests);
                continue;
            }
            () = driver.rebind_due() => {
                rebind(driver, requests).await;
                continue;
            }
        };
        let configuration = match configuration {
            Ok(Some(configuration)) => configuration,
            Ok(None) => return gone(),
            Err(status) => return status,
        };
        backoff.reset();
        if let Some(wishes) = configuration.wishes {
            watching.want(wishes, driver.tenant());
            continue;
        }
        let version = configuration.version;
        let refusal = take(driver, configuration).await;
        watching.begin(driver.tenant());
        if driver.is_replaced() {
            continue;
        }
        let missing_listeners = driver.missing();
        let ack = Request::Ack(ProxyAck { version, refusal, missing_listeners });
        if requests.send(ProxyRequest { request: Some(ack) }).await.is_err() {
            return gone();
        }
    }
}

fn interval(every: Duration) -> Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Tells the agent what those who watch have to see, if there is room for it; else it waits.
fn tell(watching: &mut Watching, requests: &mpsc::Sender<ProxyRequest>) {
    if let Ok(place) = requests.try_reserve()
        && let Some(seen) = watching.tell(clock::instant())
    {
        place.send(ProxyRequest { request: Some(Request::Seen(seen)) });
    }
}

/// Tells the agent what was counted, if there is room for it; else the next time.
fn tell_flows(driver: &Driver, requests: &mpsc::Sender<ProxyRequest>) {
    if let Ok(place) = requests.try_reserve() {
        let flows = envelope::encode(&driver.flows());
        place.send(ProxyRequest { request: Some(Request::Flows(ProxyFlows { flows })) });
    }
}

/// Tries again to open listeners, and tells the agent if that has changed what is missing.
async fn rebind(driver: &mut Driver, requests: &mpsc::Sender<ProxyRequest>) {
    let missing = driver.missing();
    driver.rebind().await;
    let (version, newest) = (driver.version(), driver.missing());
    if newest != missing && !driver.is_replaced() {
        let ack = ProxyAck { version, missing_listeners: newest, ..Default::default() };
        // Without room for it, the next acknowledgement tells.
        let _ = requests.try_send(ProxyRequest { request: Some(Request::Ack(ack)) });
    }
}

/// Puts a configuration in force; returns why not, nothing when it is.
async fn take(driver: &mut Driver, configuration: ProxyConfiguration) -> String {
    match envelope::decode::<ProxySnapshot>(&configuration.snapshot) {
        Ok(snapshot) => driver.apply(snapshot).await.err().unwrap_or_default(),
        Err(error) => {
            let (version, error) = (configuration.version, chain(&error));
            warn!(version, error, "configuration is not readable");
            error
        }
    }
}
