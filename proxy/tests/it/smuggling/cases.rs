//! Payloads that two readers could read in two ways, and what must become of each.

/// One payload on one connection.
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    /// The requests that the origin must get, each as method and target, and body.
    pub(crate) seen: Vec<(String, String)>,
    /// Whether what follows them is refused.
    pub(crate) is_refused: bool,
}

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

fn refused(payload: impl AsRef<[u8]>) -> Case {
    Case { bytes: payload.as_ref().to_vec(), seen: Vec::new(), is_refused: true }
}

fn seen(payload: impl AsRef<[u8]>, requests: &[(&str, &str)]) -> Case {
    let own = |(line, body): &(&str, &str)| ((*line).to_owned(), (*body).to_owned());
    let seen = requests.iter().map(own).collect();
    Case { bytes: payload.as_ref().to_vec(), seen, is_refused: false }
}

fn both(payload: impl AsRef<[u8]>) -> Case {
    seen(payload, &[("POST /first", "hello"), ("GET /second", "")])
}

fn post(lines: &[u8], body: &str) -> Vec<u8> {
    let head = b"POST /first HTTP/1.1\r\nHost: web\r\n";
    [head, lines, b"\r\n\r\n", body.as_bytes(), SECOND.as_bytes()].concat()
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    transfer_encodings(&mut cases);
    bytes_around_transfer_encoding(&mut cases);
    lengths(&mut cases);
    chunks(&mut cases);
    trailers(&mut cases);
    hosts(&mut cases);
    targets(&mut cases);
    first_lines(&mut cases);
    fields(&mut cases);
    hops(&mut cases);
    cases
}

fn transfer_encodings(cases: &mut Vec<Case>) {
    for line in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunk",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chu\r\n nked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
        "Transfer-Encoding= chunked",
        ",Transfer-Encoding: chunked",
        "[Transfer-Encoding]: chunked",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "Content-Length: 5\r\nTransfer_Encoding: chunked",
    ] {
        cases.push(refused(post(line.as_bytes(), CHUNKS)));
    }
    for line in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: CHUNKED",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding:    chunked   ",
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    ] {
        cases.push(both(post(line.as_bytes(), CHUNKS)));
    }
}

/// Each control byte, and some others, before, after, inside and at the name.
fn bytes_around_transfer_encoding(cases: &mut Vec<Case>) {
    for byte in (0..=0x20).chain([0x7f, 0x80, 0xa0, 0xff]) {
        for (before, after) in [
            ("Transfer-Encoding: ", "chunked"),
            ("Transfer-Encoding: chunked", ""),
            ("Transfer-Encoding: chu", "nked"),
            ("Transfer-Encoding", ": chunked"),
            ("", "Transfer-Encoding: chunked"),
        ] {
            let line = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let is_blank = matches!(byte, b'\t' | b' ') && before.contains(':');
            let is_around = after.is_empty() || before.ends_with(' ');
            let payload = post(&line, CHUNKS);
            cases.push(if is_blank && is_around { both(payload) } else { refused(payload) });
        }
    }
}

fn lengths(cases: &mut Vec<Case>) {
    for value in [
        ": +5",
        ": -5",
        ": -0",
        ": 5 5",
        ": 5, 5",
        ": 5,6",
        ": 0x5",
        ": 5a",
        ": 5.0",
        ": 5e0",
        ":",
        ": \"5\"",
        ": 5;",
        ": \u{665}",
        ": 99999999999999999999",
        ": 18446744073709551621",
        ": 5\0",
        ": 5\x0b",
        ": 5\r\nContent-Length: 5",
        ": 5\r\nContent-Length: 6",
        ": 0\r\nContent-Length: 5",
        ": 5\r\n 6",
        ": \r\n 5",
        " : 5",
        "\0: 5",
        ": 5\nX: y",
        ": 5\rX: y",
    ] {
        cases.push(refused(post(format!("Content-Length{value}").as_bytes(), "hello")));
    }
    for line in ["Content_Length: 5", "Content.Length: 5", " Content-Length: 5"] {
        cases.push(refused(post(line.as_bytes(), "hello")));
    }
    for value in [":5", ": 5", ": 05", ": 0000000005", ":\t5", ": 5\t", ":   5   "] {
        cases.push(both(post(format!("CONTENT-LENGTH{value}").as_bytes(), "hello")));
    }
    cases.push(both(post(b"Connection: Content-Length\r\nContent-Length: 5", "hello")));
    // What follows the body by its length is the next request, whatever it looks like.
    let mut next = both(post(b"Content-Length: 5", "hello"));
    next.bytes.truncate(next.bytes.len() - SECOND.len());
    next.bytes.extend_from_slice(b"0\r\n\r\n");
    next.seen.pop();
    next.is_refused = true;
    cases.push(next);
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let head = format!("{method} /first HTTP/1.1\r\nHost: web\r\n");
        let line = format!("{method} /first");
        let want: &[(&str, &str)] = &[(&line, "hello"), ("GET /second", "")];
        cases.push(seen(format!("{head}Content-Length: 5\r\n\r\nhello{SECOND}"), want));
        cases.push(seen(format!("{head}Transfer-Encoding: chunked\r\n\r\n{CHUNKS}{SECOND}"), want));
    }
}

