//! Heads and trailers as the HTTP library has them, and as records.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version, response};
use weft_core::traffic::message::{
    Field, Fields, FieldsWriter, InvalidMessage, RequestHead, read_answer,
};

use super::body::BrokenMessage;

/// Writes the head of a request.
///
/// # Errors
/// [`InvalidMessage`] when it is longer than the peer would take.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    parts: &request::Parts,
) -> Result<(), InvalidMessage> {
    let head = RequestHead {
        method: parts.method.as_str().as_bytes(),
        is_https: parts.uri.scheme() == Some(&Scheme::HTTPS),
        authority: parts.uri.authority().map_or(&[][..], |it| it.as_str().as_bytes()),
        target: parts.uri.path_and_query().map_or(&b"/"[..], |it| it.as_str().as_bytes()),
    };
    let fields = FieldsWriter::request(out, &head);
    write_fields(fields, &parts.headers)
}

/// Writes the head of an answer.
///
/// # Errors
/// As [`write_request`].
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    parts: &response::Parts,
) -> Result<(), InvalidMessage> {
    write_fields(FieldsWriter::answer(out, parts.status.as_u16()), &parts.headers)
}

/// Writes the fields after a body.
///
/// # Errors
/// As [`write_request`].
pub(super) fn write_trailers(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), InvalidMessage> {
    write_fields(FieldsWriter::trailers(out), fields)
}

fn write_fields(mut fields: FieldsWriter<'_>, headers: &HeaderMap) -> Result<(), InvalidMessage> {
    for (name, value) in headers {
        fields.field(name.as_str().as_bytes(), value.as_bytes());
    }
    fields.finish()
}

/// Reads the head of a request.
///
/// # Errors
/// [`BrokenMessage`] when it is no request of HTTP.
pub(super) fn read_request(payload: &Bytes) -> Result<Request<()>, BrokenMessage> {
    let (head, fields) = RequestHead::read(payload)?;
    let invalid = |_| BrokenMessage::Fields;
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(
        PathAndQuery::from_maybe_shared(payload.slice_ref(head.target))
            .map_err(|_| BrokenMessage::Fields)?,
    );
    if !head.authority.is_empty() {
        let authority = Authority::from_maybe_shared(payload.slice_ref(head.authority));
        uri.authority = Some(authority.map_err(|_| BrokenMessage::Fields)?);
        uri.scheme = Some(if head.is_https { Scheme::HTTPS } else { Scheme::HTTP });
    }
    let mut request = Request::new(());
    let method = Method::from_bytes(head.method).map_err(|_| BrokenMessage::Fields)?;
    if method == Method::CONNECT {
        // A tunnel goes over HTTP/2.
        return Err(BrokenMessage::Fields);
    }
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(uri).map_err(invalid)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = read_fields(payload, fields)?;
    Ok(request)
}

/// Reads the head of an answer.
///
/// # Errors
/// [`BrokenMessage`] when it is no answer of HTTP.
pub(super) fn read_answer_head(payload: &Bytes) -> Result<Response<()>, BrokenMessage> {
    let (status, fields) = read_answer(payload)?;
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(status).map_err(|_| BrokenMessage::Fields)?;
    *answer.version_mut() = Version::HTTP_2;
    *answer.headers_mut() = read_fields(payload, fields)?;
    Ok(answer)
}

/// Reads fields after a body.
///
/// # Errors
/// [`BrokenMessage`] when they are no fields of HTTP.
pub(super) fn read_trailers(payload: &Bytes) -> Result<HeaderMap, BrokenMessage> {
    read_fields(payload, Fields::of_trailers(payload))
}

fn read_fields(payload: &Bytes, mut fields: Fields<'_>) -> Result<HeaderMap, BrokenMessage> {
    let mut headers = HeaderMap::new();
    while let Some(Field { name, value }) = fields.next()? {
        let name = HeaderName::from_bytes(name).map_err(|_| BrokenMessage::Fields)?;
        let value = HeaderValue::from_maybe_shared(payload.slice_ref(value));
        let value = value.map_err(|_| BrokenMessage::Fields)?;
        headers.try_append(name, value).map_err(|_| BrokenMessage::Fields)?;
    }
    Ok(headers)
}
