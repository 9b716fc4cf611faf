//! The leader's duties for tokens: the first management token of the configuration, and the
//! removal of those whose time is over.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};
use weft_core::acl::AccessorId;
use weft_core::state::{AclCommand, Answer, Command};
use weft_core::watch::Topic;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::Office;
use crate::acl::Secret;

/// How long tokens stay after their end: what ends together goes together. They are worth nothing
/// in the meantime.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Sees to it that the secret of the configuration is that of a management token.
pub(super) async fn initial_management(office: Office, secret: Secret) {
    let Ok(accessor) = AccessorId::parse(&entropy::uuid()) else { return };
    let command =
        AclCommand::InitialManagement { accessor: accessor.clone(), secret: secret.hash() };
    match office.write(Command::Acl(command)).await {
        Ok((_, Answer::Done { changed: true })) => {
            info!(%accessor, "the configuration's management token was made");
        }
        Ok((
            _,
            Answer::Done { changed: false }
            | Answer::CasMismatch
            | Answer::Txn(_)
            | Answer::TxnFailed(_),
        )) => {}
        Ok((_, Answer::Refused(refusal))) => {
            warn!(%refusal, "the configuration's management token was refused");
        }
        // The next leader sees to it.
        Err(error) => warn!(%error, "the configuration's management token could not be made"),
    }
}

/// Removes tokens whose time is over.
pub(super) async fn reap(office: Office, tasks: TaskTree) {
    let mut mailbox = office.mailbox();
    mailbox.follow(0, BTreeSet::from([Topic::AclTokens]));
    loop {
        let now = clock::wall();
        let next = office.state().acl().next_expiry().map(|end| end.saturating_add(GRACE));
        if next.is_some_and(|due| due <= now) {
            match office.write(Command::Acl(AclCommand::ReapTokens)).await {
                Ok(_) => continue,
                Err(error) => warn!(%error, "tokens whose time is over could not be removed"),
            }
        }
        let pause = next.map_or(LOOK, |due| due.since(now).clamp(Duration::from_secs(1), LOOK));
        tokio::select! {
            // A mark that was not returned stays in the mailbox; a sleep loses nothing.
            _ = mailbox.marked(), if next.is_none() => {}
            () = tokio::time::sleep(pause) => {}
            () = tasks.cancelled() => return,
        }
    }
}
