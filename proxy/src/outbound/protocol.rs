//! What an HTTP caller speaks: HTTP/2 announces itself in its first bytes.

use std::future::poll_fn;
use std::task::{Poll, ready};

use weft_runtime::clock;

use crate::listen::Live;
use crate::transport::{Buffer, Timer, Wire};

/// What comes first on an HTTP/2 connection.
///
/// **Source**: Spec: RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// Reads until the protocol is plain; returns what was read. `None` when the caller left.
pub(super) async fn detect<W: Wire>(
    client: &mut W,
    live: &Live,
    timer: &mut Timer,
) -> Option<(Spoken, Buffer)> {
    let mut input = Buffer::default();
    let deadline = clock::instant() + live.limits().idle;
    let spoken = poll_fn(|cx| {
        loop {
            if let Some(spoken) = judge(input.filled()) {
                return Poll::Ready(Some(spoken));
            }
            if input.is_empty() && live.is_leaving() {
                return Poll::Ready(None);
            }
            match client.poll_fill_ready(cx, &mut input) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(timer.poll_past(cx, deadline));
                    return Poll::Ready(None);
                }
            }
        }
    })
    .await?;
    Some((spoken, input))
}

/// Decides as soon as the bytes allow it.
fn judge(bytes: &[u8]) -> Option<Spoken> {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] != PREFACE[..seen] {
        Some(Spoken::Http1)
    } else if seen == PREFACE.len() {
        Some(Spoken::Http2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_and_nothing_else_is_http2() {
        assert_eq!(judge(b"GET / HTTP/1.1"), Some(Spoken::Http1));
        assert_eq!(judge(b"PRO"), Some(Spoken::Http1));
        assert_eq!(judge(b""), None);
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(judge(&[PREFACE, b"frames"].concat()), Some(Spoken::Http2));
    }
}
