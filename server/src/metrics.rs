//! What this server tells about itself, as Prometheus text on an optional loopback address.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{Method, Request, Response, StatusCode, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use weft_core::state::State;
use weft_runtime::clock;
use weft_runtime::http::{Body, ServeOptions, empty, full, serve};
use weft_runtime::net;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::metrics::{CONTENT_TYPE, Registry};

use crate::presence::Presences;
use crate::raft::Consensus;
use crate::watch::Hub;

/// The registry of this server.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new(consensus: &Consensus, hub: &Arc<Hub>, presences: &Presences) -> Self {
        let registry = Registry::new("server");
        registry.register_collector(Box::new(OfState {
            consensus: consensus.clone(),
            hub: hub.clone(),
            presences: presences.clone(),
        }));
        consensus.storage().gauges().register(&registry);
        hub.metrics().register(&registry);
        Self { registry }
    }

    /// Returns where further figures are entered, and all are written out.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Reads the state when it is asked; nothing is counted on the way of a write.
struct OfState {
    consensus: Consensus,
    hub: Arc<Hub>,
    presences: Presences,
}

impl std::fmt::Debug for OfState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfState").finish_non_exhaustive()
    }
}

impl Collector for OfState {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let state = self.hub.state();
        let standing = self.consensus.standing();
        let members = self.consensus.members().len();
        let (leader_changes, elections_refused) = self.consensus.counts();
        let storage = self.consensus.storage().standing();
        for (name, help, value) in [
            (
                "weft_server_raft_is_leader",
                "Whether this server leads",
                i64::from(standing.is_leader),
            ),
            ("weft_server_raft_members", "Servers of the cluster", count(members)),
            (
                "weft_server_raft_last_contact_milliseconds",
                "Since this server heard of a leader; 0 at the leader",
                i64::try_from(standing.last_contact.as_millis()).unwrap_or(i64::MAX),
            ),
            (
                "weft_server_raft_leader_changes",
                "New leaders since this server started",
                capped(leader_changes),
            ),
            (
                "weft_server_raft_elections_refused",
                "Elections not stood for, as too few servers would have voted",
                capped(elections_refused),
            ),
            (
                "weft_server_autopilot_healthy",
                "At the leader: 1 when every server is healthy, 0 when not; -1 elsewhere",
                self.consensus.is_cluster_healthy().map_or(-1, i64::from),
            ),
            ("weft_server_log_bytes", "Bytes of the log's entries", capped(storage.log_bytes)),
            ("weft_server_log_segments", "Files of the log", capped(storage.log_segments)),
            (
                "weft_server_snapshot_bytes",
                "Bytes of the newest snapshot",
                capped(storage.snapshot_bytes),
            ),
            (
                "weft_server_snapshot_index",
                "The last index in the newest snapshot",
                capped(storage.snapshot_index),
            ),
            (
                "weft_server_disk_is_short",
                "Whether writes are refused as the disk is nearly full",
                i64::from(storage.is_short),
            ),
            (
                "weft_server_log_has_failed",
                "Whether the log failed and this server has stopped taking part",
                i64::from(storage.has_failed),
            ),
        ]
        .into_iter()
        .chain(self.hosts())
        .chain(amounts(&state))
        {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

impl OfState {
    /// Whose agents have a stream, here and anywhere.
    fn hosts(&self) -> [(&'static str, &'static str, i64); 3] {
        let leases = self.consensus.leases().counts();
        [
            (
                "weft_server_hosts_connected",
                "Hosts whose agents have a stream to this server",
                count(self.presences.len()),
            ),
            (
                "weft_server_hosts_alive",
                "At the leader: hosts whose agents have a stream to some server; -1 elsewhere",
                leases.map_or(-1, |(alive, _)| count(alive)),
            ),
            (
                "weft_server_hosts_away",
                "At the leader: hosts whose agents have no stream; -1 elsewhere",
                leases.map_or(-1, |(_, away)| count(away)),
            ),
        ]
    }
}

/// How much there is.
fn amounts(state: &State) -> Vec<(&'static str, &'static str, i64)> {
    let (nodes, services) = state.catalog_size();
    vec![
        (
            "weft_server_state_index",
            "The last index applied",
            i64::try_from(state.index().0).unwrap_or(i64::MAX),
        ),
        ("weft_server_catalog_nodes", "Nodes in the catalog", count(nodes)),
        ("weft_server_catalog_services", "Services in the catalog", count(services)),
        ("weft_server_kv_keys", "Keys in the key/value store", count(state.kv().len())),
        ("weft_server_sessions", "Sessions", count(state.sessions().list().count())),
        (
            "weft_server_config_entries",
            "Config entries of any kind",
            count(state.entries(None).1.len()),
        ),
        (
            "weft_server_acl_tokens",
            "Tokens that have not expired",
            count(state.acl().tokens(clock::wall()).len()),
        ),
        ("weft_server_acl_policies", "Policies", count(state.acl().policies().len())),
        ("weft_server_acl_roles", "Roles", count(state.acl().roles().len())),
        (
            "weft_server_join_tokens",
            "Join tokens that are remembered",
            count(state.join_tokens().count()),
        ),
    ]
}

fn capped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Serves the metrics.
pub(crate) fn start(listener: net::MemberListener, metrics: Metrics, tasks: &TaskTree) {
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(&metrics, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let tree = tasks.child("telemetry");
    tasks.spawn("telemetry", async move {
        serve(listener, None, service, ServeOptions::default(), &tree).await;
    });
}

fn answer(metrics: &Metrics, request: &Request<Body>) -> Response<Body> {
    let (status, body, kind) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, full(metrics.registry.encode()), CONTENT_TYPE)
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, empty(), "text/plain; charset=utf-8"),
        _ => (StatusCode::NOT_FOUND, empty(), "text/plain; charset=utf-8"),
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    }
    answer
}
