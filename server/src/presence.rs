//! Who has a stream to this server, told to the leader: at once when that changes, and often
//! enough to be believed.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand_core::RngCore;
use tokio::sync::Notify;
use tracing::debug;
use weft_core::lease::{Attendance, Heard, LeaseTimes};
use weft_core::name::NodeName;
use weft_runtime::entropy;
use weft_runtime::task::TaskTree;

use crate::raft::Consensus;

/// After a change, so that those that come together are told together.
const GATHER: Duration = Duration::from_millis(20);

/// Who has a stream to this server. Clones share it.
#[derive(Clone)]
pub(crate) struct Presences(Arc<Inner>);

struct Inner {
    attendance: Mutex<Attendance>,
    news: Notify,
}

impl Presences {
    pub(crate) fn new() -> Self {
        let attendance = Mutex::new(Attendance::new(entropy::rng().next_u64()));
        Self(Arc::new(Inner { attendance, news: Notify::new() }))
    }

    /// Notes a stream of a host, until what is returned is dropped.
    pub(crate) fn enter(&self, node: NodeName) -> Present {
        if self.0.attendance.lock().handle_open(&node) {
            self.0.news.notify_one();
        }
        Present { presences: self.clone(), node }
    }

    /// Returns how many hosts have a stream to this server.
    pub(crate) fn len(&self) -> usize {
        self.0.attendance.lock().len()
    }
}

/// A stream of a host.
pub(crate) struct Present {
    presences: Presences,
    node: NodeName,
}

impl Drop for Present {
    fn drop(&mut self) {
        let Inner { attendance, news } = &*self.presences.0;
        if attendance.lock().handle_close(&self.node) {
            news.notify_one();
        }
    }
}

/// Starts telling the leader.
pub(crate) fn start(
    presences: Presences,
    consensus: Consensus,
    times: LeaseTimes,
    tasks: &TaskTree,
) {
    let token = tasks.token();
    tasks.spawn("presence", async move {
        tokio::select! {
            () = run(presences, consensus, times) => {}
            // Who is not told of the end of streams finds this server silent.
            () = token.cancelled() => {}
        }
    });
}

async fn run(presences: Presences, consensus: Consensus, times: LeaseTimes) {
    let Inner { attendance, news } = &*presences.0;
    loop {
        let report = attendance.lock().report();
        let told = tokio::time::timeout(times.silence(), consensus.attend(report)).await;
        match told {
            Ok(Ok(heard)) => {
                attendance.lock().handle_heard(heard);
                if heard == Heard::Unknown {
                    continue;
                }
            }
            Ok(Err(error)) => {
                debug!(%error, "no leader took the list of hosts");
                attendance.lock().handle_unheard();
            }
            Err(_) => attendance.lock().handle_unheard(),
        }
        tokio::select! {
            // What has come is in the list, whoever is woken by it.
            () = news.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(times.report()) => {}
        }
    }
}
