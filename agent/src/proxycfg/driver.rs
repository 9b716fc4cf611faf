//! Feeds one assembler and carries out what it says: drives `core::proxycfg`.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream};
use tokio::sync::watch;
use tokio_stream::{StreamExt as _, StreamMap};
use tracing::{error, info, warn};
use weft_core::catalog::Service;
use weft_core::name::ServiceName;
use weft_core::proxycfg::{Assembler, CheckDoor, Exposure, Output, Site, Subject, Update, Watch};
use weft_runtime::clock;

use super::proxy::Proxy;
use super::registry::Sources;
use crate::local::{CheckDoors, Local};
use crate::servers::reason;
use crate::views::{Slot, View};

type Updates = Pin<Box<dyn Stream<Item = Update> + Send>>;

/// Runs until the sidecar's registration goes or the agent stops.
pub(super) async fn run(
    proxy: Arc<Proxy>,
    mut sidecar: watch::Receiver<Service>,
    (sources, site, local): (Sources, Site, Local),
) {
    // Versions rise over restarts of the agent: milliseconds pass faster than versions.
    let version_base = clock::wall().0;
    let first = sidecar.borrow_and_update().clone();
    let mut assembler = Assembler::new(&first, site, version_base);
    let mut watches: StreamMap<Watch, Updates> = StreamMap::new();
    let (mut doors, mut taken) = (local.check_doors(), proxy.taken.subscribe());
    // Checks of an earlier run have theirs already.
    doors.mark_changed();
    loop {
        if doors.has_changed().unwrap_or_default() {
            assembler.handle_checks(of_proxy(&proxy, &mut doors));
        }
        while let Some(output) = assembler.poll_output() {
            match output {
                Output::Exposure(exposure) => {
                    keep(&local, &proxy, exposure).await;
                    // The next snapshot has them.
                    assembler.handle_checks(of_proxy(&proxy, &mut doors));
                }
                Output::Problems(problems) => {
                    for problem in &problems {
                        report(&proxy, &problem.subject, &problem.reason);
                    }
                    proxy.status.lock().problems = problems;
                }
                Output::Snapshot(snapshot) => {
                    let (id, version) = (&proxy.id, snapshot.version);
                    info!(proxy = %id, version, "a configuration is ready");
                    proxy.snapshot.send_replace(Some(snapshot));
                }
                Output::Start(watch) => {
                    let updates = updates(&sources, &watch);
                    watches.insert(watch, updates);
                }
                Output::Stop(watch) => {
                    watches.remove(&watch);
                }
            }
        }
        // Each branch waits for a level or an item that stays in its stream when dropped.
        tokio::select! {
            () = proxy.gone.cancelled() => return,
            changed = sidecar.changed() => {
                if changed.is_err() {
                    return;
                }
                let newest = sidecar.borrow_and_update().clone();
                assembler.handle_sidecar(&newest);
            }
            // The doors are looked at above. Whoever keeps either of them outlives this task.
            Ok(()) = doors.changed() => doors.mark_changed(),
            Ok(()) = taken.changed() => {
                if let Some(open) = proxy.check_doors_open() {
                    local.opened(&proxy.id, &open);
                }
            }
            Some((_, update)) = watches.next() => {
                if let Update::Intentions(_, set) = &update {
                    sources.keys.learn(&set.providers);
                }
                assembler.handle_update(update);
            }
        }
    }
}

/// Keeps which ports checks go through.
async fn keep(local: &Local, proxy: &Proxy, exposure: Exposure) {
    if let Err(error) = local.expose(proxy.id.clone(), exposure).await {
        let error = reason(&error);
        error!(proxy = %proxy.id, error, "ports of checks cannot be kept");
    }
}

fn of_proxy(proxy: &Proxy, doors: &mut watch::Receiver<Arc<CheckDoors>>) -> Vec<CheckDoor> {
    doors.borrow_and_update().get(&proxy.id).cloned().unwrap_or_default()
}

fn report(proxy: &Proxy, subject: &Subject, reason: &str) {
    match subject {
        Subject::Proxy => warn!(proxy = %proxy.id, reason, "a sidecar's registration is unusable"),
        Subject::Upstream(upstream) => {
            warn!(proxy = %proxy.id, %upstream, reason, "an upstream is not as asked for");
        }
    }
}

/// Follows one watch: its present value, then each change.
fn updates(sources: &Sources, watch: &Watch) -> Updates {
    let views = &sources.views;
    match watch {
        Watch::CapturedUpstreams(name) => {
            by_value(views.captured_upstreams(name), name, Update::CapturedUpstreams)
        }
        Watch::Chain(name) => {
            let name = name.clone();
            follow(views.chain(&name), move |slot| {
                let answer = match (slot.problem, slot.value) {
                    (Some(problem), _) => Err(problem),
                    (None, Some(chain)) => Ok(chain),
                    (None, None) => return None,
                };
                Some(Update::Chain(name.clone(), answer))
            })
        }
        Watch::Connect(name) => by_value(views.connect(name), name, Update::Connect),
        Watch::Intentions(name) => by_value(views.intentions(name), name, Update::Intentions),
        Watch::JwtKeys(name) => keys(sources, name.clone()),
        Watch::Leaf(name) => leaf(sources, name.clone()),
        Watch::MeshTls => follow(views.mesh_tls(), |slot| slot.value.map(Update::MeshTls)),
        Watch::Roots => follow(views.roots(), |slot| slot.value.map(Update::Roots)),
        Watch::ServiceDefaults(name) => {
            by_value(views.service_defaults(name), name, Update::ServiceDefaults)
        }
    }
}

/// Follows a view whose problems change nothing: the last value stays.
fn by_value<T: Send + Sync + 'static>(
    view: View<T>,
    name: &ServiceName,
    update: fn(ServiceName, Arc<T>) -> Update,
) -> Updates {
    let name = name.clone();
    follow(view, move |slot| slot.value.map(|value| update(name.clone(), value)))
}

fn follow<T: Send + Sync + 'static>(
    view: View<T>,
    update: impl Fn(Slot<T>) -> Option<Update> + Send + 'static,
) -> Updates {
    let present = view.current();
    let start = (view, Some(present), update);
    Box::pin(stream::unfold(start, |(mut view, mut present, update)| async move {
        loop {
            let slot = match present.take() {
                Some(slot) => slot,
                None => view.changed().await,
            };
            if let Some(item) = update(slot) {
                return Some((item, (view, None, update)));
            }
        }
    }))
}

/// Follows the keys of a provider of tokens.
fn keys(sources: &Sources, name: ServiceName) -> Updates {
    let mut receiver = sources.keys.keys(&name);
    receiver.mark_changed();
    Box::pin(stream::unfold((receiver, name), |(mut receiver, name)| async move {
        receiver.changed().await.ok()?;
        let keys = receiver.borrow_and_update().clone();
        Some((Update::JwtKeys(name.clone(), keys), (receiver, name)))
    }))
}

/// Follows a certificate. One that ended is not taken back: the proxy sees its date itself.
fn leaf(sources: &Sources, name: ServiceName) -> Updates {
    let mut receiver = sources.leaves.leaf(&name);
    receiver.mark_changed();
    Box::pin(stream::unfold((receiver, name), |(mut receiver, name)| async move {
        loop {
            receiver.changed().await.ok()?;
            let leaf = receiver.borrow_and_update().clone();
            if let Some(leaf) = leaf {
                return Some((Update::Leaf(name.clone(), leaf), (receiver, name)));
            }
        }
    }))
}
