//! Removing tokens whose time is over. They are worth nothing from that moment on, whether they
//! have been removed or not.

use std::collections::BTreeSet;

use crate::acl::AccessorId;
use crate::index::Index;
use crate::limits;
use crate::state::{Change, State};
use crate::time::Timestamp;

impl State {
    pub(super) fn reap_tokens(
        &mut self,
        index: Index,
        now: Timestamp,
        changes: &mut BTreeSet<Change>,
    ) {
        let over: Vec<AccessorId> = self
            .acl
            .expiring
            .iter()
            .take_while(|(end, _)| *end <= now)
            .take(limits::ACL_TOKENS_PER_REAP_MAX)
            .map(|(_, accessor)| accessor.clone())
            .collect();
        for accessor in over {
            self.drop_token(index, &accessor, changes);
        }
    }
}
