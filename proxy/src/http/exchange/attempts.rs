//! Attempts at one request, until one has an answer that is passed on or there are no more.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use weft_core::traffic::AttemptEnd;
use weft_runtime::clock;

use super::super::h1::Emission;
use super::super::kept::answered;
use super::super::pump::Pump;
use super::super::refusal::Refusal;
use super::super::session::{Hop, Reuse, Session};
use super::super::watch::{Lateness, Patience};
use super::unanswered::{Unanswered, has_left};
use super::upload::Upload;
use crate::transport::{Buffer, Lease, Wire};

/// Endpoints tried for one request when none of those before has passed it on.
const ATTEMPTS_MAX: u32 = 3;

/// States why there is no answer to pass on.
pub(super) enum Failed {
    /// There is no connection.
    Unconnected(Box<Refusal>),
    Unanswered(Unanswered),
}

/// A connection with the head of an answer of this length.
type Answering<W> = (Lease<W>, Buffer, usize);

impl<C: Wire, H: Hop> Session<C, H> {
    /// Sends the request that came at `started`, and again as long as that is safe or its route says so;
    /// it is a HEAD or not, and may be repeated or not.
    pub(super) async fn attempts(
        &mut self,
        plan: &mut H::Plan,
        upload: &mut Upload,
        (started, (to_head, is_idempotent)): (Instant, (bool, bool)),
    ) -> Result<Answering<H::Wire>, Failed> {
        let (mut is_whole, is_replayable) = (upload.is_done, is_idempotent && upload.is_done);
        let limit = self.hop.answer_limit(plan);
        let mut answer_by = limit.map(|limit| started + limit);
        let (mut reuse, mut attempts) = (Reuse::Allowed, 0);
        let each = self.hop.attempt_limit(plan);
        let answer = [limit, each].into_iter().flatten().min();
        let stall = self.live.limits().stall;
        let patience = Patience { answer, stall, idle: H::idle_limit(plan) };
        loop {
            attempts += 1;
            let each_by = each.map(|limit| clock::instant() + limit);
            let by = [answer_by, each_by].into_iter().flatten().min();
            // Whatever an attempt before this one could not write, this one writes.
            upload.has_failed = false;
            let mut lease = match self.connected(plan, reuse, by).await {
                Ok(lease) => lease,
                Err(refusal) => {
                    let end = end_of_refusal(&refusal, each);
                    let refusal = Box::new(refusal);
                    let Some(pause) = self.judged(plan, end, (upload, answer_by)) else {
                        return Err(Failed::Unconnected(refusal));
                    };
                    drop(refusal);
                    Box::pin(self.pause(pause)).await;
                    reuse = Reuse::Allowed;
                    continue;
                }
            };
            let mut buffer = Buffer::default();
            // Time for others begins when all of them has been sent.
            let within = (patience, by.filter(|_| is_whole));
            let asked = self.ask(&mut lease, &mut buffer, upload, within, to_head).await;
            let is_stale = is_replayable && lease.is_reused && reuse == Reuse::Allowed;
            let left = ATTEMPTS_MAX - attempts.min(ATTEMPTS_MAX);
            let safe = self.elsewhere(plan, &asked, (is_whole, is_replayable, is_stale), left);
            if let Some(safe) = safe {
                if let Ok(length) = &asked {
                    self.hop.turned_away(plan, (&self.response, &buffer.filled()[..*length]));
                }
                reuse = safe;
                continue;
            }
            if !is_whole && upload.is_done && upload.pump.kept.is_some() {
                is_whole = true;
                answer_by = limit.map(|limit| clock::instant() + limit);
            }
            let end = match &asked {
                // Else the body stands still.
                Err(Unanswered::Late(Lateness::Answer)) if upload.is_done => {
                    each.and(Some(AttemptEnd::Late))
                }
                asked => self.end_of(asked, &buffer),
            };
            let Some(pause) = self.judged(plan, end, (upload, answer_by)) else {
                let answering = asked.map(|length| (lease, buffer, length));
                return answering.map_err(Failed::Unanswered);
            };
            self.put_aside((lease, buffer), &asked, upload);
            Box::pin(self.pause(pause)).await;
            reuse = Reuse::Allowed;
        }
    }

