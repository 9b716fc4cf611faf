//! Judges which hosts are alive and writes it into the catalog. The judgement is
//! `core::lease`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, info, warn};
use weft_core::catalog::{CatalogDeregistration, CheckStatus};
use weft_core::lease::{Heard, LeaseVerdict, Leases, Presence};
use weft_core::name::NodeName;
use weft_core::state::{Answer, Command, NodeLiveness};
use weft_core::watch::Topic;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::Office;

/// Verdicts written at once, so that they share entries of the log.
const WRITTEN_AT_ONCE: usize = 64;
/// Between two lists of hosts while they change: each costs a walk over all of them.
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// The list is taken anew after this in any case.
const LIST_AGE_MAX: Duration = Duration::from_secs(30);

/// The leases, open while this server leads. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LeaseBook(Arc<Book>);

#[derive(Default)]
struct Book {
    leases: Mutex<Option<Leases>>,
    news: Notify,
}

impl LeaseBook {
    /// Takes a server's report; `None` while the book is closed.
    pub(crate) fn handle_report(&self, server: u64, presence: Presence) -> Option<Heard> {
        let has_news = !(presence.present.is_empty() && presence.gone.is_empty());
        let mut leases = self.0.leases.lock();
        let heard = leases.as_mut()?.handle_report(server, presence, clock::instant());
        drop(leases);
        if has_news {
            self.0.news.notify_one();
        }
        Some(heard)
    }

    /// Returns how many hosts have a stream somewhere and how many have none; `None` while the
    /// book is closed.
    pub(crate) fn counts(&self) -> Option<(usize, usize)> {
        self.0.leases.lock().as_ref().map(Leases::counts)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Leases) -> T) -> Option<T> {
        self.0.leases.lock().as_mut().map(work)
    }
}

/// Closes the book at the end of leadership, however the duty ends.
struct Open(LeaseBook);

impl Drop for Open {
    fn drop(&mut self) {
        *self.0.0.leases.lock() = None;
    }
}

/// Starts the duty.
pub(super) fn start(office: &Office, tasks: &TaskTree) {
    let (office, token) = (office.clone(), tasks.token());
    tasks.spawn("leases", async move {
        tokio::select! {
            () = run(&office) => {}
            // The next leader judges anew.
            () = token.cancelled() => {}
        }
    });
}

async fn run(office: &Office) {
    let book = office.consensus.leases().clone();
    *book.0.leases.lock() = Some(Leases::new(office.lease, clock::instant()));
    let _open = Open(book.clone());
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Nodes]));
    let (mut listed, mut is_listed) = (None::<Instant>, false);
    loop {
        let now = clock::instant();
        let age = listed.map_or(LIST_AGE_MAX, |listed| now.saturating_duration_since(listed));
        if !is_listed && age >= LIST_PAUSE || age >= LIST_AGE_MAX {
            let state = office.state();
            let hosts = state.leased_nodes().map(|(node, failed)| (node.clone(), failed));
            book.with(|leases| leases.handle_hosts(hosts, now));
            (listed, is_listed) = (Some(now), true);
        }
        let judged = book.with(|leases| judge(leases, now));
        let (verdicts, pause) = judged.unwrap_or_else(|| (Vec::new(), LIST_PAUSE));
        let written = futures::stream::iter(verdicts).map(|verdict| async {
            let is_written = write(office, &verdict).await;
            (verdict, is_written)
        });
        let written: Vec<_> = written.buffer_unordered(WRITTEN_AT_ONCE).collect().await;
        let now = clock::instant();
        book.with(|leases| {
            for (verdict, is_written) in &written {
                match is_written {
                    true => leases.handle_written(verdict, now),
                    false => leases.handle_not_written(verdict, now),
                }
            }
        });
        tokio::select! {
            // Marks, notes and times are levels: none is lost with the others.
            _ = mailbox.marked(), if is_listed => is_listed = false,
            () = book.0.news.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns what is to be written now, and how long nothing else will be.
fn judge(leases: &mut Leases, now: Instant) -> (Vec<LeaseVerdict>, Duration) {
    leases.handle_timeout(now);
    let verdicts = std::iter::from_fn(|| leases.poll_output()).collect();
    (verdicts, leases.poll_timeout().saturating_duration_since(now))
}

/// Writes a verdict; says whether the state is as it demands.
async fn write(office: &Office, verdict: &LeaseVerdict) -> bool {
    let command = match verdict {
        LeaseVerdict::Lost(node) => liveness(office, node, false),
        LeaseVerdict::Returned(node) => liveness(office, node, true),
        LeaseVerdict::Reap(node) => {
            let (services, checks) = (Vec::new(), Vec::new());
            let what = CatalogDeregistration { node: node.clone(), services, checks };
            Some(Command::Deregister(what))
        }
    };
    let Some(command) = command else { return true };
    match office.write(command).await {
        Ok((_, Answer::Done { .. })) => {
            match verdict {
                LeaseVerdict::Lost(node) => warn!(%node, "a host has failed: its agent is gone"),
                LeaseVerdict::Reap(node) => {
                    warn!(%node, "a host that failed long ago leaves the catalog");
                }
                LeaseVerdict::Returned(node) => info!(%node, "a host that had failed is back"),
            }
            true
        }
        // It was written in between: the next look sees how it stands.
        Ok((_, answer)) => {
            debug!(?verdict, ?answer, "a host is not as it was");
            false
        }
        Err(error) => {
            debug!(?verdict, %error, "what became of a host could not be written");
            false
        }
    }
}

/// Returns the command that says whether a host lives; `None` when that is said already, or the
/// host has no such check.
fn liveness(office: &Office, node: &NodeName, is_alive: bool) -> Option<Command> {
    let state = office.state();
    let check = state.liveness(node)?;
    let is_said = (check.status != CheckStatus::Critical) == is_alive;
    let liveness = NodeLiveness { node: node.clone(), is_alive, as_of: check.modify_index };
    (!is_said).then_some(Command::SetLiveness(liveness))
}
