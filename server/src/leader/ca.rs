//! The leader's duties for the CA: roots whose time is over are removed, one of ours that grows old
//! is replaced, and the token for Vault is kept alive.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};
use weft_core::ca::rotation::{is_root_due, prune_due};
use weft_core::state::{Answer, Command};
use weft_core::watch::Topic;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::Office;
use crate::ca::{ChangeRequest, WantedProvider};

/// Between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);
/// Between two looks at the age of the root, which is counted in months.
const AGE_LOOK: Duration = Duration::from_secs(3600);
/// The pauses after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Starts the duties.
pub(super) fn start(office: &Office, tasks: &TaskTree) {
    tasks.spawn("pruning of roots", prune(office.clone(), tasks.clone()));
    tasks.spawn("renewal of the root", renew(office.clone(), tasks.clone()));
    tasks.spawn("token for Vault", keep_vault(office.clone(), tasks.clone()));
}

async fn prune(office: Office, tasks: TaskTree) {
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Roots]));
    loop {
        let now = clock::wall();
        let (_, roots) = office.state().roots();
        let next = prune_due(&roots);
        if next.is_some_and(|due| due <= now) {
            match office.write(Command::PruneCaRoots).await {
                Ok((_, Answer::Done { changed: true })) => {
                    info!("roots that were replaced are trusted no more");
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "roots whose time is over could not be removed"),
            }
        }
        let pause = next.map_or(LOOK, |due| due.since(now).clamp(Duration::from_secs(1), LOOK));
        tokio::select! {
            // A mark that was not returned stays in the mailbox; a sleep loses nothing.
            _ = mailbox.marked() => {}
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
    }
}

async fn renew(office: Office, tasks: TaskTree) {
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    loop {
        let pause = match renew_once(&office).await {
            Ok(()) => {
                backoff.reset();
                AGE_LOOK.min(look_at_age(&office))
            }
            Err(error) => {
                warn!(error, "the root grows old and could not be replaced");
                backoff.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
    }
}

/// A root that lives for minutes is looked at more often.
fn look_at_age(office: &Office) -> Duration {
    let (_, roots) = office.state().roots();
    let shortest = roots.first().map(|root| root.valid_before.since(root.valid_after) / 20);
    shortest.unwrap_or(AGE_LOOK).max(Duration::from_secs(1))
}

async fn renew_once(office: &Office) -> Result<(), String> {
    let state = office.state();
    let (_, roots) = state.roots();
    let Some(active) = roots.first() else { return Ok(()) };
    if !is_root_due(active, clock::wall()) {
        return Ok(());
    }
    let (signer, leaf_lifetime) = &office.authority;
    let request = ChangeRequest {
        settings: state.ca_settings().cloned().unwrap_or_default(),
        provider: WantedProvider::BuiltIn(None),
        renew: true,
        force: false,
    };
    let change = signer.change(&state, request, state.ca_terms(*leaf_lifetime)).await;
    let change = change.map_err(|error| error.to_string())?;
    match office.write(Command::ChangeCa(change)).await {
        Ok((_, Answer::Done { .. })) => {
            info!("the root grew old and was replaced");
            Ok(())
        }
        Ok((_, Answer::Refused(refusal))) => Err(refusal.to_string()),
        // Somebody else changed it: the next look finds what there is.
        Ok((_, Answer::CasMismatch | Answer::Txn(_) | Answer::TxnFailed(_))) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn keep_vault(office: Office, tasks: TaskTree) {
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Roots]));
    let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    loop {
        let (_, roots) = office.state().roots();
        let mut pause = AGE_LOOK;
        if let Some(active) = roots.first() {
            match office.authority.0.renew_vault(active).await {
                Ok(Some(life)) => {
                    backoff.reset();
                    pause = (life / 3).clamp(Duration::from_secs(1), AGE_LOOK);
                }
                Ok(None) => backoff.reset(),
                Err(failure) => {
                    let error = &failure as &dyn std::error::Error;
                    warn!(error, "the token for Vault could not be renewed");
                    pause = backoff.next();
                }
            }
        }
        tokio::select! {
            // A mark that was not returned stays in the mailbox; a sleep loses nothing.
            _ = mailbox.marked() => {}
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
    }
}
