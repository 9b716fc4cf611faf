//! The body of a message as it arrives: from the library that speaks HTTP, or on a stream of another proxy.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::asked::AskedError;
use super::replay::Reading;
use crate::http::messages::{BrokenMessage, MessageBody};

/// A body on its way in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// For one of several attempts.
    Again(Reading),
    /// Of a connection that hyper reads.
    Hyper(hyper::body::Incoming),
    /// Of a stream beside others.
    Message(MessageBody),
}

/// States why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenBody {
    #[error(transparent)]
    Asked(Box<AskedError>),
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error(transparent)]
    Message(#[from] BrokenMessage),
    #[error("another attempt has taken the place of this one")]
    Superseded,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match &mut *self {
            Self::Again(body) => Pin::new(body).poll_frame(cx),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BrokenBody::from),
            Self::Message(body) => Pin::new(body).poll_frame(cx).map_err(BrokenBody::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Again(body) => body.is_end_stream(),
            Self::Hyper(body) => body.is_end_stream(),
            Self::Message(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Again(body) => body.size_hint(),
            Self::Hyper(body) => body.size_hint(),
            Self::Message(body) => body.size_hint(),
        }
    }
}
