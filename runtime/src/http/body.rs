//! Bodies, and the limits under which they are read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::time::Sleep;

/// Any error, as the tower world passes it on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// States why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or the peer framed the body wrongly.
    #[error("the body broke off")]
    Broken(#[source] BoxError),
    /// It came too slowly.
    #[error("the body did not arrive within {} s", limit.as_secs())]
    Slow {
        /// The time allowed for all of it.
        limit: Duration,
    },
    /// It was longer than allowed; counted, whatever the headers said.
    #[error("the body is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The bytes allowed.
        limit_bytes: usize,
    },
}

/// Makes a body of known content.
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Makes a body of what comes; it breaks off at the first error.
pub fn streamed(content: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    StreamBody::new(content.map_ok(Frame::data)).boxed_unsync()
}

/// Makes a body without content.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Whether it is known, before any of it was read, that nothing comes.
pub fn is_empty(body: &Body) -> bool {
    body.is_end_stream()
}

/// Returns how many bytes a body says that it has; `None` when it says nothing.
pub fn told_bytes(body: &Body) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a body to its end.
///
/// # Errors
/// [`BodyError`]; nothing beyond the limit is kept in memory.
/// # Cancel safety
/// None: what was read is lost with the future.
pub async fn collect<B>(mut body: B, limit_bytes: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| body_error(error.into()))?;
        // Trailers carry nothing that an API body needs.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit_bytes {
            return Err(BodyError::TooLarge { limit_bytes });
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Reads the first bytes of a body, and no further.
///
/// # Errors
/// [`BodyError::Broken`] when it breaks off before.
pub(super) async fn collect_start<B>(mut body: B, limit_bytes: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut start = Vec::new();
    while start.len() < limit_bytes {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(|error| body_error(error.into()))?.into_data() else {
            continue;
        };
        start.extend_from_slice(&data[..data.len().min(limit_bytes - start.len())]);
    }
    Ok(start.into())
}

fn body_error(error: BoxError) -> BodyError {
    match error.downcast::<BodyError>() {
        Ok(error) => *error,
        Err(error) => BodyError::Broken(error),
    }
}

/// A request's body under the server's limits: bytes are counted, and all of it must arrive in
/// a given time from its first use.
pub(super) struct Limited<B> {
    inner: B,
    left_bytes: usize,
    limit_bytes: usize,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Limited<B> {
    pub(super) fn new(inner: B, limit_bytes: usize, limit: Duration) -> Self {
        Self { inner, left_bytes: limit_bytes, limit_bytes, limit, deadline: None }
    }
}

impl<B> HttpBody for Limited<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match this.left_bytes.checked_sub(length) {
                    Some(left) => {
                        this.left_bytes = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let error = BodyError::TooLarge { limit_bytes: this.limit_bytes };
                        Poll::Ready(Some(Err(error.into())))
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let limit = this.limit;
                let deadline =
                    this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(deadline.as_mut().poll(context));
                Poll::Ready(Some(Err(BodyError::Slow { limit }.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use tokio_stream::iter;

    fn chunks(chunks: &[&'static str]) -> Body {
        let frames: Vec<Result<_, BoxError>> = chunks
            .iter()
            .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        StreamBody::new(iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn bodies_are_collected_up_to_the_limit_by_counting() {
        assert_eq!(collect(empty(), 0).await.expect("empty"), "");
        assert_eq!(collect(full("abc"), 3).await.expect("fits"), "abc");
        assert_eq!(collect(chunks(&["a", "bc", "d"]), 4).await.expect("fits"), "abcd");
        let error = collect(chunks(&["a", "bc", "d"]), 3).await.expect_err("too long");
        assert!(matches!(error, BodyError::TooLarge { limit_bytes: 3 }), "{error}");
        assert_eq!(collect_start(chunks(&["a", "bc", "d"]), 2).await.expect("cut"), "ab");
        assert_eq!(collect_start(chunks(&["a", "bc"]), 9).await.expect("whole"), "abc");
        let limited = Limited::new(chunks(&["ab", "cd"]), 3, Duration::from_secs(1));
        let error = collect(limited, 100).await.expect_err("too long");
        assert!(matches!(error, BodyError::TooLarge { limit_bytes: 3 }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up() {
        let silent = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let limited = Limited::new(silent, 3, Duration::from_secs(30));
        let error = collect(limited, 3).await.expect_err("silent");
        assert!(matches!(error, BodyError::Slow { .. }), "{error}");
    }
}
