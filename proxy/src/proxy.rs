//! Starting a proxy, in the order in which its parts need each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::info;
use weft_proto::text::AuditConfig;
use weft_runtime::descriptors;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::audit::{AuditLog, AuditOptions};

use crate::admin::Admin;
use crate::config::{Config, Hops};
use crate::control::{HostMeans, Means, drive};
use crate::handover::{Estate, Standing, Succession};
use crate::http::chain;
use crate::listen::{Crew, CrewOptions, UnixDoors, docks};
use crate::observe::{AccessLog, Decisions, Metrics, Spans};
use crate::tenant::Tenants;

/// A proxy; see [`Proxy::start`].
#[derive(Debug)]
pub struct Proxy;

/// A running proxy. Dropping it ends nothing: cancel the task tree that it was started in.
#[derive(Debug)]
pub struct ProxyHandle {
    admin_addr: SocketAddr,
    started: oneshot::Receiver<Result<(), StartError>>,
    succession: Succession,
    tenants: Tenants,
    start_limit: Duration,
    /// Delay and limit.
    drains: (Duration, Duration),
}

/// States why a proxy does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The admin interface cannot listen.
    #[error("admin_addr: {reason}")]
    Admin {
        /// Why.
        reason: String,
    },
    /// The audit log cannot be kept.
    #[error("audit.path: {reason}")]
    Audit {
        /// Why.
        reason: String,
    },
    /// It was stopped before it served.
    #[error("the proxy was stopped before its first configuration came")]
    Cancelled,
    /// No configuration came.
    #[error("no configuration came within {limit_seconds} s: {reason}")]
    Late {
        /// How long it was waited for.
        limit_seconds: u64,
        /// Why.
        reason: String,
    },
    /// A listener cannot be opened.
    #[error("cannot open every listener: {reason}")]
    Listen {
        /// Which and why.
        reason: String,
    },
    /// The first snapshot cannot be used.
    #[error("the configuration cannot be used: {reason}")]
    Snapshot {
        /// Why.
        reason: String,
    },
    /// The snapshot file cannot be used.
    #[error("snapshot_file {path}: {reason}")]
    SnapshotFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A running proxy, or the service manager, does not pass its listeners on.
    #[error("cannot take over: {reason}")]
    TakeOver {
        /// Why.
        reason: String,
    },
    /// The agent does not know whose proxy this is.
    #[error("the agent refuses: {reason}")]
    Unknown {
        /// The agent's words.
        reason: String,
    },
}

impl Proxy {
    /// Starts a proxy as tasks of the tree; cancelling the tree drains it.
    ///
    /// # Errors
    /// [`StartError::Admin`] when the admin interface cannot listen, [`StartError::Audit`] when the
    /// audit log cannot be kept.
    pub async fn start(config: Config, tasks: TaskTree) -> Result<ProxyHandle, StartError> {
        let standing = Standing::default();
        let estate = Estate::claim(&config).await?;
        standing.follows(estate.generation);
        let metrics = Metrics::default();
        metrics.stands(standing.clone());
        metrics.speaks(config.metric_dialects);
        let tenants = Tenants::new(metrics.clone(), config.source.is_of_host());
        let decisions = decisions(config.audit.as_ref(), &metrics, &tasks)?;
        let options = CrewOptions {
            decisions,
            spans: Spans::start(metrics.spans(), &tasks),
            workers: config.workers.count,
            drain_limit: config.drain_limit,
            limits: Arc::new(config.limits),
            descriptors_max: descriptors::raise_limit(),
            unix_doors: UnixDoors::default(),
            docks: docks(config.workers.count),
            onward: Arc::default(),
            flows: metrics.flows(),
            log: AccessLog::start(metrics.lines(), &tasks),
        };
        info!(workers = config.workers.count, reason = config.workers.reason, "workers start");
        let crew = Crew::start(&options, (estate.traffic, estate.udp), &tasks)
            .map_err(|error| StartError::TakeOver { reason: error.to_string() })?;
        let (tell_started, started) = oneshot::channel();
        let admin = Admin {
            tenants: tenants.clone(),
            metrics,
            standing: standing.clone(),
            workers: config.workers,
        };
        let means = Means {
            crew: crew.clone(),
            hops: Hops { mux: config.mux, quic: config.quic },
            access_log: config.access_log,
            standing: standing.clone(),
            flows: options.flows.clone(),
        };
        let (drain_limit, patience) = (config.drain_limit, config.start_limit / 2);
        let means = HostMeans { means, drain_limit, patience };
        let inner = tasks.child("control");
        let driving = drive(config.source, (means, tenants.clone()), tell_started, inner);
        tasks.spawn("control", driving);
        let mut succession = Succession {
            admin: Some((admin, estate.admin)),
            admin_tasks: tasks.child("admin"),
            handle: None,
            crew,
            standing,
            hand_over: config.hand_over,
            door: estate.door,
            predecessor: estate.predecessor,
            tasks,
        };
        let admin_addr = succession.admin_addr();
        if succession.predecessor.is_none() {
            succession.open_admin();
        }
        let (start_limit, drains) = (config.start_limit, (config.drain_delay, config.drain_limit));
        Ok(ProxyHandle { admin_addr, started, succession, tenants, start_limit, drains })
    }
}

/// Opens the audit log, if one is to be kept.
fn decisions(
    audit: Option<&(AuditConfig, f64)>,
    metrics: &Metrics,
    tasks: &TaskTree,
) -> Result<Option<Decisions>, StartError> {
    let Some((audit, allowed_share)) = audit else { return Ok(None) };
    let options = AuditOptions {
        path: audit.path.clone(),
        rotate_bytes: audit.rotate_bytes,
        rotate_files_max: audit.rotate_files_max,
    };
    let log = AuditLog::open(options, tasks)
        .map_err(|error| StartError::Audit { reason: chain(&error) })?;
    metrics.show_audit(log.clone());
    Ok(Some(Decisions::new(log, *allowed_share)))
}

impl ProxyHandle {
    /// Returns what is to be done first when the process is told to end: readiness goes, and
    /// after a delay, if one is set, the listeners; what is under way ends, or is cut at the
    /// drain limit. The admin interface answers meanwhile.
    pub fn farewell(&self) -> impl Future<Output = ()> + Send + use<> {
        let Succession { crew, standing, .. } = &self.succession;
        let (crew, standing, (delay, limit)) = (crew.clone(), standing.clone(), self.drains);
        async move {
            standing.drain();
            tokio::time::sleep(delay).await;
            crew.drain(limit).await;
        }
    }

    /// Returns what tells whether another process has taken over, so that this one only lives on
    /// for its connections.
    pub fn replacement(&self) -> impl Fn() -> bool + Send + use<> {
        let standing = self.succession.standing.clone();
        move || standing.is_replaced()
    }

    /// Returns where the admin interface listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Waits until the first configuration is in force, every listener is open, and the process
    /// that had them before, if there was one, accepts no more. To be called once.
    ///
    /// # Errors
    /// [`StartError`] with the one reason why not; the proxy's tasks go on until they are
    /// cancelled.
    pub async fn ready(&mut self) -> Result<(), StartError> {
        let started = tokio::time::timeout(self.start_limit, &mut self.started).await;
        let late = |_| StartError::Late {
            limit_seconds: self.start_limit.as_secs(),
            reason: self.tenants.waited_for(),
        };
        started.map_err(late)?.unwrap_or(Err(StartError::Cancelled))?;
        self.succession.crew.settle().await;
        self.succession.succeed().await
    }
}
