//! Tells followers what is committed: with the next entries when some come at once, in a message
//! of its own a moment later otherwise.
//!
//! openraft sends each follower such a message after each entry. While many write, the next
//! entries are about to go the same way, and would have to wait behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_proto::envelope;
use weft_runtime::task::TaskTree;

use super::network::Links;
use super::types::{NodeId, TypeConfig};

/// How long the next entries are waited for: about as long as those before took.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a server may take to answer; what it misses the next message says too.
const LIMIT: Duration = Duration::from_millis(500);

/// A message without entries, and where it goes.
type Message = (String, AppendEntriesRequest<TypeConfig>);

/// What the followers are still to be told. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Tidings {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    stirred: Notify,
    hurried: Notify,
}

/// At most one message for each follower.
#[derive(Default)]
struct Ledger {
    /// The newest for each follower.
    owed: BTreeMap<NodeId, Message>,
    /// Followers that have not answered the last one.
    silent: BTreeSet<NodeId>,
}

impl Tidings {
    /// Takes a message that says nothing but what is committed.
    pub(super) fn owe(
        &self,
        (target, address): (NodeId, &str),
        message: AppendEntriesRequest<TypeConfig>,
    ) {
        self.shared.ledger.lock().owed.insert(target, (address.to_owned(), message));
        self.shared.stirred.notify_one();
    }

    /// Forgets what a follower was to be told: it is told along with entries.
    pub(super) fn settle(&self, target: NodeId) {
        self.shared.ledger.lock().owed.remove(&target);
    }

    /// Has them told at once: a follower waits for it.
    pub(super) fn hurry(&self) {
        self.shared.hurried.notify_one();
    }

    /// Tells them from now on.
    pub(super) fn start(links: &Links, tasks: &TaskTree) {
        let (links, tree) = (links.clone(), tasks.clone());
        tasks.spawn("tidings", async move {
            tokio::select! {
                () = tell(&links, &tree) => {}
                // What is not told is learnt from the next leader.
                () = tree.cancelled() => {}
            }
        });
    }

    /// Takes what is owed to those who have answered before.
    fn take(&self) -> BTreeMap<NodeId, Message> {
        let Ledger { owed, silent } = &mut *self.shared.ledger.lock();
        let (taken, left) =
            std::mem::take(owed).into_iter().partition(|(target, _)| silent.insert(*target));
        *owed = left;
        taken
    }

    fn answered(&self, target: NodeId) {
        let ledger = &mut *self.shared.ledger.lock();
        ledger.silent.remove(&target);
        if ledger.owed.contains_key(&target) {
            self.shared.stirred.notify_one();
        }
    }
}

async fn tell(links: &Links, tasks: &TaskTree) {
    let tidings = &links.tidings;
    loop {
        tidings.shared.stirred.notified().await;
        // Over either way; a hurry of earlier on costs one message.
        let _ = tokio::time::timeout(PAUSE, tidings.shared.hurried.notified()).await;
        for (target, (address, message)) in tidings.take() {
            let links = links.clone();
            tasks.spawn("tiding", async move {
                // Who does not hear it hears it with openraft's next sign of life.
                let (vote, message) = (message.vote, envelope::encode(&message));
                let _ = links.append((target, &address), vote, message, LIMIT).await;
                links.tidings.answered(target);
            });
        }
    }
}
