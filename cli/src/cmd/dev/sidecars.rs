//! Sidecars in the same process: one proxy for each that is registered with the agent, started
//! and ended with its registration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tracing::{info, warn};
use weft_agent::AgentHandle;
use weft_agent::local::LocalServices;
use weft_core::catalog::ServiceKind;
use weft_core::name::InstanceId;
use weft_core::time::Span;
use weft_proto::text::Fault;
use weft_proxy::config::{Config, FileConfig};
use weft_proxy::{Proxy, ProxyHandle};
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;
use weft_runtime::task::TaskTree;

/// The pauses between attempts to start one, e.g. while its port is taken.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How long a sidecar's connections may take to end; less than the whole mesh gets.
const DRAIN_LIMIT: Span = Span::seconds(2);
/// Threads of one sidecar: a developer's calls are few.
const WORKERS: u32 = 1;

/// Starts to run a proxy for each sidecar that the agent knows.
pub(super) fn follow(agent: &AgentHandle, tasks: &TaskTree) {
    let socket = agent.proxy_socket().to_owned();
    let mut registered = agent.local().subscribe();
    let tasks = tasks.child("sidecars");
    tasks.clone().spawn("follow", async move {
        let mut running = BTreeMap::new();
        loop {
            let wanted = sidecars(&registered.borrow_and_update());
            apply(&wanted, &mut running, &socket, &tasks);
            tokio::select! {
                // Both are cancel-safe.
                changed = registered.changed() => if changed.is_err() { return },
                () = tasks.cancelled() => return,
            }
        }
    });
}

/// Returns the ids of the registered sidecars.
fn sidecars(local: &Arc<LocalServices>) -> Vec<InstanceId> {
    let services = local.services.values();
    let sidecars = services.filter(|service| service.kind == ServiceKind::ConnectProxy);
    sidecars.map(|service| service.id.clone()).collect()
}

/// Starts what is wanted and does not run, and ends what runs and is not wanted.
fn apply(
    wanted: &[InstanceId],
    running: &mut BTreeMap<InstanceId, TaskTree>,
    socket: &Path,
    tasks: &TaskTree,
) {
    running.retain(|id, proxy| {
        let is_wanted = wanted.contains(id);
        if !is_wanted {
            info!(sidecar = %id, "sidecar ends");
            proxy.cancel();
        }
        is_wanted
    });
    for id in wanted {
        if !running.contains_key(id) {
            let proxy = tasks.isolated(id.as_str());
            proxy.spawn("start", start(id.clone(), socket.to_owned(), proxy.clone()));
            running.insert(id.clone(), proxy);
        }
    }
}

/// Runs one proxy until its tree is cancelled.
async fn start(id: InstanceId, socket: PathBuf, tasks: TaskTree) {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX, entropy::rng());
    loop {
        let proxy = tasks.child("proxy");
        match start_once(&id, &socket, &proxy).await {
            Ok(handle) => {
                info!(sidecar = %id, admin = %handle.admin_addr(), "sidecar runs");
                tasks.cancelled().await;
                drop(handle);
                return;
            }
            Err(error) => {
                proxy.cancel();
                warn!(sidecar = %id, error = %crate::failure::chain(&error), "sidecar not started");
            }
        }
        let pause = backoff.next();
        tokio::select! {
            // A sleep loses nothing when it is dropped.
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
    }
}

/// Starts one proxy and waits until it serves.
async fn start_once(
    id: &InstanceId,
    socket: &Path,
    tasks: &TaskTree,
) -> anyhow::Result<ProxyHandle> {
    let config = Config::resolve(FileConfig {
        proxy_id: Some(id.to_string()),
        agent_socket: Some(socket.to_string_lossy().into_owned()),
        admin_addr: Some("127.0.0.1:0".to_owned()),
        workers: Some(WORKERS),
        drain_limit: Some(DRAIN_LIMIT),
        ..FileConfig::default()
    })
    .map_err(|faults| anyhow!(Fault::line(&faults)))?;
    let mut handle = Proxy::start(config, tasks.clone()).await?;
    handle.ready().await?;
    Ok(handle)
}
