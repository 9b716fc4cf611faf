//! A streamed answer of messages that their maker has framed.
//!
//! tonic's own encoder writes each message into a buffer of the stream and keeps it: a stream on
//! which nothing happens holds the longest message it ever sent, a copy for each reader. Here a
//! message is let go once it is sent, and may share its bytes with those of other streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use tonic::{Code, Status};

/// Answers with messages as they come, each in two parts of which the second may be empty; ends
/// with the first error, or well.
pub fn messages(
    messages: impl Stream<Item = Result<[Bytes; 2], Status>> + Send + 'static,
) -> Response<tonic::body::Body> {
    let body = Messages { next: Bytes::new(), messages: Some(Box::pin(messages)) };
    let mut response = Response::new(tonic::body::Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

struct Messages {
    /// The second part of the message under way.
    next: Bytes,
    /// `None` once the trailers were sent.
    messages: Option<BoxStream<'static, Result<[Bytes; 2], Status>>>,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.next.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.next)))));
        }
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        let end = match ready!(messages.as_mut().poll_next(context)) {
            Some(Ok([head, rest])) => {
                self.next = rest;
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            Some(Err(status)) => status,
            None => Status::new(Code::Ok, ""),
        };
        self.messages = None;
        let mut trailers = HeaderMap::new();
        end.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn parts_come_in_order_and_the_status_last() {
        let parts = |head: &'static str, rest: &'static str| {
            Ok([Bytes::from_static(head.as_bytes()), Bytes::from_static(rest.as_bytes())])
        };
        for (end, code) in [(None, "0"), (Some(Err(Status::aborted("behind"))), "10")] {
            let all = [parts("a", ""), parts("b", "c"), parts("d", "")].into_iter().chain(end);
            let body = messages(futures::stream::iter(all.collect::<Vec<_>>())).into_body();
            let collected = body.collect().await.expect("no break");
            let trailers = collected.trailers().expect("trailers").clone();
            assert_eq!(trailers["grpc-status"], code);
            assert_eq!(collected.to_bytes(), "abcd");
        }
    }
}
