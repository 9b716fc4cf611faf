//! A list that servers have, kept up to date by blocking queries.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};
use weft_runtime::backoff::Backoff;
use weft_runtime::entropy;
use weft_runtime::task::TaskTree;

use crate::checks::alias::{Ask, WAIT_S, in_time};

/// The pause between two answers: what changes often is read once a second, not at each change.
const PAUSE: Duration = Duration::from_secs(1);
/// The pauses after failures.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The list as it was last told; `None` until it was.
pub(super) type Followed<T> = watch::Receiver<Option<Arc<Vec<T>>>>;

/// Follows the list at a path that has a query already, until the tasks are cancelled.
pub(super) fn follow<T>(
    (path, ask): (String, Ask),
    name: &'static str,
    tasks: &TaskTree,
) -> Followed<T>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let (tell, told) = watch::channel(None);
    let cancelled = tasks.token();
    tasks.spawn(name, async move {
        let _ = cancelled.run_until_cancelled(run(&path, &ask, &tell)).await;
    });
    told
}

async fn run<T: DeserializeOwned>(
    path: &str,
    ask: &Ask,
    tell: &watch::Sender<Option<Arc<Vec<T>>>>,
) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX, entropy::rng());
    let (mut index, mut has_failed) = (0, false);
    loop {
        match look(path, ask, index).await {
            Ok((newest, list)) => {
                if has_failed {
                    info!(path, "what external checks are run by can be read again");
                }
                has_failed = false;
                pauses.reset();
                if newest != index {
                    tell.send_replace(Some(Arc::new(list)));
                }
                // An index that went down is of another state; all is new then.
                index = if newest < index { 0 } else { newest };
                tokio::time::sleep(PAUSE).await;
            }
            Err(reason) => {
                // What was known stands; told once, attempts go on.
                if !has_failed {
                    warn!(path, %reason, "what external checks are run by cannot be read");
                }
                has_failed = true;
                tokio::time::sleep(pauses.next()).await;
            }
        }
    }
}

async fn look<T: DeserializeOwned>(
    path: &str,
    ask: &Ask,
    index: u64,
) -> Result<(u64, Vec<T>), String> {
    let (index, body) = in_time(ask(format!("{path}&index={index}&wait={WAIT_S}s"))).await?;
    let list: Option<Vec<T>> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok((index, list.unwrap_or_default()))
}
