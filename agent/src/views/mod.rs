//! What the agent knows of the mesh: values that servers keep current over one stream.
//!
//! DNS, the HTTP API, leaves and proxy configuration all read here. A value outlives the
//! connection it came over, and in files the agent: without servers the last one stays, marked.
//! Nothing is decided here.

#[cfg(test)]
pub(crate) mod fake;
mod feed;
mod kept;
mod record;
mod stream;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_core::ca::TrustBundle;
use weft_core::catalog::{CapturedUpstreams, Node, ServiceInstance};
use weft_core::chain::CompiledChain;
use weft_core::config_entry::{MeshTls, ServiceDefaults};
use weft_core::index::Index;
use weft_core::intention::IntentionSet;
use weft_core::name::ServiceName;
use weft_proto::grpc::v1::Topic;
use weft_runtime::task::{TaskFailure, TaskTree};

use crate::grpc::Calls;
use record::Record;
use table::{Key, Shared};

/// All that is watched at servers; clones share it.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

/// One value that is kept current for as long as a view of it exists.
///
/// Views of the same thing share one watch; after the last one is dropped the watch goes on for
/// a while, as what was asked for once is often asked for again.
pub struct View<T> {
    slot: watch::Receiver<Slot<T>>,
    shared: Arc<Shared>,
    key: Key,
}

/// What is known of a watched thing at one moment.
#[derive(Debug)]
pub struct Slot<T> {
    /// The newest value; `None` until the first one came.
    pub value: Option<Arc<T>>,
    /// The value's index.
    pub index: Index,
    /// Why there is no newer value.
    pub problem: Option<Arc<str>>,
    /// Whether a server has confirmed this over the present connection.
    pub is_live: bool,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        let Self { value, index, problem, is_live } = self;
        Self { value: value.clone(), index: *index, problem: problem.clone(), is_live: *is_live }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: None, index: Index(0), problem: None, is_live: false }
    }
}

impl<T> Slot<T> {
    /// Whether a server has said anything yet, in this run or an earlier one.
    pub fn is_answered(&self) -> bool {
        self.value.is_some() || self.problem.is_some()
    }
}

impl Views {
    /// Starts the stream to the servers; nothing is kept over restarts.
    pub fn start(calls: Calls, tasks: &TaskTree) -> Self {
        Self::follow(Arc::default(), calls, tasks)
    }

    /// Starts the stream to the servers with the last values of an earlier run, and keeps the
    /// values in use in `folder`, for this cluster only.
    ///
    /// # Errors
    /// [`TaskFailure`] when the process is shutting down.
    pub async fn start_kept(
        calls: Calls,
        (folder, cluster_id): (PathBuf, &str),
        tasks: &TaskTree,
    ) -> Result<Self, TaskFailure> {
        let (shared, cluster_id) = (Arc::new(Shared::default()), cluster_id.to_owned());
        let filled = shared.clone();
        let keep = tasks.blocking(move || kept::load(folder, &cluster_id, &filled)).await?;
        shared.keep();
        tasks.spawn("kept-views", kept::follow(shared.clone(), keep, tasks.clone()));
        Ok(Self::follow(shared, calls, tasks))
    }

    fn follow(shared: Arc<Shared>, calls: Calls, tasks: &TaskTree) -> Self {
        tasks.spawn("views", stream::run(shared.clone(), calls, tasks.clone()));
        Self { shared }
    }