    /// Says how another attempt is safe whatever the route says: nobody has looked at the request. It is whole, may be
    /// repeated, and went over a connection that may have been closed before; so many attempts are left.
    fn elsewhere(
        &self,
        plan: &H::Plan,
        asked: &Result<usize, Unanswered>,
        (is_whole, is_replayable, is_stale): (bool, bool, bool),
        left: u32,
    ) -> Option<Reuse> {
        match asked {
            Ok(_) if self.response.is_unreached && is_replayable && left > 0 => {
                self.hop.has_alternative(plan).then_some(Reuse::Allowed)
            }
            // The peer closed it while it waited; the request was never looked at.
            Err(Unanswered::Upstream { silent: true, .. }) if is_stale => Some(Reuse::Fresh),
            Err(unseen) if is_whole && left > 0 && unseen.is_refused() => {
                let has_alternative = self.hop.has_alternative(plan);
                Some(if has_alternative { Reuse::Allowed } else { Reuse::Fresh })
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// Says how an attempt ended; `None` where there can be no further one.
    fn end_of(&self, asked: &Result<usize, Unanswered>, buffer: &Buffer) -> Option<AttemptEnd> {
        let head = match asked {
            Ok(length) => &buffer.filled()[..*length],
            Err(unanswered) => return unanswered.end(),
        };
        let response = &self.response;
        let each = |name: &str, visit: &mut dyn FnMut(&[u8])| {
            response.each_header(head, name, visit);
        };
        Some(AttemptEnd::Answered(answered(response.status, response.is_unreached, each)))
    }

    /// Returns after what pause the next attempt begins, if the route has one; the request is then ready for
    /// it.
    fn judged(
        &mut self,
        plan: &mut H::Plan,
        end: Option<AttemptEnd>,
        (upload, by): (&mut Upload, Option<Instant>),
    ) -> Option<Duration> {
        let kept = upload.pump.kept.as_mut()?;
        let pause = self.hop.attempt_ended(plan, &end?, (kept.state(), by))?;
        let left = by.map(|by| by.saturating_duration_since(clock::instant() + pause));
        kept.rewind(&mut self.output, left);
        Some(pause)
    }

    /// Gives the connection back for the next request if the answer that nobody wants is whole.
    fn put_aside(
        &self,
        (lease, mut buffer): (Lease<H::Wire>, Buffer),
        asked: &Result<usize, Unanswered>,
        upload: &Upload,
    ) {
        let Ok(length) = asked else { return };
        buffer.consume(*length);
        let mut rest = Pump::new(self.response.framing, Emission::Verbatim);
        let is_read = rest.take_first(&mut buffer, &mut Vec::new()).is_ok() && rest.is_read();
        if is_read && self.response.is_persistent && upload.is_sent() && buffer.is_empty() {
            lease.give_back(clock::instant());
        }
    }

    /// Waits, unless the client leaves; tells whether it has.
    pub(super) async fn pause(&mut self, pause: Duration) -> bool {
        let until = clock::instant() + pause;
        let Self { client, input, timer, .. } = self;
        poll_fn(|cx| match has_left(cx, client, input) {
            true => Poll::Ready(true),
            false => timer.poll_past(cx, until).map(|()| false),
        })
        .await
    }
}

/// Says how an attempt ended that got no connection, where each may take so long.
fn end_of_refusal(refusal: &Refusal, each: Option<Duration>) -> Option<AttemptEnd> {
    match refusal.is_unreached {
        true => Some(AttemptEnd::ConnectFailed),
        // What took too long, or nothing that another attempt would change.
        false => each.and(Some(AttemptEnd::Late)).filter(|_| refusal.status == 504),
    }
}
