//! Shutdown in two phases: stop accepting and let what is in flight finish, then force.
//!
//! Why to shut down is the caller's affair (`signal`).

use std::future::Future;
use std::time::Duration;

use crate::task::{TaskTree, Unfinished};

/// The time that tasks get to notice that they were aborted.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Every task ended by itself.
    Clean,
    /// Some tasks were cut off, after the grace or because the caller would not wait.
    Forced(Unfinished),
}

/// Cancels the tree, waits up to `grace` for its tasks, then aborts what is left.
///
/// Cancellation means to a listener "accept no more" and to a connection "finish and close".
/// `hurry` ends the grace early, e.g. a second signal.
pub async fn drain(tasks: &TaskTree, grace: Duration, hurry: impl Future<Output = ()>) -> Drained {
    tasks.cancel();
    let in_time = tokio::select! {
        // Both are cancel-safe: `join` only looks, and a dropped `hurry` is no longer of use.
        joined = tasks.join(grace) => joined,
        () = hurry => tasks.join(Duration::ZERO).await,
    };
    match in_time {
        Ok(()) => Drained::Clean,
        Err(unfinished) => {
            tasks.abort();
            // What outlives even this is blocking work, which ends with the process.
            let _ = tasks.join(ABORT_GRACE).await;
            Drained::Forced(unfinished)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_in_flight_is_given_the_grace() {
        let tasks = TaskTree::root("test");
        let token = tasks.token();
        tasks.spawn("polite", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        let end = drain(&tasks, Duration::from_secs(5), std::future::pending()).await;
        assert_eq!(end, Drained::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_grace_or_on_demand_the_rest_is_cut_off() {
        for hurry in [true, false] {
            let tasks = TaskTree::root("test");
            tasks.spawn("deaf", std::future::pending());
            let at_once = async move {
                if !hurry {
                    std::future::pending::<()>().await;
                }
            };
            let end = drain(&tasks, Duration::from_secs(5), at_once).await;
            assert!(matches!(end, Drained::Forced(unfinished) if unfinished.count == 1));
            assert_eq!(tasks.live(), 0);
        }
    }
}