fn chunks(cases: &mut Vec<Case>) {
    let payload = |body: &str| post(b"Transfer-Encoding: chunked", body);
    for size in [
        "",
        " ",
        "5 ",
        "5\t",
        " 5",
        "\t5",
        "0x5",
        "+5",
        "-5",
        "5h",
        "g",
        "5,",
        "5;a\0",
        "5;\x0b",
        "5;a\rb",
        "5;a\nb",
        "5\n",
        "5\r",
        "5;\n",
        "5\r\n\r",
        "FFFFFFFFFFFFFFFF5",
        "10000000000000005",
        "00000000000000005",
        "5;\u{7f}",
    ] {
        cases.push(refused(payload(&format!("{size}\r\nhello\r\n0\r\n\r\n"))));
    }
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0;\n\r\n\r\n",
    ] {
        cases.push(refused(payload(body)));
    }
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0;x\r\n\r\n",
        "005\r\nhello\r\n000\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n",
    ] {
        cases.push(both(payload(body)));
    }
}

fn trailers(cases: &mut Vec<Case>) {
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: other",
        "Connection: close",
        "Upgrade: h2c",
        "TE: trailers",
        "Expect: 100-continue",
        "X-Forwarded-Client-Cert: URI=forged",
        "x_forwarded_client_cert: URI=forged",
        "X-Weft-Unreached: 1",
        "X-Weft-With-A-Name-That-Is-Longer-Than-Most: 1",
        "Authorization: forged",
        "Cookie: forged",
        "Content_Length: 5",
        "X : a",
        " folded",
        "X: a\nb",
        "X: a\0b",
        "X",
        ": a",
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        cases.push(refused(post(b"Transfer-Encoding: chunked", &body)));
    }
}

