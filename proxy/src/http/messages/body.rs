//! A message's body as it is read.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use weft_core::traffic::message::InvalidMessage;

use super::super::general::RequestBody;
use super::channel::{Channel, Read};
use super::head;
use super::upload::Going;

/// The rest of a message after its head. Dropped before its end it breaks the stream off.
#[derive(Debug)]
pub(crate) struct MessageBody {
    channel: Rc<Channel>,
    has_ended: bool,
    /// What is said to be to come.
    left: Option<u64>,
    /// The request to which it belongs, while that is on its way.
    _request: Option<Going<RequestBody>>,
}

/// States why a message is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenMessage {
    #[error("the stream broke off")]
    Io(#[from] io::Error),
    #[error("the peer breaks the rules")]
    Invalid(#[from] InvalidMessage),
    #[error("fields that are none")]
    Fields,
    #[error("the sender gave it up")]
    Reset(#[source] h2::Error),
}

impl BrokenMessage {
    pub(super) fn reset(reason: u32) -> Self {
        Self::Reset(Reason::from(reason).into())
    }

    pub(super) fn early() -> Self {
        Self::Io(io::ErrorKind::UnexpectedEof.into())
    }
}

impl MessageBody {
    pub(super) fn new(
        channel: &Rc<Channel>,
        headers: &HeaderMap,
        request: Option<Going<RequestBody>>,
    ) -> Self {
        let has_ended = channel.is_at_end();
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        Self { channel: channel.clone(), has_ended, left, _request: request }
    }
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = BrokenMessage;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenMessage>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.channel.poll_read(cx)) {
            Ok(Some(Read::Data(data))) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Ok(Frame::data(data))
            }
            Ok(Some(Read::Trailers(payload))) => head::read_trailers(&payload).map(Frame::trailers),
            Ok(Some(Read::End)) => {
                self.has_ended = true;
                return Poll::Ready(None);
            }
            Ok(Some(Read::Reset(reason))) => Err(BrokenMessage::reset(reason)),
            Ok(Some(Read::Head(_))) => Err(BrokenMessage::Fields),
            Ok(None) => Err(BrokenMessage::early()),
            Err(broken) => Err(broken),
        };
        // Whoever passes it on can then say the end together with what is before it.
        self.has_ended = frame.is_err() || self.channel.is_at_end();
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        match (self.has_ended, self.left) {
            (true, _) => SizeHint::with_exact(0),
            (false, Some(left)) => SizeHint::with_exact(left),
            (false, None) => SizeHint::default(),
        }
    }
}
