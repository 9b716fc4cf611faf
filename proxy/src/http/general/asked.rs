//! The body of a request on its way to the next hop.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::view::strip_mesh;

/// Passes a body on and counts it. Trailers must not say what only the mesh may say.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    bytes: Rc<Cell<u64>>,
}

impl RequestBody {
    /// Wraps a body; `bytes` is raised as it passes.
    pub(super) fn new(body: Incoming, bytes: Rc<Cell<u64>>) -> Self {
        Self { body, bytes }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.bytes.set(self.bytes.get() + length);
            if let Some(trailers) = frame.trailers_mut() {
                strip_mesh(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