fn hosts(cases: &mut Vec<Case>) {
    for lines in [
        "",
        "Host:\r\n",
        "Host: web\r\nHost: web\r\n",
        "Host: web\r\nhost: other\r\n",
        "Host: web other\r\n",
        "Host: web, other\r\n",
        "Host: user@web\r\n",
        "Host: web/x\r\n",
        "Host: web?x\r\n",
        "Host: web#x\r\n",
        "Host: web\\x\r\n",
        "Host: w\u{e9}b\r\n",
        "Host: web\0\r\n",
        "Host: web\r\n other\r\n",
        "Host : web\r\n",
    ] {
        cases.push(refused(format!("GET /first HTTP/1.1\r\n{lines}\r\n{SECOND}")));
    }
    for host in ["web:80", "WEB", "[::1]:80", "web.", "10.0.0.1"] {
        let first = format!("GET /first HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(seen(format!("{first}{SECOND}"), &[("GET /first", ""), ("GET /second", "")]));
    }
}

fn targets(cases: &mut Vec<Case>) {
    for line in [
        "GET first",
        "GET *",
        "GET ?x",
        "GET http://other/",
        "GET https://web/",
        "GET http:///x",
        "GET http://user@web/",
        "GET //web\u{e9}",
        "GET /a b",
        "GET /a\tb",
        "GET /#x",
        "GET /a#b",
        "GET /\u{7f}",
        "GET /\0",
        "GET /\x1b[31m",
        "GET \\first",
        "CONNECT web:80",
        "CONNECT /",
        "GET web:80",
        "GET http:/first",
        "GET /a\rb",
        "GET /a\nb",
    ] {
        cases.push(refused(format!("{line} HTTP/1.1\r\nHost: web\r\n\r\n{SECOND}")));
    }
    for (line, want) in [
        ("GET /a/../b", "GET /a/../b"),
        ("GET /%2e%2e/%2F", "GET /%2e%2e/%2F"),
        ("GET //other/a", "GET //other/a"),
        ("GET /a;x=y/b", "GET /a;x=y/b"),
        ("GET /%0d%0aX:y", "GET /%0d%0aX:y"),
        ("GET /?a=b?c&d=/../", "GET /?a=b?c&d=/../"),
        ("GET http://web/first", "GET /first"),
        ("GET HTTP://WEB?x", "GET /?x"),
        ("OPTIONS *", "OPTIONS *"),
        ("get /first", "get /first"),
    ] {
        let first = format!("{line} HTTP/1.1\r\nHost: web\r\n\r\n");
        cases.push(seen(format!("{first}{SECOND}"), &[(want, ""), ("GET /second", "")]));
    }
}

fn first_lines(cases: &mut Vec<Case>) {
    for line in [
        "GET  /first HTTP/1.1\r\n",
        "GET\t/first HTTP/1.1\r\n",
        "GET /first  HTTP/1.1\r\n",
        "GET /first HTTP/1.1 \r\n",
        "GET /first HTTP/1.2\r\n",
        "GET /first HTTP/2.0\r\n",
        "GET /first HTTP/0.9\r\n",
        "GET /first http/1.1\r\n",
        "GET /first HTTP/1.10\r\n",
        "GET /first HTTP/01.1\r\n",
        "GET /first HTTP/11\r\n",
        "GET /first\r\n",
        "GET /first FTP/1.1\r\n",
        "G@T /first HTTP/1.1\r\n",
        "GE\0T /first HTTP/1.1\r\n",
        "(GET) /first HTTP/1.1\r\n",
        " GET /first HTTP/1.1\r\n",
        "\nGET /first HTTP/1.1\r\n",
        "\rGET /first HTTP/1.1\r\n",
        "GET /first HTTP/1.1\n",
        "GET /first HTTP/1.1\r",
        "GET /first HTTP/1.1\r\r\n",
        "/first HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
    ] {
        cases.push(refused(format!("{line}Host: web\r\n\r\n{SECOND}")));
    }
    let first = "GET /first HTTP/1.1\r\nHost: web\r\n\r\n";
    let want = [("GET /first", ""), ("GET /second", "")];
    cases.push(seen(format!("\r\n{first}{SECOND}"), &want));
    cases.push(seen(format!("{first}\r\n\r\n{SECOND}"), &want));
}

fn fields(cases: &mut Vec<Case>) {
    for line in [
        "X",
        ": y",
        "X Y: z",
        "X\0: y",
        "X: \0",
        "X: a\x08b",
        "X: a\x7fb",
        "X\u{e9}: y",
        "X(: y",
        "X\t: y",
        "\"X\": y",
        "X: y\r\n\tfolded",
        "X: y\rZ: z",
        "X: y\nZ: z",
        "Expect: 101-ok",
        "Expect: 100-continue, x",
    ] {
        let lines = format!("{line}\r\nContent-Length: 5");
        cases.push(refused(post(lines.as_bytes(), "hello")));
    }
    let many = "X: y\r\n".repeat(210);
    cases.push(refused(post(format!("{many}Content-Length: 5").as_bytes(), "hello")));
    let long = "y".repeat(66 << 10);
    cases.push(refused(post(format!("X: {long}\r\nContent-Length: 5").as_bytes(), "hello")));
    for line in ["X:", "X: \u{e9}", "X:\ty", "X: a:b", "!#$%&'*+-.^_`|~: y", "Expect: 100-continue"]
    {
        let lines = format!("{line}\r\nContent-Length: 5");
        cases.push(both(post(lines.as_bytes(), "hello")));
    }
}

/// What belongs to one hop, what only the mesh may say, HTTP/1.0 and changes of protocol.
fn hops(cases: &mut Vec<Case>) {
    for line in [
        "X-Forwarded-Client-Cert: URI=forged",
        "x-forwarded-client-cert: URI=forged\r\nX-FORWARDED-CLIENT-CERT: again",
        "X_Forwarded_Client_Cert: URI=forged",
        "X-Forwarded.Client_Cert: URI=forged",
        "Connection: x-forwarded-client-cert",
        "Connection: close-not, X-Forwarded-Client-Cert\r\nX-Forwarded-Client-Cert: forged",
        "Connection: host",
        "Connection: keep-alive, te, upgrade",
        "X-Weft-Unreached: 1\r\nX_Weft_Cause: forged",
        "TE: trailers\r\nKeep-Alive: 9\r\nProxy-Connection: close\r\nTrailer: x",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
    ] {
        cases.push(both(post(format!("{line}\r\nContent-Length: 5").as_bytes(), "hello")));
    }
    let old = "POST /first HTTP/1.0\r\n";
    let first = [("POST /first", "hello")];
    cases.push(refused(format!("{old}Transfer-Encoding: chunked\r\n\r\n{CHUNKS}{SECOND}")));
    cases.push(refused(format!("{old}Host: a\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello")));
    // Without a wish to stay, what follows is not read.
    cases.push(seen(format!("{old}Content-Length: 5\r\n\r\nhello{SECOND}"), &first));
    let stays = format!("{old}Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello{SECOND}");
    cases.push(both(stays));
    // No protocol was changed, so what follows is read as requests or not at all.
    let upgrade = "GET /first HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket";
    let want = [("GET /first", ""), ("GET /second", "")];
    let asked = "POST /first HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: 5";
    cases.push(seen(format!("{asked}\r\n\r\nhello{SECOND}"), &first));
    let h2c = "GET /first HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    cases.push(seen(format!("{h2c}{SECOND}"), &want));
    let mut preface = seen(format!("{h2c}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SECOND}"), &want[..1]);
    preface.is_refused = true;
    cases.push(preface);
    // A request with a body, if an empty one, asks for no change of protocol.
    let with_body = format!("{upgrade}\r\nContent-Length: 0\r\n\r\n{SECOND}");
    cases.push(seen(with_body, &want));
}
