//! gRPC-Web callers before a service that speaks gRPC: what becomes of their requests, and of the
//! answers on their way back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use weft_core::traffic::grpc_web::{WebForm, encode, grpc_type, trailer_frame};

use super::answer::{AnswerBody, AnswerError};

/// Makes a request of gRPC out of one of gRPC-Web, but for its body; `None` for all others.
pub(super) fn unweb(headers: &mut HeaderMap) -> Option<WebForm> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (form, messages) = WebForm::of(kind)?;
    let kind = HeaderValue::from_str(&grpc_type(messages)).ok()?;
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if form == WebForm::Text {
        // It is the length of the text.
        headers.remove(header::CONTENT_LENGTH);
    }
    Some(form)
}

/// Makes an answer of gRPC-Web out of one of gRPC. One that ends with its head stays as it is: the
/// status stands there.
pub(super) fn web(answer: Response<AnswerBody>, form: WebForm) -> Response<AnswerBody> {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| form.answer_type(kind));
    let Some(Ok(kind)) = kind.map(|kind| HeaderValue::from_str(&kind)) else { return answer };
    let (mut parts, body) = answer.into_parts();
    parts.headers.insert(header::CONTENT_TYPE, kind);
    parts.headers.remove(header::CONTENT_LENGTH);
    let body = match body.is_end_stream() {
        true => body,
        false => AnswerBody::Web(Box::new(WebBody { body, form })),
    };
    Response::from_parts(parts, body)
}

/// The body of an answer in gRPC-Web.
pub(crate) struct WebBody {
    body: AnswerBody,
    form: WebForm,
}

impl Body for WebBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let form = self.form;
        Pin::new(&mut self.body).poll_frame(cx).map_ok(|frame| {
            let bytes = match frame.into_data() {
                Ok(data) => data,
                Err(other) => {
                    let trailers = other.into_trailers().unwrap_or_default();
                    let lines =
                        trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                    trailer_frame(lines).into()
                }
            };
            Frame::data(match form {
                WebForm::Binary => bytes,
                WebForm::Text => encode(&bytes).into(),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
