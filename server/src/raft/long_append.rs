//! Appends that are too large for the time that openraft gives one: seen through over several of
//! its attempts.
//!
//! openraft drops an append after one heartbeat interval and sends the same entries again. On a
//! link that needs longer for them, none would ever arrive whole. So the request is kept under way,
//! and an attempt at the same entries takes up where the last one left off.

use std::time::Duration;

use futures::future::BoxFuture;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use parking_lot::Mutex;

use super::network::Failure;
use super::types::{LogId, NodeId, TypeConfig, Vote};

/// Appends of more bytes are kept under way; smaller ones arrive in time on any link that servers
/// can be run over.
pub(super) const LONG_APPEND_BYTES: usize = 256 << 10;
/// How long one may take: 8 MiB over 10 Mbit/s.
pub(super) const LONG_APPEND_LIMIT: Duration = Duration::from_secs(10);

type Answer = Result<AppendEntriesResponse<NodeId>, Failure>;

/// The long append to one server, if one is under way.
///
/// The lock is never taken: it makes the future shareable, as openraft wants its networks.
#[derive(Default)]
pub(super) struct LongAppend(Mutex<Option<UnderWay>>);

struct UnderWay {
    vote: Vote,
    after: Option<LogId>,
    last: Option<LogId>,
    answer: BoxFuture<'static, Answer>,
}

impl LongAppend {
    /// Waits for the answer to an append under way if that has the first or all of these entries.
    ///
    /// # Cancel safety
    /// The append stays under way when this is dropped.
    pub(super) async fn resume(
        &mut self,
        rpc: &AppendEntriesRequest<TypeConfig>,
    ) -> Option<Answer> {
        // A sign of life has none, and says nothing of those under way.
        let last = Some(rpc.entries.last()?.log_id);
        let slot = self.0.get_mut();
        let is_same = slot.as_ref().is_some_and(|under_way| {
            (under_way.vote, under_way.after) == (rpc.vote, rpc.prev_log_id)
                && under_way.last <= last
        });
        if !is_same {
            // What it was for is over: entries of another term, or others of this one.
            *slot = None;
            return None;
        }
        let under_way = slot.as_mut()?;
        let answer = (&mut under_way.answer).await;
        let arrived = under_way.last;
        *slot = None;
        Some(match answer {
            // More entries have come since it was sent.
            Ok(AppendEntriesResponse::Success) if arrived < last => {
                Ok(AppendEntriesResponse::PartialSuccess(arrived))
            }
            answer => answer,
        })
    }

    /// Sends an append and waits for its answer.
    ///
    /// # Cancel safety
    /// As [`Self::resume`].
    pub(super) async fn send(
        &mut self,
        rpc: &AppendEntriesRequest<TypeConfig>,
        answer: BoxFuture<'static, Answer>,
    ) -> Answer {
        let slot = self.0.get_mut();
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let under_way =
            slot.insert(UnderWay { vote: rpc.vote, after: rpc.prev_log_id, last, answer });
        let answer = (&mut under_way.answer).await;
        *slot = None;
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;
    use crate::raft::types::Entry;

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    fn append(after: u64, last: u64) -> AppendEntriesRequest<TypeConfig> {
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(after)),
            entries: (after + 1..=last).map(entry).collect(),
            leader_commit: None,
        }
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_next_attempt_takes_up_where_the_last_was_dropped() {
        let mut long = LongAppend::default();
        let (answer, arrives) = tokio::sync::oneshot::channel::<()>();
        let under_way = Box::pin(async move {
            arrives.await.expect("it arrives");
            Ok(AppendEntriesResponse::Success)
        });
        assert!(poll(long.send(&append(4, 6), under_way)).is_pending());
        assert!(poll(long.resume(&append(4, 6))).is_pending());
        answer.send(()).expect("it is under way");
        // Two more entries have come meanwhile.
        let Poll::Ready(Some(Ok(answer))) = poll(long.resume(&append(4, 8))) else {
            panic!("it was not taken up")
        };
        assert!(
            matches!(answer, AppendEntriesResponse::PartialSuccess(Some(last)) if last == id(6))
        );
        assert!(matches!(poll(long.resume(&append(4, 8))), Poll::Ready(None)), "it is over");
    }

    #[test]
    fn an_append_of_other_entries_is_given_up() {
        let mut long = LongAppend::default();
        let never = || Box::pin(std::future::pending::<Answer>());
        assert!(poll(long.send(&append(4, 6), never())).is_pending());
        assert!(matches!(poll(long.resume(&append(4, 4))), Poll::Ready(None)), "a sign of life");
        assert!(poll(long.resume(&append(4, 6))).is_pending(), "it is still under way");
        for other in [append(6, 8), append(4, 5)] {
            assert!(matches!(poll(long.resume(&other)), Poll::Ready(None)));
        }
        assert!(poll(long.send(&append(4, 6), never())).is_pending());
        let later = AppendEntriesRequest { vote: Vote::new_committed(2, 1), ..append(4, 6) };
        assert!(matches!(poll(long.resume(&later)), Poll::Ready(None)));
        let sent = poll(long.send(&later, Box::pin(ready(Ok(AppendEntriesResponse::Success)))));
        assert!(matches!(sent, Poll::Ready(Ok(AppendEntriesResponse::Success))));
    }
}
