//! The public keys of the providers of tokens, fetched for the proxies of this host, which need
//! no way out themselves.
//!
//! Keys that are known stay in use while their source is away, also over a restart.

mod fetch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use weft_core::config_entry::{JwtKeySet, JwtProvider};
use weft_core::intention::keys_kept_for;
use weft_core::name::ServiceName;
use weft_core::proxycfg::JwtKeys;
use weft_core::time::Span;
use weft_runtime::backoff::Backoff;
use weft_runtime::jwt::KeySet;
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::telemetry::metrics::{Counter, Registry};
use weft_runtime::{clock, entropy};

use crate::keep::{Durability, Keep, Verdict};

/// How soon keys are fetched again for a token whose key is not among them: issuers announce new
/// ones before they use them, and strangers may make key ids up.
const FETCHED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often a file is read: nobody tells when it changes.
const FILE_READ_EVERY: Duration = Duration::from_secs(5);
/// The pauses after a fetch that failed.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The keys of all providers that matter on this host; clones share them.
#[derive(Debug, Clone)]
pub struct KeySets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<BTreeMap<ServiceName, Entry>>,
    /// Of an earlier run.
    kept: BTreeMap<String, Kept>,
    keep: Option<Arc<Keep>>,
    fetches: Counter,
    failures: Counter,
    tasks: TaskTree,
}

#[derive(Debug)]
struct Entry {
    source: Option<JwtKeySet>,
    keys: Arc<watch::Sender<JwtKeys>>,
    wanted: Arc<Notify>,
    tasks: Option<TaskTree>,
}

/// A key set with where it came from: from elsewhere it would be another.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    source: JwtKeySet,
    set: String,
}

impl KeySets {
    /// Starts with the keys that an earlier run kept in a folder.
    ///
    /// # Errors
    /// [`TaskFailure`] when reading them was cut off.
    pub async fn start(
        (folder, cluster_id): (PathBuf, &str),
        registry: &Registry,
        tasks: &TaskTree,
    ) -> Result<Self, TaskFailure> {
        let cluster_id = cluster_id.to_owned();
        let (keep, kept) = tasks.blocking(move || load(folder, &cluster_id)).await?;
        Ok(Self::new(Some(Arc::new(keep)), kept, registry, tasks))
    }

    /// Starts without a folder: keys are gone with the process.
    #[cfg(test)]
    pub(crate) fn of_test(registry: &Registry, tasks: &TaskTree) -> Self {
        Self::new(None, BTreeMap::new(), registry, tasks)
    }

    fn new(
        keep: Option<Arc<Keep>>,
        kept: BTreeMap<String, Kept>,
        registry: &Registry,
        tasks: &TaskTree,
    ) -> Self {
        let fetches = registry.register(
            "jwks_fetches",
            "Looks at where keys of providers of tokens are published",
            Counter::default(),
        );
        let failures = registry.register(
            "jwks_fetch_failures",
            "Such looks that brought no keys; those that are known stay in use",
            Counter::default(),
        );
        let (table, tasks) = (Mutex::default(), tasks.child("jwks"));
        Self { shared: Arc::new(Shared { table, kept, keep, fetches, failures, tasks }) }
    }

