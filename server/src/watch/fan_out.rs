//! What a write sets off, done behind it: values are looked at anew, and whoever waits for them
//! is told.

use std::sync::Arc;
use std::time::Duration;

use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::hub::{Hub, Told};
use super::view::Views;

/// How often values that nobody watches are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Tells followers in the order in which they were touched, until the tasks are cancelled.
pub(crate) async fn run(hub: Arc<Hub>, views: Views, tasks: TaskTree) {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            follower = hub.next_stirred() => match &follower.told {
                Told::View(view) => {
                    if let Some(view) = view.upgrade() {
                        views.bring_up(&view).await;
                    }
                }
                // Marked as it was touched.
                Told::Marks(..) => {}
                Told::Waiters(waiters) => waiters.notify_waiters(),
            },
            _ = sweep.tick() => views.sweep(clock::instant()),
            () = tasks.cancelled() => return,
        }
    }
}
