//! The called side: request after request on one stream, each judged and answered as one that came
//! over HTTP/2.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tracing::debug;
use weft_core::traffic::mux::ResetCode;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::super::general::{AnswerBody, Context, Incoming, StreamHop, answer_one};
use super::body::{BrokenMessage, MessageBody};
use super::channel::{Channel, Read};
use super::head;
use super::upload::Upload;
use crate::http::chain;
use crate::listen::Live;
use crate::transport::{HopWire, Timer};

/// Serves a stream to its end.
pub(crate) async fn serve<H: StreamHop>(wire: HopWire, hop: H, live: &Live, tasks: &TaskTree) {
    let context = Context::new(live.limits(), tasks);
    let channel = Rc::new(Channel::called(wire));
    // The body of a request may be in other hands when this ends.
    let mut closing = Closing { channel: channel.clone(), why: ResetCode::Broken };
    let hop = Rc::new(RefCell::new(hop));
    let mut timer = Timer::default();
    // Requests are judged and cut by themselves.
    live.set_shared();
    loop {
        live.set_busy(false);
        let payload = match next_head(&channel, live, &mut timer).await {
            Ok(Some(payload)) => payload,
            Ok(None) => {
                // A request may be on its way, at which nobody looks any more.
                closing.why = ResetCode::Refused;
                break;
            }
            Err(error) => return debug!(error = chain(&error), "a stream of requests broke off"),
        };
        live.set_busy(true);
        if let Err(error) = exchange(&channel, &hop, &context, &payload).await {
            return debug!(error = chain(&error), "a request on a stream broke off");
        }
        if !channel.has_read() {
            // Whoever has the answer needs no more; the rest of the request is wanted by nobody.
            break;
        }
        channel.begin_next();
    }
    // What was said before arrives.
    let _ = poll_fn(|cx| channel.poll_shutdown(cx)).await;
}

/// Ends a stream when serving it ends, in whatever way.
struct Closing {
    channel: Rc<Channel>,
    why: ResetCode,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.channel.close(self.why);
    }
}

/// Waits for the next request; `None` when there will be none.
async fn next_head(
    channel: &Channel,
    live: &Live,
    timer: &mut Timer,
) -> Result<Option<Bytes>, BrokenMessage> {
    let mut idle_by: Option<Instant> = None;
    poll_fn(|cx| {
        if live.is_leaving() && !channel.has_begun() {
            return Poll::Ready(Ok(None));
        }
        match channel.poll_read(cx) {
            Poll::Ready(Ok(Some(Read::Head(payload)))) => Poll::Ready(Ok(Some(payload))),
            Poll::Ready(Ok(Some(_))) => Poll::Ready(Err(BrokenMessage::Fields)),
            Poll::Ready(Ok(None)) => Poll::Ready(Ok(None)),
            Poll::Ready(Err(broken)) => Poll::Ready(Err(broken)),
            Poll::Pending => {
                let by = *idle_by.get_or_insert_with(|| clock::instant() + live.limits().idle);
                ready!(timer.poll_past(cx, by));
                Poll::Ready(Ok(None))
            }
        }
    })
    .await
}

/// Answers one request.
async fn exchange<H: StreamHop>(
    channel: &Rc<Channel>,
    hop: &Rc<RefCell<H>>,
    context: &Context,
    payload: &Bytes,
) -> Result<(), BrokenMessage> {
    let request = head::read_request(payload)?;
    let body = MessageBody::new(channel, request.headers(), None);
    let request = request.map(|()| Incoming::Message(body));
    let mut answering = pin!(answer_one(hop, request, context));
    let answer: Response<AnswerBody> = poll_fn(|cx| {
        if channel.poll_broken(cx).is_ready() {
            return Poll::Ready(Err(BrokenMessage::early()));
        }
        answering.as_mut().poll(cx).map(Ok)
    })
    .await?;
    let (parts, body) = answer.into_parts();
    channel.put(|out| head::write_answer(out, &parts))?;
    let mut upload = Upload::new(channel, body);
    let sent = poll_fn(|cx| {
        if channel.poll_broken(cx).is_ready() {
            return Poll::Ready(Err(None));
        }
        upload.poll(cx).map_err(|broken| Some(broken.reason()))
    });
    match sent.await {
        Ok(()) => Ok(()),
        Err(reason) => {
            let reason: Option<Reason> = reason;
            if let Some(reason) = reason {
                upload.give_up(reason).await;
            }
            Err(BrokenMessage::early())
        }
    }
}
