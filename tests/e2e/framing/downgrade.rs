//! Requests of HTTP/2 that become others when they are written down in HTTP/1.
//!
//! **Source**: Spec: RFC 9113 §8.2 and §8.3, §10.3.

use weft_tests::frames::{Frame, block, flag, kind};

/// What is sent on one connection: the frames of a stream.
pub(super) type Stream = Vec<Frame>;

const STREAM: u32 = 1;

/// Fields that may change how a request is read.
const MORE: [&[(&[u8], &[u8])]; 30] = [
    &[(b"transfer-encoding", b"chunked")],
    &[(b"transfer-encoding", b"identity")],
    &[(b"Transfer-Encoding", b"chunked")],
    &[(b"transfer_encoding", b"chunked")],
    &[(b"transfer-encoding", b"chunked"), (b"content-length", b"5")],
    &[(b"content-length", b"0")],
    &[(b"content-length", b"4")],
    &[(b"content-length", b"5")],
    &[(b"content-length", b"6")],
    &[(b"content-length", b"+5")],
    &[(b"content-length", b"5, 5")],
    &[(b"content-length", b"5"), (b"content-length", b"5")],
    &[(b"content-length", b"5"), (b"content-length", b"0")],
    &[(b"content_length", b"0")],
    &[(b"connection", b"close")],
    &[(b"connection", b"content-length")],
    &[(b"keep-alive", b"1")],
    &[(b"proxy-connection", b"close")],
    &[(b"upgrade", b"h2c")],
    &[(b"te", b"chunked")],
    &[(b"te", b"trailers")],
    &[(b"host", b"other")],
    &[(b"host", b"web")],
    &[(b":path", b"/smuggled")],
    &[(b":method", b"GET")],
    &[(b":authority", b"other")],
    &[(b":protocol", b"websocket")],
    &[(b":status", b"200")],
    &[(b":unknown", b"1")],
    &[(b"expect", b"100-continue")],
];

/// All bodies that are sent.
pub(super) const BODIES: [&str; 3] = ["", "hello", HIDING];
const HIDING: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";

fn head(fields: &[(&[u8], &[u8])], flags: u8) -> Frame {
    Frame::new(kind::HEADERS, flag::END_HEADERS | flags, STREAM, block(fields))
}

fn data(body: &[u8], flags: u8) -> Frame {
    Frame::new(kind::DATA, flags, STREAM, body)
}

/// Fields of a plain request, and where they may be replaced.
fn plain<'a>(method: &'a [u8], path: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    vec![(b":method", method), (b":scheme", b"http"), (b":authority", b"web"), (b":path", path)]
}

/// All streams; the paths have the payload's number.
pub(super) fn streams(number: impl Fn(usize) -> String) -> Vec<Stream> {
    let mut out: Vec<Stream> = Vec::new();
    let path = |at: usize| format!("/c/{}/1", number(at)).into_bytes();
    let odd = (0..=0x20_u8).chain([b':', b'\\', b'"', 0x7f, 0x80, 0xa0, 0xff]);
    for byte in odd {
        for place in 0..8 {
            let path = path(out.len());
            let hidden =
                [&path[..], &[byte], b"HTTP/1.1\r\nHost: web\r\n\r\nGET /smuggled"].concat();
            let value = [b"y", &[byte][..], b"\nX: z"].concat();
            let name = [b"x", &[byte][..], b"y"].concat();
            let mut fields = plain(b"GET", &path);
            match place {
                0 => fields[3].1 = &hidden,
                1 => fields[0].1 = &value,
                2 => fields[2].1 = &value,
                3 => fields[1].1 = &value,
                4 => fields.push((b"x-a", &value)),
                5 => fields.push((&name, b"1")),
                6 => fields.push((&value, b"1")),
                _ => fields.push((b"cookie", &value)),
            }
            out.push(vec![head(&fields, flag::END_STREAM)]);
        }
    }
    for fields in MORE {
        for (method, body) in [
            (&b"POST"[..], &b"hello"[..]),
            (b"GET", b""),
            (b"CONNECT", b"hello"),
            (b"HEAD", HIDING.as_bytes()),
        ] {
            let path = path(out.len());
            let mut all = plain(method, &path);
            all.extend(fields);
            out.push(match body {
                b"" => vec![head(&all, flag::END_STREAM)],
                body => vec![head(&all, 0), data(body, flag::END_STREAM)],
            });
        }
    }
    for without in 0..4 {
        let path = path(out.len());
        let mut fields = plain(b"GET", &path);
        fields.remove(without);
        out.push(vec![head(&fields, flag::END_STREAM)]);
    }
    out.extend(trailers(path, out.len()));
    out
}

/// Bodies in pieces, with what must not be in trailers.
fn trailers(path: impl Fn(usize) -> Vec<u8>, from: usize) -> Vec<Stream> {
    let trailers: [&[(&[u8], &[u8])]; 8] = [
        &[(b"x-t", b"1")],
        &[(b"content-length", b"0")],
        &[(b"transfer-encoding", b"chunked")],
        &[(b":path", b"/smuggled")],
        &[(b"host", b"other")],
        &[(b"x-forwarded-client-cert", b"x")],
        &[(b"x-t", b"1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n")],
        &[(b"x\r\n\r\nget /smuggled", b"1")],
    ];
    let mut out = Vec::new();
    for fields in trailers {
        let path = path(from + out.len());
        let end = head(fields, flag::END_STREAM);
        out.push(vec![head(&plain(b"POST", &path), 0), data(b"hel", 0), data(b"lo", 0), end]);
    }
    out
}
