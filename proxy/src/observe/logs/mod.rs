//! Lines about requests and connections, written by a thread of its own or told to a collector.
//!
//! What a line says and of what there is one, a [`LogPlan`] knows; a request's line ([`Logged`]) is
//! begun with its plan and goes to the door ([`AccessLog`]) at its end.

mod carried;
mod line;
mod otlp;
mod sink;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc;
use weft_core::config_entry::AccessLogs;
use weft_core::log_format::{InvalidLogFormat, LogFormat, LogScope};
use weft_core::proxycfg::ProxySnapshot;
use weft_core::traffic::Mix64;
use weft_runtime::net;
use weft_runtime::task::TaskTree;

pub(crate) use carried::Carried;
pub(crate) use line::{From, Lines, Logged, Watchers};
use otlp::Told;
use sink::Place;

use super::export;

/// Lines that wait to be written. When full, further ones are dropped: a slow disk must not slow
/// requests.
const WAITING_MAX: usize = 8192;

/// What became of lines.
#[derive(Debug, Default)]
pub(crate) struct LineCounts {
    pub(super) written: AtomicU64,
    /// The queue was full.
    dropped: AtomicU64,
    /// The file could not be written.
    failed: AtomicU64,
}

impl LineCounts {
    /// Returns the counts with what became of the lines.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let Self { written, dropped, failed } = self;
        let each = [("written", written), ("dropped", dropped), ("failed", failed)];
        each.map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// What is written, compiled.
#[derive(Debug)]
pub(crate) struct LogPlan {
    config: Box<AccessLogs>,
    format: LogFormat,
    scope: LogScope,
    place: Place,
}

impl LogPlan {
    /// Compiles what a snapshot asks for; the one before is kept when it is the same.
    ///
    /// # Errors
    /// That the form is none; an agent's snapshot has no such form.
    pub(crate) fn of(
        snapshot: &ProxySnapshot,
        before: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, InvalidLogFormat> {
        let Some(config) = &snapshot.access_logs else { return Ok(None) };
        let identity = snapshot.spiffe_id.to_string();
        let proxy_id = snapshot.proxy_id.to_string();
        if let Some(before) = before
            && before.config == *config
            && (&before.scope.identity, &before.scope.proxy_id) == (&identity, &proxy_id)
        {
            return Ok(Some(before.clone()));
        }
        let service = snapshot.service.to_string();
        // A host without a name has none to tell.
        let hostname = net::host_name().unwrap_or_default();
        let scope = LogScope { proxy_id, service, identity, hostname };
        let (config, format, place) = (config.clone(), config.format()?, Place::of(config));
        Ok(Some(Arc::new(Self { config, format, scope, place })))
    }

    /// Whether connections are told of that end before it is known who calls.
    pub(crate) fn tells_of_listeners(&self) -> bool {
        !self.config.disable_listener_logs
    }

    /// Whether this one is in the share of which there is a line whatever becomes of it.
    fn samples(&self, random: &mut Mix64) -> bool {
        let share = self.config.filter.sample().hundredths();
        share == 10_000 || share > 0 && random.below(10_000) < share
    }
}

/// The door to the log. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    door: SyncSender<Box<Logged>>,
    /// To the task that tells collectors.
    exporter: mpsc::Sender<Box<Told>>,
    counts: Arc<LineCounts>,
}

impl AccessLog {
    /// Starts the writing thread, and the task that tells collectors; they end when the last door is
    /// gone.
    pub(crate) fn start(counts: Arc<LineCounts>, tasks: &TaskTree) -> Self {
        let (door, lines) = sync_channel(WAITING_MAX);
        let of_writer = counts.clone();
        let writing = tasks.blocking(move || write::run(&lines, &of_writer));
        tasks.spawn("access log", async move {
            // A panic there was logged by the task tree.
            let _ = writing.await;
        });
        let (exporter, waiting) = mpsc::channel(export::WAITING_MAX);
        tasks.spawn("exported lines", export::run(waiting, counts.clone(), tasks.clone()));
        Self { door, exporter, counts }
    }

    /// Has a line written or told, if there is room for it.
    fn take(&self, line: Box<Logged>) {
        let is_taken = match line.for_collector() {
            Ok(told) => self.exporter.try_send(Box::new(told)).is_ok(),
            Err(line) => self.door.try_send(line).is_ok(),
        };
        if !is_taken {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
