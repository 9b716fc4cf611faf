//! The caller's side: one request and its answer on one stream.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use weft_core::traffic::message::InvalidMessage;
use weft_runtime::task::TaskTree;

use super::super::general::{AskedError, Incoming, RequestBody};
use super::body::{BrokenMessage, MessageBody};
use super::channel::{Channel, Read};
use super::head;
use super::upload::{Broken, Going, Upload};
use crate::transport::{HopWire, Lease};

/// A request that waits for its answer.
pub(crate) struct Call {
    channel: Rc<Channel>,
    /// While it is on its way.
    upload: Option<Upload<RequestBody>>,
}

/// States why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Uncalled {
    #[error("the request broke off")]
    Asked(#[source] Broken<AskedError>),
    #[error("no answer came")]
    Unanswered(#[source] BrokenMessage),
}

impl Uncalled {
    /// Whether the stream ended before anybody looked at the request.
    fn is_unseen(&self) -> bool {
        match self {
            Self::Unanswered(BrokenMessage::Io(error)) => {
                error.kind() == io::ErrorKind::ConnectionRefused
            }
            Self::Unanswered(_) | Self::Asked(_) => false,
        }
    }

    /// Whether the other side has said that it has not looked at the request.
    pub(crate) fn is_refused(&self) -> bool {
        let has_said = match self {
            Self::Unanswered(BrokenMessage::Reset(error)) => {
                error.reason() == Some(h2::Reason::REFUSED_STREAM)
            }
            Self::Unanswered(_) | Self::Asked(_) => false,
        };
        has_said || self.is_unseen()
    }
}

impl Call {
    /// Puts a request down.
    ///
    /// # Errors
    /// [`InvalidMessage`] when its head is longer than any peer would take.
    pub(crate) fn new(request: Request<RequestBody>) -> Result<Self, InvalidMessage> {
        let channel = Rc::new(Channel::default());
        let (parts, body) = request.into_parts();
        channel.put(|out| head::write_request(out, &parts))?;
        let upload = Some(Upload::new(&channel, body));
        Ok(Self { channel, upload })
    }

    /// Whether it may go to another stream after an error, since nobody has looked at it.
    pub(crate) fn can_go_elsewhere(&self, error: &Uncalled) -> bool {
        error.is_unseen() && self.channel.can_begin()
    }

    /// Sends the request on a stream and waits for the head of the answer.
    ///
    /// # Errors
    /// [`Uncalled`].
    pub(crate) async fn on(
        &mut self,
        lease: Lease<HopWire>,
        tasks: &TaskTree,
    ) -> Result<Response<Incoming>, Uncalled> {
        let Self { channel, upload } = self;
        channel.begin(lease);
        let payload = poll_fn(|cx| {
            let sending = match upload {
                Some(upload) => upload.poll(cx),
                // All of it was put down before; on another stream it leaves again.
                None => channel.poll_flush(cx).map_err(Broken::Stream),
            };
            let asked = match sending {
                Poll::Pending => Ok(()),
                Poll::Ready(Ok(())) => {
                    *upload = None;
                    channel.note_sent();
                    Ok(())
                }
                // An answer may be there, for which the request need not be whole.
                Poll::Ready(Err(Broken::Stream(error))) => Err(error),
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(Uncalled::Asked(broken))),
            };
            let answered = match (channel.poll_read(cx), asked) {
                (Poll::Pending, Ok(())) => return Poll::Pending,
                (Poll::Pending, Err(error)) => Err(error.into()),
                (Poll::Ready(Ok(Some(Read::Head(payload)))), _) => Ok(payload),
                (Poll::Ready(Ok(Some(Read::Reset(reason)))), _) => {
                    Err(BrokenMessage::reset(reason))
                }
                (Poll::Ready(Ok(Some(_))), _) => Err(BrokenMessage::Fields),
                // Who ends a stream between messages has not looked at this one.
                (Poll::Ready(Ok(None)), _) => {
                    Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
                }
                (Poll::Ready(Err(broken)), _) => Err(broken),
            };
            Poll::Ready(answered.map_err(Uncalled::Unanswered))
        });
        let payload = payload.await?;
        channel.note_answered();
        let answer = head::read_answer_head(&payload).map_err(Uncalled::Unanswered)?;
        let going = upload.take().map(|upload| Going::start(upload, tasks));
        let body = MessageBody::new(channel, answer.headers(), going);
        Ok(answer.map(|()| Incoming::Message(body)))
    }
}
