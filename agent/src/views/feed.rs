//! One watched value, with its type hidden from the stream that fills it.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tracing::error;
use weft_core::index::Index;
use weft_proto::envelope::{self, InvalidEnvelope};

use super::{Record, Slot};

/// What the stream does with a watched value.
pub(super) trait Feed: Send + Sync {
    /// Takes a value as it came.
    fn take_value(&self, index: Index, bytes: &[u8]);
    /// Takes the reason why there is no value now; the last one stays.
    fn take_problem(&self, index: Index, problem: &str);
    /// Takes note that nothing is confirmed any more.
    fn disconnect(&self);
    /// Returns the last value as it came, and its index; `None` until the first one came.
    fn last_value(&self) -> Option<(Index, Bytes)>;
    /// Whether anybody looks.
    fn has_readers(&self) -> bool;
    /// Gives the cell back as what it is.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

pub(super) struct Cell<T> {
    slot: watch::Sender<Slot<T>>,
}

impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self { slot: watch::Sender::new(Slot::default()) }
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
        Ok(Self { slot: watch::Sender::new(Slot { value, index, ..Slot::default() }) })
    }

    /// Makes a cell that never gets a value.
    pub(super) fn refused(problem: &str) -> Self {
        let slot = Slot { problem: Some(problem.into()), ..Slot::default() };
        Self { slot: watch::Sender::new(slot) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Slot<T>> {
        self.slot.subscribe()
    }
}

impl<T: Record> Feed for Cell<T> {
    fn take_value(&self, index: Index, bytes: &[u8]) {
        match envelope::decode::<T>(bytes) {
            Ok(value) => {
                let value = Some(Arc::new(value));
                self.slot.send_replace(Slot { value, index, problem: None, is_live: true });
            }
            Err(invalid) => {
                error!(
                    error = &invalid as &dyn std::error::Error,
                    "a server sent an unreadable value"
                );
                self.take_problem(index, &format!("a server sent an unreadable value: {invalid}"));
            }
        }
    }

    fn take_problem(&self, index: Index, problem: &str) {
        self.slot.send_modify(|slot| {
            slot.index = index;
            slot.problem = Some(problem.into());
            slot.is_live = true;
        });
    }

    fn disconnect(&self) {
        self.slot.send_if_modified(|slot| std::mem::take(&mut slot.is_live));
    }

    fn last_value(&self) -> Option<(Index, Bytes)> {
        let Slot { value, index, .. } = self.slot.borrow().clone();
        value.map(|value| (index, envelope::encode(&*value)))
    }

    fn has_readers(&self) -> bool {
        self.slot.receiver_count() > 0
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
