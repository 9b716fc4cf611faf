//! The body of a message as it arrives: from the library that speaks HTTP, or on a stream of another proxy.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::messages::{BrokenMessage, MessageBody};

/// A body on its way in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Of a connection that hyper reads.
    Hyper(hyper::body::Incoming),
    /// Of a stream beside others.
    Message(MessageBody),
}

/// States why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Message(#[from] BrokenMessage),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match &mut *self {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BrokenBody::from),
            Self::Message(body) => Pin::new(body).poll_frame(cx).map_err(BrokenBody::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Message(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Message(body) => body.size_hint(),
        }
    }
}
