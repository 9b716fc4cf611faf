//! Starting a proxy, in the order in which its parts need each other.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;
use weft_proto::text::AuditConfig;
use weft_runtime::net;
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::audit::{AuditLog, AuditOptions};

use crate::admin;
use crate::config::Config;
use crate::control::{KeyAsker, drive};
use crate::http::chain;
use crate::listen::{Crew, CrewOptions};
use crate::observe::{AccessLog, Decisions, Metrics};
use crate::workload::Workload;

/// A proxy; see [`Proxy::start`].
#[derive(Debug)]
pub struct Proxy;

/// A running proxy. Dropping it ends nothing: cancel the task tree that it was started in.
#[derive(Debug)]
pub struct ProxyHandle {
    admin_addr: SocketAddr,
    started: oneshot::Receiver<Result<(), StartError>>,
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
        let failed = |error: std::io::Error| StartError::Admin { reason: error.to_string() };
        let listener = net::bind_tcp(config.admin_addr).await.map_err(failed)?;
        let admin_addr = listener.local_addr().map_err(failed)?;
        let metrics = Metrics::default();
        let cell: Arc<ArcSwapOption<Workload>> = Arc::default();
        admin::start(listener, cell.clone(), metrics.clone(), &tasks);
        let (asker, questions) = KeyAsker::new();
        let decisions = decisions(config.audit.as_ref(), &metrics, &tasks)?;
        let options = CrewOptions {
            asker: Arc::new(asker),
            decisions,
            workers: config.workers,
            drain_limit: config.drain_limit,
            metrics: metrics.clone(),
            log: config.access_log.map(|format| AccessLog::start(format, &tasks)),
        };
        let crew = Crew::start(&options, &tasks);
        let (tell_started, started) = oneshot::channel();
        let driving = drive(
            config.source,
            crew,
            metrics,
            (cell, tell_started),
            (questions, tasks.child("control")),
        );
        tasks.spawn("control", driving);
        Ok(ProxyHandle { admin_addr, started })
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
    /// Returns where the admin interface listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Waits until the first configuration is in force and every listener is open. To be
    /// called once.
    ///
    /// # Errors
    /// [`StartError`] with the one reason why not; the proxy's tasks go on until they are
    /// cancelled.
    pub async fn ready(&mut self) -> Result<(), StartError> {
        (&mut self.started).await.unwrap_or(Err(StartError::Cancelled))
    }
}
