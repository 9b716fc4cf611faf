//! Follows what one caller is to be told, for as long as its process lives and may know it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Status;
use tracing::info;
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::name::ServiceName;
use weft_runtime::clock;
use weft_runtime::net::PeerProcess;

use super::Door;
use super::message::{Known, Told};
use super::metrics::Outcome;
use crate::views::View;

/// How long what is not there yet is waited for: a service that registers while it starts, a
/// server that signs.
pub(super) const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// One call of one process.
pub(super) struct Following {
    door: Arc<Door>,
    peer: Arc<PeerProcess>,
    registered: watch::Receiver<BTreeSet<ServiceName>>,
    roots: View<TrustBundle>,
    leaves: Vec<(ServiceName, watch::Receiver<Option<Arc<Leaf>>>)>,
}

impl Following {
    pub(super) fn new(door: Arc<Door>, peer: Arc<PeerProcess>) -> Self {
        let (registered, roots) = (door.registered.clone(), door.sources.views.roots());
        Self { door, peer, registered, roots, leaves: Vec::new() }
    }

    /// Tells until there is a reason not to, which is returned.
    pub(super) async fn run<T: Told>(mut self, sender: &mpsc::Sender<Result<T, Status>>) -> Status {
        let metrics = self.door.metrics.clone();
        let mut waits = true;
        let mut patience = pin!(tokio::time::sleep(FIRST_LIMIT));
        let mut told: Option<T> = None;
        loop {
            let message = match self.look() {
                Ok(known) => T::of(&known, waits),
                Err(status) => {
                    if told.is_none() {
                        metrics.fetched(T::CALL, Outcome::of(&status));
                    }
                    return status;
                }
            };
            if message.is_none() && (told.is_some() || !waits) {
                let status = self.nothing();
                if told.is_none() {
                    metrics.fetched(T::CALL, Outcome::of(&status));
                }
                return status;
            }
            if message.is_some() && message != told {
                let permit = sender.reserve().await;
                // Between the waiting and the sending nothing may have been taken away.
                let newest = self.look().ok().and_then(|known| T::of(&known, waits));
                let (Ok(permit), Some(newest)) = (permit, newest) else {
                    if sender.is_closed() {
                        return left();
                    }
                    continue;
                };
                if told.is_none() {
                    metrics.fetched(T::CALL, Outcome::Served);
                }
                metrics.sent(T::CALL);
                permit.send(Ok(newest.clone()));
                told = Some(newest);
                waits = false;
            }
            // Each branch may be dropped: all wait for levels.
            tokio::select! {
                () = sender.closed() => return left(),
                changed = self.changed() => if let Err(status) = changed {
                    return status;
                },
                () = &mut patience, if waits => waits = false,
            }
        }
    }

    /// Waits until there may be something else to tell.
    ///
    /// # Errors
    /// When nothing will change any more: the agent stops.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped: all it waits for are levels.
    pub(super) async fn changed(&mut self) -> Result<(), Status> {
        let goes_on = tokio::select! {
            goes_on = any_changed(&mut self.leaves) => goes_on,
            changed = self.registered.changed() => changed.is_ok(),
            _ = self.roots.changed() => true,
        };
        if goes_on { Ok(()) } else { Err(Status::unavailable("the agent stops")) }
    }

    /// The process that is told.
    pub(super) fn pid(&self) -> u32 {
        self.peer.pid()
    }

    /// Looks anew at who the caller is, for what it speaks, and what there is of that.
    pub(super) fn look(&mut self) -> Result<Known, Status> {
        let services = self.door.attest(&self.peer)?;
        let registered = self.registered.borrow_and_update().clone();
        let sources = &self.door.sources;
        let wanted = services.iter().filter(|name| registered.contains(*name)).cloned();
        // Those before are held until the new ones are: they are the same.
        self.leaves = wanted
            .map(|name| {
                let leaf = sources.leaves.leaf(&name);
                (name, leaf)
            })
            .collect();
        let leaves: Vec<(ServiceName, Option<Arc<Leaf>>)> = self
            .leaves
            .iter_mut()
            .map(|(name, leaf)| {
                let leaf = leaf.borrow_and_update().clone();
                (name.clone(), leaf.filter(|leaf| leaf.valid_before > clock::wall()))
            })
            .collect();
        let (membership, bundle) = (sources.membership.clone(), self.roots.latest().value);
        Ok(Known { membership, services, leaves, bundle })
    }

    /// Says why there is nothing to tell, or nothing any more.
    ///
    /// **Source**: Spec: SPIFFE Workload API §5.2.1: who is refused stops using what it was given.
    pub(super) fn nothing(&self) -> Status {
        let status = match self.leaves.as_slice() {
            [] => Status::permission_denied(
                "no service for which this process may speak is registered on this host",
            ),
            _ => Status::unavailable(
                "no server has signed a certificate, or told the roots, for this process yet",
            ),
        };
        info!(pid = self.peer.pid(), reason = status.message(), "a workload gets nothing");
        status
    }
}

/// The caller has left; nobody reads this.
pub(super) fn left() -> Status {
    Status::cancelled("the caller has left")
}

/// Waits until one of the certificates changes; returns whether more may follow.
async fn any_changed(leaves: &mut [(ServiceName, watch::Receiver<Option<Arc<Leaf>>>)]) -> bool {
    if leaves.is_empty() {
        return std::future::pending().await;
    }
    let each = leaves.iter_mut().map(|(_, leaf)| Box::pin(leaf.changed()));
    futures::future::select_all(each).await.0.is_ok()
}
