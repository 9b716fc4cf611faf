//! Ends sessions whose time is over. What their times are, `core::session` knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, warn};
use weft_core::index::Index;
use weft_core::session::{SessionId, SessionTimers};
use weft_core::state::{Command, SessionCommand};
use weft_core::watch::Topic;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::Office;
use crate::raft::ProposeError;

/// Sessions ended at once, so that they share entries of the log.
const ENDED_AT_ONCE: usize = 64;

/// Renewals on their way to the one who keeps the times. Clones share them.
///
/// Bounded: each session is there once at most, and a server that does not lead keeps none.
#[derive(Clone, Default)]
pub(crate) struct Renewals(Arc<Noted>);

#[derive(Default)]
struct Noted {
    sessions: Mutex<BTreeSet<SessionId>>,
    notify: Notify,
}

impl Renewals {
    /// Notes that a session was renewed.
    pub(crate) fn note(&self, session: SessionId) {
        self.0.sessions.lock().insert(session);
        self.0.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<SessionId> {
        std::mem::take(&mut *self.0.sessions.lock())
    }
}

/// Keeps the times for as long as this server leads.
pub(super) fn start(office: &Office, tasks: &TaskTree) {
    let (office, tree) = (office.clone(), tasks.clone());
    tasks.spawn("session times", async move { run(&office, &tree).await });
}

async fn run(office: &Office, tasks: &TaskTree) {
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Sessions]));
    let mut timers = SessionTimers::default();
    let (mut known, mut restored_at) = (Index(0), office.state().restored_at());
    // What was noted for an earlier leader says nothing of these times.
    let renewals = office.renewals();
    renewals.take();
    loop {
        let state = office.state();
        let now = clock::instant();
        if state.restored_at() != restored_at {
            // What a snapshot brings back may be older than what is known, and was not renewed
            // while it was away: all times begin anew, as with a new leader.
            (known, restored_at) = (Index(0), state.restored_at());
            timers = SessionTimers::default();
        }
        for session in state.sessions().with_ttl_since(known) {
            known = known.max(session.create_index);
            if let Some(ttl) = session.ttl {
                timers.handle_session(session.id, ttl.0, now);
            }
        }
        for session in renewals.take() {
            timers.handle_renewal(session, now);
        }
        timers.handle_timeout(now);
        let over = std::iter::from_fn(|| timers.poll_output());
        let over: Vec<_> = over.filter(|id| state.sessions().get(*id).is_some()).collect();
        let ended = futures::stream::iter(over).map(|id| end(office, id));
        let failed: Vec<SessionId> =
            ended.buffer_unordered(ENDED_AT_ONCE).filter_map(std::future::ready).collect().await;
        for id in failed {
            timers.handle_not_ended(id, clock::instant());
        }
        let next = timers.poll_timeout();
        let timeout = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Marks, notes and times are levels: none is lost with the others.
            _ = mailbox.marked() => {}
            () = renewals.0.notify.notified() => {}
            () = timeout => {}
            () = tasks.cancelled() => return,
        }
    }
}

/// Ends a session; returns it when that is to be tried again.
async fn end(office: &Office, id: SessionId) -> Option<SessionId> {
    debug!(session = %id, "the time of a session is over");
    let command = Command::Session(SessionCommand::Destroy(id));
    match office.write(command).await {
        // Another server keeps the times now, or none does.
        Ok(_) | Err(ProposeError::NoLeader(_) | ProposeError::Stopped) => None,
        Err(error) => {
            warn!(session = %id, %error, "a session whose time is over could not be ended");
            Some(id)
        }
    }
}
