//! From which state on a read is fresh: by lease, or confirmed by a majority. One confirmation
//! serves everyone who waited for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use weft_core::index::Index;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::call::{Call, Said};
use super::error::ProposeError;
use super::leadership::leads;
use super::lease::LEASE;
use super::network::{LEADER_LIMIT, Links};
use super::types::{Member, Metrics, NodeId};

/// Reads that wait; when full, those who read wait at the door.
const QUEUE_LENGTH: usize = 4096;
/// How long a server may take to confirm that it follows: many round trips, and less than an
/// election.
const CONFIRM_LIMIT: Duration = Duration::from_millis(1_000);

type Reply = oneshot::Sender<Result<Index, ProposeError>>;

/// What a server knows of its own leadership. Clones share it.
#[derive(Clone)]
pub(super) struct Confirmer {
    pub(super) id: NodeId,
    pub(super) links: Links,
    pub(super) metrics: watch::Receiver<Metrics>,
    /// The last index that readers see here.
    pub(super) progress: watch::Receiver<u64>,
    /// Whether this server is handing leadership over.
    pub(super) resigned: Arc<AtomicBool>,
}

impl Confirmer {
    /// Whether this server leads and nobody else can, so that what it has applied is the newest
    /// there is. The state to answer from must be taken before this is asked.
    pub(super) fn has_lease(&self) -> bool {
        let metrics = self.metrics.borrow();
        if self.resigned.load(Ordering::Acquire) || !leads(self.id, &metrics) {
            return false;
        }
        let confirmed =
            self.links.acks.confirmed(self.id, &metrics.vote, &metrics.membership_config);
        confirmed.is_some_and(|at| clock::instant().duration_since(at) < LEASE)
    }

    /// Returns the index that every write acknowledged before the call has at most, without
    /// asking anybody.
    pub(super) fn by_lease(&self) -> Option<Index> {
        // The index first: the lease must hold after it was taken.
        let index = Index(*self.progress.borrow());
        self.has_lease().then_some(index)
    }

    /// Returns the same, confirmed by a majority after the call.
    pub(super) async fn by_majority(&self) -> Result<Index, ProposeError> {
        let (vote, membership, leader) = {
            let metrics = self.metrics.borrow();
            if self.resigned.load(Ordering::Acquire) || !leads(self.id, &metrics) {
                return Err(ProposeError::NoLeader(leader_of(&metrics, self.id)));
            }
            (metrics.vote, metrics.membership_config.clone(), metrics.current_leader)
        };
        debug_assert_eq!(leader, Some(self.id), "checked above");
        let since = clock::instant();
        let index = Index(*self.progress.borrow());
        let is_confirmed = || self.links.acks.confirmed(self.id, &vote, &membership) >= Some(since);
        if is_confirmed() {
            return Ok(index);
        }
        let voters = membership.voter_ids().filter(|id| *id != self.id);
        let mut asked: FuturesUnordered<_> = voters
            .filter_map(|id| Some((id, membership.membership().get_node(&id)?.address.as_str())))
            .map(|to| self.links.pulse(to, &vote, CONFIRM_LIMIT))
            .collect();
        while asked.next().await.is_some() {
            if is_confirmed() {
                return Ok(index);
            }
        }
        Err(ProposeError::NoQuorum)
    }

    /// Returns the same from wherever the leader is, once it is visible here.
    async fn anywhere(&self, call: Call) -> Result<Index, ProposeError> {
        let leader = leader_of(&self.metrics.borrow(), self.id);
        let leader = leader.ok_or(ProposeError::NoLeader(None))?;
        match self.links.call(&leader.address, &call, LEADER_LIMIT).await? {
            Said::ReadIndex(index) => {
                let mut progress = self.progress.clone();
                let applied = progress.wait_for(|applied| *applied >= index.0);
                match tokio::time::timeout(LEADER_LIMIT, applied).await {
                    Ok(Ok(_)) => Ok(index),
                    Ok(Err(_)) => Err(ProposeError::Stopped),
                    Err(_) => Err(ProposeError::Unanswered("this server is behind".to_owned())),
                }
            }
            other => Err(ProposeError::Unanswered(format!("it said {other:?}"))),
        }
    }

    fn leads(&self) -> bool {
        self.metrics.borrow().current_leader == Some(self.id)
    }
}

/// Returns who leads, when it is another server.
fn leader_of(metrics: &Metrics, me: NodeId) -> Option<Member> {
    let id = metrics.current_leader.filter(|id| *id != me)?;
    metrics.membership_config.membership().get_node(&id).cloned()
}

/// How a barrier is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// A majority confirms each.
    Majority,
    /// The leader's lease is enough.
    Lease,
}

/// The queue to the barrier.
#[derive(Clone)]
pub(super) struct Barrier {
    queue: mpsc::Sender<Reply>,
}

impl Barrier {
    pub(super) fn start(confirmer: Confirmer, trust: Trust, tasks: &TaskTree) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Reply>(QUEUE_LENGTH);
        let token = tasks.token();
        tasks.spawn("read barrier", async move {
            loop {
                let first = tokio::select! {
                    // A read that was not received stays in the channel.
                    next = waiting.recv() => match next {
                        Some(first) => first,
                        None => return,
                    },
                    () = token.cancelled() => return,
                };
                // Only reads that arrived before the barrier starts may rely on it.
                let mut readers = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    readers.push(next);
                }
                let outcome = tokio::select! {
                    outcome = pass(&confirmer, trust) => outcome,
                    // Nobody who waits has been promised anything.
                    () = token.cancelled() => return,
                };
                for reader in readers {
                    let _ = reader.send(outcome.clone());
                }
            }
        });
        Self { queue }
    }

    /// Returns the index that every write acknowledged before the call has at most, once it is
    /// visible here.
    pub(super) async fn pass(&self) -> Result<Index, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.send(reply).await.map_err(|_| ProposeError::Stopped)?;
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

async fn pass(confirmer: &Confirmer, trust: Trust) -> Result<Index, ProposeError> {
    if !confirmer.leads() {
        return confirmer.anywhere(Call::ReadIndex { by_lease: trust == Trust::Lease }).await;
    }
    match trust {
        Trust::Majority => confirmer.by_majority().await,
        Trust::Lease => match confirmer.by_lease() {
            Some(index) => Ok(index),
            None => confirmer.by_majority().await,
        },
    }
}
