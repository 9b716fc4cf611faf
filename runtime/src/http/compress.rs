//! Answers in gzip, for callers that take it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;

use super::body::{Body, collect, full};
use crate::task::TaskTree;

/// Bytes of an answer from which it is compressed: what fits one packet gains nothing.
///
/// **Source**: Consul compresses answers of more than some 1.4 KB.
const GZIP_BYTES_MIN: u64 = 1_400;
/// Bytes that are compressed on the spot; more of them take longer than a task may hold its
/// thread (some 500 µs).
const ON_THE_SPOT_BYTES_MAX: usize = 32 << 10;

/// Whether a caller takes gzip.
///
/// **Source**: Spec: RFC 9110 §12.5.3; a weight of 0 refuses.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let mut accepted = false;
    for coding in codings {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|weight| weight.trim_matches(['0', '.']).is_empty());
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return !refused,
            "*" => accepted = !refused,
            _ => {}
        }
    }
    accepted
}

/// Compresses an answer that is worth it: JSON or text of known length that is not compressed yet.
/// Call it for callers that take gzip alone.
pub async fn gzipped(response: Response<Body>, tasks: &TaskTree) -> Response<Body> {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_text =
        kind.is_some_and(|kind| kind.starts_with("application/json") || kind.starts_with("text/"));
    let length = response.body().size_hint().exact().unwrap_or(0);
    if !is_text || length <= GZIP_BYTES_MIN || headers.contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // Our own answer: of known content, and so never broken.
    let body = collect(body, usize::MAX).await.unwrap_or_default();
    let packed = match body.len() <= ON_THE_SPOT_BYTES_MAX {
        true => pack(&body),
        false => {
            let body = body.clone();
            tasks.blocking(move || pack(&body)).await.unwrap_or_default()
        }
    };
    let Some(packed) = packed else {
        return Response::from_parts(parts, full(body));
    };
    let gzip = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, gzip);
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, full(packed))
}

/// Compresses bytes in one go. Blocks its thread: some 10 ms a megabyte.
///
/// # Errors
/// When there is no room for the result.
pub fn gzip(bytes: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().map(Bytes::from)
}

fn pack(body: &[u8]) -> Option<Bytes> {
    // The fastest level: JSON shrinks to a tenth, and better levels cost more than they save.
    gzip(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn accepts(text: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, text.parse().expect("a value"));
        accepts_gzip(&headers)
    }

    #[test]
    fn a_caller_says_what_it_takes() {
        for text in ["gzip", "br, gzip;q=0.5", "*", "identity;q=1, *;q=0.1", "GZIP"] {
            assert!(accepts(text), "{text}");
        }
        for text in ["", "br", "gzip;q=0", "gzip;q=0.0, *", "*;q=0"] {
            assert!(!accepts(text), "{text}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    fn answer(length: usize, kind: &'static str) -> Response<Body> {
        let mut response = Response::new(full("x".repeat(length)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    #[tokio::test]
    async fn long_texts_are_packed_and_come_out_as_they_were() {
        let tasks = TaskTree::root("test");
        for length in [1_401, ON_THE_SPOT_BYTES_MAX + 1] {
            let response = gzipped(answer(length, "application/json"), &tasks).await;
            assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
            let packed = collect(response.into_body(), usize::MAX).await.expect("a body");
            assert!(packed.len() < length / 10);
            let mut text = String::new();
            GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip");
            assert_eq!(text, "x".repeat(length));
        }
        for (length, kind) in [(1_400, "application/json"), (9_000, "application/octet-stream")] {
            let response = gzipped(answer(length, kind), &tasks).await;
            assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{length} {kind}");
        }
    }
}
