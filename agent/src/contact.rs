//! When servers were last heard of, over restarts: how old that is what this host serves from
//! memory. Said in answers, in a metric, and once in the log.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::telemetry::metrics::{Counter, Gauge};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::views::Views;

/// How often it is looked at, and written down while servers are there: a restart takes what it
/// serves for this much older than it is, at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// The file in the data directory: seconds since the Unix epoch.
const FILE: &str = "last-contact";

/// When servers were last heard of. Clones share it.
#[derive(Clone)]
pub(crate) struct Contact {
    views: Views,
    /// The last time of an earlier run, or the start of this one.
    before: Timestamp,
    stale_answers: Counter,
    away: Gauge,
    path: Arc<Path>,
}

impl Contact {
    /// Reads when an earlier run last heard of servers, and keeps that up to date.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is shutting down.
    pub(crate) async fn start(
        views: Views,
        (config, metrics): (&Config, &Metrics),
        tasks: &TaskTree,
    ) -> Result<Self, TaskFailure> {
        let (path, registry) = (config.data_dir.join(FILE), metrics.registry());
        let read = path.clone();
        let before = tasks.blocking(move || read_time(&read)).await?;
        let contact = Self {
            views,
            before,
            stale_answers: registry.register(
                "http_stale_answers",
                "Answers of the HTTP API from memory, as no server could be reached",
                Counter::default(),
            ),
            away: registry.register(
                "servers_away_seconds",
                "How long no server has been heard of, restarts of the agent included; 0 while one is connected",
                Gauge::default(),
            ),
            path: path.into(),
        };
        tasks.spawn("contact", contact.clone().follow(tasks.clone()));
        Ok(contact)
    }

    /// Returns for how long no server has been heard of; `None` while one is connected.
    pub(crate) fn away_for(&self, now: Instant) -> Option<Duration> {
        if self.views.is_connected() {
            return None;
        }
        match self.views.away_for(now).filter(|_| self.views.was_connected()) {
            Some(away) => Some(away),
            None => Some(clock::wall().since(self.before)),
        }
    }

    /// Counts an answer from memory.
    pub(crate) fn served_stale(&self) {
        self.stale_answers.inc();
    }

    async fn follow(self, tasks: TaskTree) {
        let mut interval = tokio::time::interval(INTERVAL);
        let (mut was_away, mut has_failed) = (false, false);
        loop {
            tokio::select! {
                () = tasks.cancelled() => return,
                _ = interval.tick() => {}
            }
            let away = self.away_for(clock::instant());
            let seconds = away.map_or(0, |away| away.as_secs());
            self.away.set(i64::try_from(seconds).unwrap_or(i64::MAX));
            // A start has not tried yet.
            let is_away = away.is_some() && self.views.away_for(clock::instant()).is_some();
            match (was_away, is_away) {
                (false, true) => {
                    info!(seconds, "no server is connected: what is known is served, and marked");
                }
                (true, false) => info!("a server is connected again: answers are current"),
                (false, false) | (true, true) => {}
            }
            was_away = is_away;
            if away.is_none() {
                self.keep(&tasks, &mut has_failed).await;
            }
        }
    }

    async fn keep(&self, tasks: &TaskTree, has_failed: &mut bool) {
        let (path, now) = (self.path.clone(), clock::wall().unix_seconds());
        let kept = tasks.blocking(move || {
            // Not synced: after a power cut an older time is as true.
            let beside = path.with_extension("tmp");
            std::fs::write(&beside, now.to_string())?;
            std::fs::rename(&beside, &path)
        });
        match kept.await {
            Ok(Ok(())) => *has_failed = false,
            Ok(Err(error)) if !*has_failed => {
                *has_failed = true;
                warn!(%error, "when servers were last heard of cannot be written");
            }
            // The second: the agent stops.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// What a file says that cannot be read is not known: then the time counts from now.
fn read_time(path: &Path) -> Timestamp {
    let now = clock::wall();
    let read = std::fs::read_to_string(path).ok();
    let seconds: Option<u64> = read.and_then(|text| text.trim().parse().ok());
    match seconds.and_then(|seconds| seconds.checked_mul(1_000)) {
        Some(ms) if ms <= now.0 => Timestamp(ms),
        Some(_) | None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        let before = clock::wall();
        assert!(read_time(&path) >= before, "no file");
        for (text, is_taken) in
            [("1000", true), ("", false), ("soon", false), ("99999999999999999999", false)]
        {
            std::fs::write(&path, text).expect("written");
            let read = read_time(&path);
            assert_eq!(read == Timestamp(1_000_000), is_taken, "{text:?}");
            assert!(is_taken || read >= before, "{text:?}");
        }
    }
}