    /// Takes note of providers, new or changed. Keys from another source are no longer in use.
    pub fn learn(&self, providers: &[JwtProvider]) {
        let mut table = self.shared.table.lock();
        for provider in providers {
            let entry = table.entry(provider.name.clone()).or_default();
            let source = &provider.json_web_key_set;
            if entry.source.as_ref() == Some(source) && entry.tasks.is_some() {
                continue;
            }
            if let Some(tasks) = entry.tasks.take() {
                tasks.cancel();
            }
            let kept = self.shared.kept.get(provider.name.as_str());
            let known = kept.filter(|kept| kept.source == *source).map(|kept| kept.set.clone());
            entry.keys.send_modify(|keys| keys.set = known);
            entry.source = Some(source.clone());
            let tasks = self.shared.tasks.child(provider.name.as_str());
            let following = Following {
                shared: self.shared.clone(),
                name: provider.name.clone(),
                source: source.clone(),
                keys: entry.keys.clone(),
                wanted: entry.wanted.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn("follow", following.run());
            entry.tasks = Some(tasks);
        }
    }

    /// Returns a receiver of a provider's keys.
    pub fn keys(&self, provider: &ServiceName) -> watch::Receiver<JwtKeys> {
        self.shared.table.lock().entry(provider.clone()).or_default().keys.subscribe()
    }

    /// Has a provider's keys fetched again soon, for a token whose key is not among them.
    pub fn want(&self, provider: &ServiceName) {
        if let Some(entry) = self.shared.table.lock().get(provider) {
            entry.wanted.notify_one();
        }
    }
}

impl Default for Entry {
    fn default() -> Self {
        let keys = Arc::new(watch::Sender::new(JwtKeys::default()));
        Self { source: None, keys, wanted: Arc::default(), tasks: None }
    }
}

fn load(folder: PathBuf, cluster_id: &str) -> (Keep, BTreeMap<String, Kept>) {
    let mut known = BTreeMap::new();
    let keep = Keep::open(folder, cluster_id, |name, content| {
        match serde_json::from_slice::<Kept>(content) {
            Ok(kept) if KeySet::parse(kept.set.as_bytes()).is_ok() => {
                known.insert(name.to_owned(), kept);
                Verdict::Taken
            }
            Ok(_) => Verdict::Dropped("it holds no key set"),
            Err(error) => Verdict::Damaged(Box::new(error)),
        }
    });
    (keep, known)
}

/// The task of one provider.
struct Following {
    shared: Arc<Shared>,
    name: ServiceName,
    source: JwtKeySet,
    keys: Arc<watch::Sender<JwtKeys>>,
    wanted: Arc<Notify>,
    tasks: TaskTree,
}

impl Following {
    async fn run(self) {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
        let (mut is_wanted, mut is_failing) = (false, false);
        loop {
            let fetched = tokio::select! {
                () = self.tasks.cancelled() => return,
                fetched = fetch::fetch(&self.source) => fetched,
            };
            self.shared.fetches.inc();
            let at = clock::instant();
            let (pause, again_after) = match fetched {
                Ok(set) => {
                    backoff.reset();
                    if std::mem::take(&mut is_failing) {
                        info!(provider = %self.name, "keys are fetched again");
                    }
                    self.take(set, is_wanted).await;
                    (self.kept_for(), FETCHED_AGAIN_AFTER)
                }
                Err(error) => {
                    self.shared.failures.inc();
                    if !std::mem::replace(&mut is_failing, true) {
                        let has_keys = self.keys.borrow().set.is_some();
                        let error = &error as &dyn std::error::Error;
                        warn!(provider = %self.name, error, has_keys, "no keys could be fetched");
                    }
                    if is_wanted {
                        self.keys.send_modify(|keys| keys.answered += 1);
                    }
                    (backoff.next().min(self.kept_for()), PAUSE_MIN)
                }
            };
            is_wanted = tokio::select! {
                () = self.tasks.cancelled() => return,
                () = tokio::time::sleep(pause) => false,
                () = self.asked(at + again_after) => true,
            };
        }
    }

    /// Waits until somebody wants newer keys and they may be fetched.
    async fn asked(&self, not_before: std::time::Instant) {
        self.wanted.notified().await;
        tokio::time::sleep_until(not_before.into()).await;
    }

    fn kept_for(&self) -> Duration {
        match &self.source.remote {
            Some(remote) => keys_kept_for(remote.cache_duration),
            None if self.source.local.as_ref().is_some_and(|it| !it.filename.is_empty()) => {
                FILE_READ_EVERY
            }
            None => keys_kept_for(Span::default()),
        }
    }

    /// Puts a set in force, and keeps it for the next run.
    async fn take(&self, set: String, is_wanted: bool) {
        let is_new = self.keys.borrow().set.as_ref() != Some(&set);
        self.keys.send_if_modified(|keys| {
            keys.set = Some(set.clone());
            keys.answered += u64::from(is_wanted);
            is_new || is_wanted
        });
        let (true, Some(keep)) = (is_new, &self.shared.keep) else { return };
        let (keep, name) = (keep.clone(), self.name.as_str().to_owned());
        let kept = Kept { source: self.source.clone(), set };
        let write = move || {
            let content = serde_json::to_vec(&kept).unwrap_or_default();
            keep.put(&name, &content, Durability::Process)
        };
        // The process may be going down; then the file stays as it is.
        if let Ok(Err(error)) = self.tasks.blocking(write).await {
            let error = &error as &dyn std::error::Error;
            warn!(provider = %self.name, error, "keys cannot be kept for the next run");
        }
    }
}
