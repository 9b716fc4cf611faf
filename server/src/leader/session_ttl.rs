//! Ends sessions whose time is over. What their times are, `core::session` knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
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
/// Renewals that wait for an answer; those beyond are told to come again.
const WAITING_MAX: usize = 65_536;

/// Renewals on their way to the one who keeps the times. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Renewals(Arc<Asked>);

#[derive(Default)]
struct Asked {
    waiting: Mutex<Vec<Renewal>>,
    notify: Notify,
}

struct Renewal {
    session: SessionId,
    /// Told whether the session goes on.
    answer: oneshot::Sender<bool>,
}

impl Renewals {
    /// Asks for the whole time of a session again. Returns whether it goes on; `None` when
    /// nobody keeps the times any more, or too many ask.
    pub(crate) async fn ask(&self, session: SessionId) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.0.waiting.lock();
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            waiting.push(Renewal { session, answer });
        }
        self.0.notify.notify_one();
        answered.await.ok()
    }

    fn take(&self) -> Vec<Renewal> {
        std::mem::take(&mut *self.0.waiting.lock())
    }
}

/// Has those who wait ask again, wherever the times are kept now.
struct Closing<'a>(&'a Renewals);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Keeps the times for as long as this server leads.
pub(super) fn start(office: &Office, tasks: &TaskTree) {
    let (office, token) = (office.clone(), tasks.token());
    tasks.spawn("session times", async move {
        tokio::select! {
            () = run(&office) => {}
            // The next leader gives every session its whole time.
            () = token.cancelled() => {}
        }
    });
}

async fn run(office: &Office) {
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Sessions]));
    let mut timers = SessionTimers::default();
    let (mut known, mut restored_at) = (Index(0), office.state().restored_at());
    let renewals = office.renewals();
    let _closing = Closing(renewals);
    let mut over = Vec::new();
    let mut ending = FuturesUnordered::new();
    loop {
        // Taken before the state, which so has every session that they can be about.
        let asked = renewals.take();
        let (state, now) = (office.state(), clock::instant());
        if state.restored_at() != restored_at {
            // What a snapshot brings back may be older than what is known, and was not renewed
            // while it was away: all times begin anew, as with a new leader.
            (known, restored_at) = (Index(0), state.restored_at());
            timers.handle_restored();
        }
        for session in state.sessions().with_ttl_since(known) {
            known = known.max(session.create_index);
            if let Some(ttl) = session.ttl {
                timers.handle_session(session.id, ttl.0, now);
            }
        }
        for Renewal { session, answer } in asked {
            let is_there = state.sessions().get(session).is_some();
            // Who went away does not undo it.
            let _ = answer.send(is_there && timers.handle_renewal(session, now));
        }
        timers.handle_timeout(now);
        while let Some(id) = timers.poll_output() {
            match state.sessions().get(id) {
                Some(_) => over.push(id),
                None => timers.handle_ended(id),
            }
        }
        let room = ENDED_AT_ONCE.saturating_sub(ending.len()).min(over.len());
        ending.extend(over.drain(..room).map(|id| end(office, id)));
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
            Some((id, is_ended)) = ending.next() => match is_ended {
                true => timers.handle_ended(id),
                false => timers.handle_not_ended(id, clock::instant()),
            }
        }
    }
}

/// Ends a session; says whether that is done with.
async fn end(office: &Office, id: SessionId) -> (SessionId, bool) {
    debug!(session = %id, "the time of a session is over");
    let command = Command::Session(SessionCommand::Destroy(id));
    match office.write(command).await {
        Ok(_) => (id, true),
        Err(error) => {
            // Where another server keeps the times now, this one is about to learn it.
            if !matches!(error, ProposeError::NoLeader(_) | ProposeError::Stopped) {
                warn!(session = %id, %error, "a session whose time is over could not be ended");
            }
            (id, false)
        }
    }
}