    /// Waits until servers have spoken about every value of an earlier run, or cannot be
    /// reached, for `limit` at most. Whoever serves nothing before that goes back to an older
    /// value only when there is no newer one.
    ///
    /// # Cancel safety
    /// May be dropped and called again, but awaited by one task only.
    pub async fn settled(&self, limit: Duration) {
        let settled = async {
            while !self.shared.is_settled() {
                self.shared.settled.notified().await;
            }
        };
        // After that long the old values are what there is.
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// Watches every instance of a service, also critical ones.
    pub fn service(&self, name: &ServiceName) -> View<Vec<ServiceInstance>> {
        self.watch(Topic::Service, name.as_str())
    }

    /// Watches the sidecars and native instances that speak for a service.
    pub fn connect(&self, name: &ServiceName) -> View<Vec<ServiceInstance>> {
        self.watch(Topic::Connect, name.as_str())
    }

    /// Watches the discovery chain of a service.
    pub fn chain(&self, name: &ServiceName) -> View<CompiledChain> {
        self.watch(Topic::Chain, name.as_str())
    }

    /// Watches what a service calls when its calls are captured.
    pub fn captured_upstreams(&self, name: &ServiceName) -> View<CapturedUpstreams> {
        self.watch(Topic::CapturedUpstreams, name.as_str())
    }

    /// Watches who may call a service.
    pub fn intentions(&self, name: &ServiceName) -> View<IntentionSet> {
        self.watch(Topic::Intentions, name.as_str())
    }

    /// Watches what a service speaks, and its limits.
    pub fn service_defaults(&self, name: &ServiceName) -> View<ServiceDefaults> {
        self.watch(Topic::ServiceDefaults, name.as_str())
    }

    /// Watches which TLS proxies speak with each other.
    pub fn mesh_tls(&self) -> View<MeshTls> {
        self.watch(Topic::MeshTls, "")
    }

    /// Watches whom to trust.
    pub fn roots(&self) -> View<TrustBundle> {
        self.watch(Topic::Roots, "")
    }

    /// Watches every node, by name.
    pub fn nodes(&self) -> View<Vec<Arc<Node>>> {
        self.watch(Topic::Nodes, "")
    }

    /// Whether a stream to a server stands.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// Whether a stream to a server has ever stood, in this run.
    pub fn was_connected(&self) -> bool {
        self.shared.was_connected()
    }

    /// Returns for how long no server has been connected; `None` while one is, and before the
    /// first attempt has ended.
    pub fn away_for(&self, now: Instant) -> Option<Duration> {
        self.shared.away_for(now)
    }

    fn watch<T>(&self, topic: Topic, key: &str) -> View<T>
    where
        T: Record,
    {
        let key = Key { topic: topic.into(), key: key.into() };
        View { slot: self.shared.subscribe(&key), shared: self.shared.clone(), key }
    }
}

impl<T> View<T> {
    /// Returns what is known now.
    pub fn current(&self) -> Slot<T> {
        self.slot.borrow().clone()
    }

    /// Returns what is known now, which is no news from now on.
    pub fn latest(&mut self) -> Slot<T> {
        self.slot.borrow_and_update().clone()
    }

    /// Whether something has come since [`View::latest`].
    pub fn has_news(&self) -> bool {
        // An error says that the agent stops: what is here is the last there is.
        self.slot.has_changed().unwrap_or(false)
    }

    /// Waits for news and returns them.
    ///
    /// # Cancel safety
    /// May be dropped at any time; what came meanwhile is returned by the next call.
    pub async fn changed(&mut self) -> Slot<T> {
        if self.slot.changed().await.is_err() {
            // Nothing more comes after the agent has begun to stop.
            std::future::pending::<()>().await;
        }
        self.slot.borrow_and_update().clone()
    }

    /// Returns what is known, after waiting up to `limit` for a server to say something.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn first(&mut self, limit: Duration) -> Slot<T> {
        // Either way the present content is what there is to say.
        let _ = tokio::time::timeout(limit, self.slot.wait_for(Slot::is_answered)).await;
        self.slot.borrow_and_update().clone()
    }

    /// Gives the view up and, unless others hold one, the watch with it, at once.
    pub fn retire(self) {
        let Self { slot, shared, key } = self;
        drop(slot);
        shared.retire(&key);
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), shared: self.shared.clone(), key: self.key.clone() }
    }
}

#[cfg(test)]
mod tests;
