//! Views over restarts of the agent: one file for each value in use, a moment behind it.
//!
//! A restart while no server is reachable serves from these files. Writing them holds up
//! nobody, and a view that ends takes its file along.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use weft_core::ca::TrustBundle;
use weft_core::catalog::{CapturedUpstreams, Node, ServiceInstance};
use weft_core::chain::CompiledChain;
use weft_core::config_entry::{MeshTls, ServiceDefaults};
use weft_core::index::Index;
use weft_core::intention::IntentionSet;
use weft_proto::envelope::InvalidEnvelope;
use weft_proto::grpc::v1::Topic;
use weft_runtime::task::TaskTree;

use super::feed::{Cell, Feed};
use super::record::Record;
use super::table::{Key, Shared, is_nobody};
use crate::keep::{Durability, Keep, KeepError, Verdict};

/// The shortest time between two writes of one value: one that changes with each deployment
/// step costs one file a second.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of the index before a value.
const INDEX_BYTES: usize = 8;

/// A view of an earlier run.
struct View {
    key: Key,
    index: Index,
    feed: Arc<dyn Feed>,
}

/// States why a file does not hold a view.
#[derive(Debug, thiserror::Error)]
#[error("it holds no view of this release")]
struct NoView;

/// Enters what an earlier run kept. Blocks its thread.
pub(super) fn load(folder: PathBuf, cluster_id: &str, shared: &Shared) -> Keep {
    let mut count = 0_usize;
    let keep = Keep::open(folder, cluster_id, |name, content| match read(name, content) {
        Ok(View { key, index, feed }) => {
            if !shared.enter_kept(&key, (index, feed)) {
                return Verdict::Dropped("there are more than this agent may watch");
            }
            count += 1;
            Verdict::Taken
        }
        Err(unreadable) => Verdict::Damaged(unreadable),
    });
    if count > 0 {
        info!(count, "views of an earlier run are in use until servers are heard");
    }
    keep
}

/// Keeps the files up with the values until the agent stops, and once more then.
pub(super) async fn follow(shared: Arc<Shared>, keep: Keep, tasks: TaskTree) {
    let keep = Arc::new(keep);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = tasks.cancelled() => {}
            () = shared.behind.notified() => {}
        }
        let is_last = tasks.is_cancelled();
        let (changed, keep) = (shared.take_changed(), keep.clone());
        if !changed.is_empty() {
            let written = tasks.blocking(move || write_all(&keep, changed)).await;
            // The process is going down: the files stay a moment behind.
            let Ok(failed) = written else { return };
            report(&failed, &mut is_failing);
            failed.into_iter().for_each(|(key, _)| shared.put_off(key));
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = tasks.cancelled() => {}
            () = tokio::time::sleep(WRITE_INTERVAL) => {}
        }
    }
}

/// Tells the first failure, and the end of failing.
fn report(failed: &[(Key, KeepError)], is_failing: &mut bool) {
    match (failed.first(), *is_failing) {
        (Some((_, error)), false) => {
            let error = error as &dyn std::error::Error;
            warn!(error, "views cannot be kept; a restart would serve older ones");
        }
        (None, true) => info!("views are kept again"),
        (Some(_), true) | (None, false) => {}
    }
    *is_failing = !failed.is_empty();
}

/// Writes values and removes those that are gone; returns what could not be done.
fn write_all(keep: &Keep, changed: Vec<(Key, Option<Arc<dyn Feed>>)>) -> Vec<(Key, KeepError)> {
    let mut failed = Vec::new();
    for (key, feed) in changed {
        let Some(name) = name(&key) else { continue };
        let value = feed.and_then(|feed| feed.last_value());
        let done = match value.filter(|(_, value)| !is_nobody(&key, value)) {
            Some((Index(index), value)) => {
                let content = [&index.to_be_bytes()[..], &value].concat();
                keep.put(&name, &content, Durability::Process)
            }
            None => keep.remove(&name),
        };
        if let Err(error) = done {
            failed.push((key, error));
        }
    }
    failed
}

fn read(name: &str, content: &[u8]) -> Result<View, Box<dyn std::error::Error>> {
    let (topic, key) = name.split_once('.').unwrap_or((name, ""));
    let topic = KEPT.iter().find(|(_, kept)| *kept == topic).ok_or(NoView)?.0;
    let (index, value) = content.split_first_chunk::<INDEX_BYTES>().ok_or(NoView)?;
    let index = Index(u64::from_be_bytes(*index));
    let feed = match topic {
        Topic::CapturedUpstreams => cell::<CapturedUpstreams>(index, value)?,
        Topic::Chain => cell::<CompiledChain>(index, value)?,
        Topic::Connect | Topic::Service => cell::<Vec<ServiceInstance>>(index, value)?,
        Topic::Intentions => cell::<IntentionSet>(index, value)?,
        Topic::MeshTls => cell::<MeshTls>(index, value)?,
        Topic::Nodes => cell::<Vec<Arc<Node>>>(index, value)?,
        Topic::Roots => cell::<TrustBundle>(index, value)?,
        Topic::ServiceDefaults => cell::<ServiceDefaults>(index, value)?,
        Topic::Unspecified => return Err(NoView.into()),
    };
    Ok(View { key: Key { topic: topic.into(), key: key.into() }, index, feed })
}

fn cell<T: Record>(index: Index, value: &[u8]) -> Result<Arc<dyn Feed>, InvalidEnvelope> {
    Ok(Arc::new(Cell::<T>::kept(index, value)?))
}

/// The topics in the names of files.
const KEPT: [(Topic, &str); 9] = [
    (Topic::CapturedUpstreams, "captured-upstreams"),
    (Topic::Chain, "chain"),
    (Topic::Connect, "connect"),
    (Topic::Intentions, "intentions"),
    (Topic::MeshTls, "mesh-tls"),
    (Topic::Nodes, "nodes"),
    (Topic::Roots, "roots"),
    (Topic::Service, "service"),
    (Topic::ServiceDefaults, "service-defaults"),
];

fn name(key: &Key) -> Option<String> {
    let (_, topic) = KEPT.iter().find(|(topic, _)| i32::from(*topic) == key.topic)?;
    match &*key.key {
        "" => Some(topic.to_string()),
        key => Some(format!("{topic}.{key}")),
    }
}
