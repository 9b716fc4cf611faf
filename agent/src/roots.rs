//! Takes up the roots that servers announce, so that the agent itself trusts what its proxies
//! trust.

use tracing::{error, info};
use weft_runtime::task::TaskTree;

use crate::servers::{Servers, reason};
use crate::views::Views;

/// Follows the roots until the tasks are cancelled.
pub(crate) async fn follow(servers: Servers, views: Views, tasks: TaskTree) {
    let mut view = views.roots();
    let mut newest = view.current();
    loop {
        if let Some(trust) = newest.value.as_deref()
            && *trust != servers.trust()
        {
            match servers.set_trust(trust.clone(), &tasks).await {
                Ok(()) => info!(active = %trust.active_root, "new roots are trusted"),
                Err(error) => {
                    let reason = reason(&error);
                    error!(%reason, "new roots cannot be taken up, those before stay in use");
                }
            }
        }
        newest = tokio::select! {
            () = tasks.cancelled() => return,
            // Cancel-safe by its word.
            newest = view.changed() => newest,
        };
    }
}
