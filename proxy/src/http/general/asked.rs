//! The body of a request on its way to the next hop.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weft_runtime::telemetry::chain;

use weft_core::traffic::grpc_web::{Decoder, InvalidText, WebForm};

use super::super::body_copy::BodyCopy;
use super::super::held::{Held, Holding};
use super::super::refusal::Refusal;
use super::incoming::{BrokenBody, Incoming};
use super::progress::Progress;
use super::view::strip_mesh;

/// How long a body may take to come as far as it is held back.
const HOLD_LIMIT: Duration = Duration::from_secs(60);
/// Frames that are held back beside those with content: honest senders have no empty ones.
const EMPTY_FRAMES_MAX: usize = 64;

/// Passes a body on and counts it. Trailers must not say what only the mesh may say.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// What was held back, in order; it goes first.
    held: VecDeque<Frame<Bytes>>,
    body: Incoming,
    progress: Rc<Progress>,
    bytes_max: u64,
    /// What reads it, if it is text.
    decoder: Option<Box<Decoder>>,
    /// Who takes a copy of it, if somebody does.
    copy: Option<Box<dyn BodyCopy>>,
}

/// States why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskedError {
    #[error("the caller's request broke off")]
    Caller(#[source] BrokenBody),
    #[error("the body is larger than this proxy lets through")]
    TooLarge,
    #[error("the caller's request cannot be read")]
    Text(#[source] InvalidText),
}

impl RequestBody {
    /// Wraps a body, whose progress is told; it breaks off beyond `bytes_max`.
    pub(super) fn new(body: Incoming, progress: Rc<Progress>, bytes_max: u64) -> Self {
        if body.is_end_stream() {
            progress.end();
        }
        Self { held: VecDeque::new(), body, progress, bytes_max, decoder: None, copy: None }
    }

    /// Has a body of gRPC-Web read as its form wants.
    pub(super) fn read_as(mut self, form: Option<WebForm>) -> Self {
        self.decoder = (form == Some(WebForm::Text)).then(Box::default);
        self
    }

    /// Has somebody take a copy of the body as it goes on.
    pub(crate) fn copied_to(mut self, copy: Box<dyn BodyCopy>) -> Self {
        match self.is_end_stream() {
            true => copy.end(),
            false => self.copy = Some(copy),
        }
        self
    }

    fn copy(&mut self, read: Option<&Frame<Bytes>>) {
        let data = read.and_then(Frame::data_ref);
        self.copy.iter_mut().zip(data).for_each(|(copy, data)| copy.take(data));
        if (read.is_none() || self.is_end_stream())
            && let Some(copy) = self.copy.take()
        {
            copy.end();
        }
    }

    /// Waits for the body as far as it is held back, if it is, and shows that.
    ///
    /// # Errors
    /// [`Refusal`] when it breaks off or takes too long.
    pub(super) async fn held(&mut self, holding: Option<Holding>) -> Result<Option<Held>, Refusal> {
        match holding {
            Some(holding) => Box::pin(self.hold(holding)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn hold(&mut self, holding: Holding) -> Result<Held, Refusal> {
        let reading = async {
            let (mut content, mut empty) = (Vec::new(), 0);
            let mut is_whole = self.body.is_end_stream();
            while holding.wants_more(content.len(), is_whole) {
                let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
                let frame = frame.transpose().map_err(|error| {
                    let message = format!("the body breaks off: {}", chain(&error));
                    Refusal::new(400, "bad-request", message)
                })?;
                let data = frame.as_ref().and_then(Frame::data_ref).map_or(&[][..], |data| data);
                content.extend_from_slice(data);
                empty += usize::from(data.is_empty());
                if empty > EMPTY_FRAMES_MAX {
                    return Err(Refusal::new(400, "bad-request", "the body has empty frames"));
                }
                is_whole = frame.is_none() || self.body.is_end_stream();
                self.held.extend(frame);
            }
            Ok(holding.held(content, is_whole))
        };
        let late = || Err(Refusal::new(408, "body-timeout", "the body took too long"));
        tokio::time::timeout(HOLD_LIMIT, reading).await.unwrap_or_else(|_| late())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.progress.end();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = AskedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AskedError>>> {
        let mut polled = match self.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.progress.pass(length);
            if self.progress.bytes() > self.bytes_max {
                return Poll::Ready(Some(Err(AskedError::TooLarge)));
            }
            if let Some(trailers) = frame.trailers_mut() {
                strip_mesh(trailers);
            }
        }
        if let Some(decoder) = &mut self.decoder {
            polled = match polled {
                Poll::Ready(Some(Ok(frame))) => match read(decoder, frame) {
                    Ok(frame) => Poll::Ready(Some(Ok(frame))),
                    Err(error) => return Poll::Ready(Some(Err(AskedError::Text(error)))),
                },
                Poll::Ready(None) if !decoder.is_whole() => {
                    return Poll::Ready(Some(Err(AskedError::Text(InvalidText))));
                }
                other => other,
            };
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) if self.copy.is_some() => self.copy(Some(frame)),
            Poll::Ready(None) => self.copy(None),
            Poll::Ready(Some(Ok(_) | Err(_))) | Poll::Pending => {}
        }
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.is_end_stream() {
            self.progress.end();
        }
        polled.map_err(AskedError::Caller)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        if self.decoder.is_some() {
            return SizeHint::default();
        }
        if self.held.iter().any(Frame::is_trailers) {
            // Framed by its length it would lose them.
            return SizeHint::default();
        }
        let held = self.held.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64);
        let held: u64 = held.sum();
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(held));
        }
        whole
    }
}

/// Reads a frame of text; others go on as they are.
fn read(decoder: &mut Decoder, frame: Frame<Bytes>) -> Result<Frame<Bytes>, InvalidText> {
    match frame.into_data() {
        Ok(text) => decoder.decode(&text).map(|bytes| Frame::data(bytes.into())),
        Err(other) => Ok(other),
    }
}
