//! What one request may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weft_core::acl::{AccessorId, Authorizer, Denial, Permission};
use weft_runtime::telemetry::metrics::Counter;

/// What one request may do, judged on one state. Clones share it.
///
/// A page that names one thing asks [`Rights::require`]; one that lists things shows those that
/// [`Rights::see`] lets through.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    authorizer: Arc<Authorizer>,
    /// `None` where there are no ACLs.
    accessor: Option<AccessorId>,
    list_needs_right: bool,
    /// Whether something was left out of an answer.
    filtered: Arc<AtomicBool>,
    /// What was asked for and missing, all together.
    denials: Counter,
}

impl Rights {
    pub(super) fn new(
        authorizer: Arc<Authorizer>,
        accessor: Option<AccessorId>,
        list_needs_right: bool,
    ) -> Self {
        Self {
            authorizer,
            accessor,
            list_needs_right,
            filtered: Arc::default(),
            denials: Counter::default(),
        }
    }

    /// Has denials counted.
    pub(super) fn counting(self, denials: Counter) -> Self {
        Self { denials, ..self }
    }

    /// Whether it may.
    pub(crate) fn may(&self, asked: Permission<'_>) -> bool {
        self.authorizer.allows(asked)
    }

    /// Asks for a right.
    ///
    /// # Errors
    /// [`Denial`] that names the token, the resource and the right that is missing.
    pub(crate) fn require(&self, asked: Permission<'_>) -> Result<(), Denial> {
        if self.may(asked) {
            return Ok(());
        }
        self.denials.inc();
        Err(asked.denied_to(self.accessor.as_ref()))
    }

    /// Asks for the right to list keys below a prefix, where the cluster has that right; there is
    /// always a right to see of a list what may be read.
    ///
    /// # Errors
    /// As [`Rights::require`].
    pub(crate) fn require_list_keys(&self, prefix: &str) -> Result<(), Denial> {
        if self.list_needs_right { self.require(Permission::list_keys(prefix)) } else { Ok(()) }
    }

    /// Whether an item of a list is shown; notes when it is not.
    pub(crate) fn see(&self, asked: Permission<'_>) -> bool {
        let seen = self.may(asked);
        if !seen {
            self.filtered.store(true, Ordering::Relaxed);
        }
        seen
    }

    /// Whether something was left out, and the caller may know it: who shows no token is not told
    /// that there is more.
    ///
    /// **Source**: Consul: api-docs/api-structure#results-filtered-by-acls.
    pub(crate) fn tells_of_filtering(&self) -> bool {
        let is_somebody =
            self.accessor.as_ref().is_some_and(|accessor| *accessor != AccessorId::anonymous());
        is_somebody && self.filtered.load(Ordering::Relaxed)
    }

    /// Returns the token's accessor; `None` where there are no ACLs.
    pub(crate) fn accessor(&self) -> Option<&AccessorId> {
        self.accessor.as_ref()
    }
}
