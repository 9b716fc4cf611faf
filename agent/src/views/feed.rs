//! One watched value, with its type hidden from the stream that fills it.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;
use weft_core::index::Index;
use weft_proto::envelope::{self, InvalidEnvelope};
use weft_proto::grpc::v1::WatchDelta;
use weft_runtime::digest::Digest;

use super::Slot;
use super::record::{DeltaFault, Record};

/// What the stream does with a watched value.
pub(super) trait Feed: Send + Sync {
    /// Takes a value as it came. An older one than what is there is taken only from a cluster
    /// that has lost its newest writes.
    fn take_value(&self, index: Index, bytes: &[u8], age: Age) -> Taken;
    /// Takes what is different from the last value.
    fn take_delta(&self, index: Index, delta: &WatchDelta) -> Taken;
    /// Takes note that the last value is still the value.
    fn take_unchanged(&self, index: Index) -> Taken;
    /// Takes the reason why there is no value now; the last one stays.
    fn take_problem(&self, index: Index, problem: &str) -> Taken;
    /// Takes note that nothing is confirmed any more.
    fn disconnect(&self);
    /// Returns the last value as it came, and its index; `None` until the first one came.
    fn last_value(&self) -> Option<(Index, Bytes)>;
    /// Returns the last value's index and digest; `None` until the first one came.
    fn known(&self) -> Option<(Index, Digest)>;
    /// Whether anybody looks.
    fn has_readers(&self) -> bool;
    /// Gives the cell back as what it is.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Which values are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Any: what servers have now is what there is.
    Any,
    /// Those that are not older than the last one.
    Newer,
}

/// What became of what a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is older than what is there, which stays.
    Older,
    /// It does not belong to what is there: the value has to be asked for.
    Misfit,
    /// It is what there is.
    Yes,
}

pub(super) struct Cell<T> {
    slot: watch::Sender<Slot<T>>,
    /// The index that the server has in mind when it tells a difference; `None` when the value
    /// that it speaks of is not the one that is here.
    base: Mutex<Option<Index>>,
}

impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self::of(Slot::default())
    }

    fn of(slot: Slot<T>) -> Self {
        Self { slot: watch::Sender::new(slot), base: Mutex::new(None) }
    }

    /// Makes a cell with the last value of an earlier run, which no server has confirmed.
    ///
    /// # Errors
    /// [`InvalidEnvelope`] when it is none.
    pub(super) fn kept(index: Index, bytes: &[u8]) -> Result<Self, InvalidEnvelope>
    where
        T: Record,
    {
        let value = Some(Arc::new(envelope::decode::<T>(bytes)?));
        let cell = Self::of(Slot { value, index, ..Slot::default() });
        *cell.base.lock() = Some(index);
        Ok(cell)
    }

    /// Makes a cell that never gets a value.
    pub(super) fn refused(problem: &str) -> Self {
        Self::of(Slot { problem: Some(problem.into()), ..Slot::default() })
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Slot<T>> {
        self.slot.subscribe()
    }

    fn complain(&self, index: Index, problem: &str) {
        self.slot.send_modify(|slot| {
            slot.index = slot.index.max(index);
            slot.problem = Some(problem.into());
            slot.is_live = true;
        });
    }
}

impl<T: Record> Feed for Cell<T> {
    fn take_value(&self, index: Index, bytes: &[u8], age: Age) -> Taken {
        if age == Age::Newer && index < self.slot.borrow().index {
            return Taken::Older;
        }
        match envelope::decode::<T>(bytes) {
            Ok(value) => {
                *self.base.lock() = Some(index);
                let value = Some(Arc::new(value));
                self.slot.send_replace(Slot { value, index, problem: None, is_live: true });
            }
            Err(invalid) => {
                // The server goes on from a value that is not here.
                *self.base.lock() = None;
                error!(
                    error = &invalid as &dyn std::error::Error,
                    "a server sent an unreadable value"
                );
                self.complain(index, &format!("a server sent an unreadable value: {invalid}"));
            }
        }
        Taken::Yes
    }

    fn take_delta(&self, index: Index, delta: &WatchDelta) -> Taken {
        let from = Index(delta.from_index);
        let before = self.slot.borrow().value.clone();
        let Some(before) = before.filter(|_| *self.base.lock() == Some(from)) else {
            return Taken::Misfit;
        };
        match before.brought_up(&delta.changed, &delta.removed) {
            Ok(value) => {
                *self.base.lock() = Some(index);
                let value = Some(Arc::new(value));
                self.slot.send_replace(Slot { value, index, problem: None, is_live: true });
                Taken::Yes
            }
            Err(fault) => {
                *self.base.lock() = None;
                let fault: DeltaFault = fault;
                error!(
                    error = &fault as &dyn std::error::Error,
                    "a server sent a difference that does not fit"
                );
                Taken::Misfit
            }
        }
    }

    fn take_unchanged(&self, index: Index) -> Taken {
        let mut base = self.base.lock();
        if base.is_none() {
            return Taken::Misfit;
        }
        *base = Some(index);
        drop(base);
        self.slot.send_if_modified(|slot| {
            let is_news = !slot.is_live || slot.problem.is_some();
            (slot.is_live, slot.problem) = (true, None);
            is_news
        });
        Taken::Yes
    }

    fn take_problem(&self, index: Index, problem: &str) -> Taken {
        self.complain(index, problem);
        Taken::Yes
    }

    fn disconnect(&self) {
        self.slot.send_if_modified(|slot| std::mem::take(&mut slot.is_live));
    }

    fn last_value(&self) -> Option<(Index, Bytes)> {
        let Slot { value, index, .. } = self.slot.borrow().clone();
        value.map(|value| (index, envelope::encode(&*value)))
    }

    fn known(&self) -> Option<(Index, Digest)> {
        let Slot { value, index, .. } = self.slot.borrow().clone();
        let value = value?;
        let mut base = self.base.lock();
        // What the server goes on from is what it is told here.
        *base = base.map(|_| index);
        base.map(|index| (index, value.digest()))
    }

    fn has_readers(&self) -> bool {
        self.slot.receiver_count() > 0
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
