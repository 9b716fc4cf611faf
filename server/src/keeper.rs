//! Keeps this server's certificates fresh and its data directory's record of the roots true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use weft_core::watch::Topic;
use weft_runtime::backoff::Backoff;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use crate::ca::Signer;
use crate::membership::{Membership, MembershipTable};
use crate::watch::Hub;

/// Between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(10);

/// Starts keeping; the lifetime is that of leaves, unless the CA's settings say so.
pub(crate) fn start(
    signer: (Signer, Duration),
    membership: Membership,
    hub: Arc<Hub>,
    table: MembershipTable,
    tasks: &TaskTree,
) {
    let tree = tasks.clone();
    tasks.spawn("certificate keeper", async move {
        keep(signer, membership, hub, table, &tree).await;
    });
}

async fn keep(
    (signer, leaf_lifetime): (Signer, Duration),
    mut membership: Membership,
    hub: Arc<Hub>,
    table: MembershipTable,
    tasks: &TaskTree,
) {
    let mut mailbox = hub.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::Roots]));
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), entropy::rng());
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            // A mark that was not returned stays in the mailbox; a sleep loses nothing.
            _ = mailbox.marked() => {}
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
        pause = LOOK;
        let state = hub.state();
        let Some(bundle) = state.trust_bundle() else { continue };
        let (_, roots) = state.roots();
        let Some(root) = roots.first().cloned() else { continue };
        // Also who signs under a root may change.
        let is_other = bundle.roots_pem != membership.roots_pem
            || bundle.revoked != membership.revoked
            || *root != membership.root;
        let terms = state.ca_terms(leaf_lifetime);
        if !is_other && !signer.is_due(&root, terms, clock::wall()) {
            continue;
        }
        if let Err(failure) = signer.refresh(root.clone(), bundle.clone(), terms).await {
            let error = &failure as &dyn std::error::Error;
            warn!(error, "this server's certificates could not be renewed");
            pause = backoff.next();
            continue;
        }
        backoff.reset();
        info!(id = %signer.id(), "certificates renewed");
        if is_other {
            membership.root = (*root).clone();
            membership.roots_pem = bundle.roots_pem;
            membership.revoked = bundle.revoked;
            let (table, record) = (table.clone(), membership.clone());
            match tasks.blocking(move || table.write(&record)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "the roots could not be kept"),
                Err(failure) => warn!(%failure, "the roots could not be kept"),
            }
        }
    }
}
