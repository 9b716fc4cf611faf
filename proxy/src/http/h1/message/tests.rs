//! Heads as text: what is taken, what is refused, what the next hop gets.

use proptest::prelude::*;

use super::super::write::{ConnectionField, Emission, MeshFields, write_response_head};
use super::super::{HeadScan, RequestWriter};
use super::*;
use crate::http::Changes;
use weft_core::traffic::Rewrite;

fn request(text: &str) -> Result<(RequestHead, usize), HeadError> {
    let end = HeadScan::default().find_end(text.as_bytes())?.ok_or(HeadError::Syntax)?;
    let mut head = RequestHead::default();
    head.parse(&text.as_bytes()[..end])?;
    Ok((head, end))
}

fn forwarded(text: &str) -> String {
    let (head, end) = request(text).expect("a request");
    let mut out = Vec::new();
    let writer = RequestWriter { host_default: b"web", ..RequestWriter::default() };
    writer.write(head.on(&text.as_bytes()[..end]), &mut out);
    String::from_utf8(out).expect("text")
}

fn get(fields: &str) -> String {
    format!("GET /a?b HTTP/1.1\r\nHost: web\r\n{fields}\r\n")
}

#[test]
fn messages_that_could_be_read_in_two_ways_are_refused() {
    use HeadError as E;
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: web\r\n{fields}\r\n");
    let cases = [
        (
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            E::ContentLengthAndTransferEncoding,
        ),
        (post("Content-Length: 3\r\nContent-Length: 3\r\n"), E::ContentLength),
        (post("Content-Length: 3\r\ncontent-length: 4\r\n"), E::ContentLength),
        (post("Content-Length: 3, 3\r\n"), E::ContentLength),
        (post("Content-Length: +3\r\n"), E::ContentLength),
        (post("Content-Length: -3\r\n"), E::ContentLength),
        (post("Content-Length: 0x3\r\n"), E::ContentLength),
        (post("Content-Length: 3 3\r\n"), E::ContentLength),
        (post("Content-Length:\r\n"), E::ContentLength),
        (post("Content-Length: 99999999999999999999\r\n"), E::ContentLength),
        (post("Transfer-Encoding: gzip, chunked\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding: xchunked\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding: chunked, identity\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding: \"chunked\"\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding:\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding: identity\r\n"), E::TransferEncoding),
        (post("Transfer-Encoding : chunked\r\n"), E::Syntax),
        (post("Transfer-Encoding: chunked\n"), E::BareLineFeed),
        (post("Transfer-Encoding:\r\n chunked\r\n"), E::Syntax),
        (post("Transfer-Encoding: \x0bchunked\r\n"), E::Syntax),
        (post("Transfer-Encoding: chunked\0\r\n"), E::Syntax),
        (post("X: a\rb\r\n"), E::Syntax),
        (post(" X: a\r\n"), E::Syntax),
        (post(": a\r\n"), E::Syntax),
        (post("X\r\n"), E::Syntax),
        (post("X Y: a\r\n"), E::Syntax),
        (post("Expect: 200-ok\r\n"), E::Expectation),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), E::TransferEncoding),
        (get("Host: web\r\n"), E::Host),
        (get("Host: other\r\n"), E::Host),
        ("GET / HTTP/1.1\r\n\r\n".into(), E::Host),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), E::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), E::Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), E::Host),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), E::Host),
        ("GET http://other/ HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET https://web/ HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET web HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET * HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET /a#b HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET /\u{e9} HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("CONNECT web:80 HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Target),
        ("GET / HTTP/2.0\r\nHost: web\r\n\r\n".into(), E::Version),
        ("GET / HTTP/1.1\nHost: web\n\n".into(), E::BareLineFeed),
        ("\nGET / HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::BareLineFeed),
        ("GET  / HTTP/1.1\r\nHost: web\r\n\r\n".into(), E::Syntax),
        ("GET /\r\nHost: web\r\n\r\n".into(), E::Syntax),
        (get(&"X: y\r\n".repeat(limits::HTTP_HEADERS_MAX)), E::TooManyHeaders),
        (get(&format!("X: {}\r\n", "y".repeat(limits::HTTP_HEAD_BYTES_MAX))), E::TooLong),
    ];
    for (text, want) in cases {
        let shown: String = text.chars().take(120).collect();
        assert_eq!(request(&text).map(|_| ()), Err(want), "{shown:?}");
    }
}

#[test]
fn the_next_hop_gets_the_same_lines_without_those_of_this_hop() {
    let plain = get("Accept: */*\r\nX-A:  b \r\n");
    assert_eq!(forwarded(&plain), plain);
    assert_eq!(
        forwarded(&get("Connection: keep-alive, X-Hop\r\nx-hop: 1\r\nKeep-Alive: 1\r\nX: y\r\n")),
        get("X: y\r\n")
    );
    assert_eq!(
        forwarded(&get(
            "X-Forwarded-Client-Cert: me\r\nx_forwarded_client-cert: me\r\nX.Forwarded.Client.Cert: me\r\nX-Weft-Cause: x\r\n\
             TE: trailers\r\nProxy-Connection: x\r\nTrailer: x\r\nUpgrade: h2c\r\n\
             Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n"
        )),
        get("")
    );
    assert_eq!(
        forwarded(&get("Connection: Host, Content-Length\r\nContent-Length: 0\r\n")),
        get("Content-Length: 0\r\n")
    );
    assert_eq!(
        forwarded(&get("Connection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\n")),
        get("Upgrade: websocket\r\nX: y\r\nconnection: upgrade\r\n")
    );
    assert_eq!(
        forwarded("\r\nGET http://WEB HTTP/1.1\r\nHost: web\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
    );
    assert_eq!(
        forwarded("GET http://web?x HTTP/1.1\r\nHost: web\r\n\r\n"),
        "GET /?x HTTP/1.1\r\nHost: web\r\n\r\n"
    );
    assert_eq!(forwarded("OPTIONS * HTTP/1.0\r\n\r\n"), "OPTIONS * HTTP/1.1\r\nhost: web\r\n\r\n");
}

#[test]
fn a_legal_but_odd_framing_is_written_in_the_plain_way() {
    for (odd, plain) in [
        ("Transfer-Encoding:\tchunked\r\n", "transfer-encoding: chunked\r\n"),
        ("Transfer-Encoding:chunked\r\n", "transfer-encoding: chunked\r\n"),
        ("Transfer-Encoding: chunked \r\n", "transfer-encoding: chunked\r\n"),
        ("Transfer-Encoding: CHUNKED\r\n", "transfer-encoding: chunked\r\n"),
        ("Content-Length:  3\r\n", "content-length: 3\r\n"),
        ("Content-Length: 010\r\n", "content-length: 10\r\n"),
        ("Content-Length: 3\t\r\n", "content-length: 3\r\n"),
    ] {
        assert_eq!(
            forwarded(&get(&format!("A: b\r\n{odd}C: d\r\n"))),
            get(&format!("A: b\r\nC: d\r\n{plain}"))
        );
    }
}

#[test]
fn a_rewrite_changes_the_path_and_nothing_else() {
    let rewritten = |line: &str, matched_bytes| {
        let text = format!("{line} HTTP/1.1\r\nHost: web\r\n\r\n");
        let (head, _) = request(&text).expect("a request");
        let mut out = Vec::new();
        let rewrite = Some(Rewrite::Prefix { matched_bytes, replacement: "/new" });
        RequestWriter { rewrite, ..RequestWriter::default() }
            .write(head.on(text.as_bytes()), &mut out);
        String::from_utf8(out).expect("text").lines().next().expect("a line").to_owned()
    };
    assert_eq!(rewritten("GET /a/b?c", 2), "GET /new/b?c HTTP/1.1");
    assert_eq!(rewritten("GET http://web?c", 1), "GET /new?c HTTP/1.1");
    assert_eq!(rewritten("OPTIONS *", 0), "OPTIONS * HTTP/1.1");
}

#[test]
fn a_protocol_that_carries_requests_is_not_changed_to() {
    for protocol in ["h2c", "H2", "HTTP/2.0", "TLS/1.2", "websocket, h2c"] {
        let (head, _) = request(&get(&format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n")))
            .expect("a request");
        assert!(!head.wants_upgrade, "{protocol}");
    }
    let many = format!("Connection: {}\r\n", "a,".repeat(100));
    assert_eq!(request(&get(&many)).map(|_| ()), Err(HeadError::ConnectionOptions));
}

#[test]
fn a_request_tells_its_framing_and_the_fate_of_its_connection() {
    let of = |text: String| request(&text).expect("a request").0;
    assert_eq!(of(get("Content-Length: 3\r\n")).framing, Framing::Length(3));
    assert_eq!(of(get("transfer-encoding: Chunked\r\n")).framing, Framing::Chunked);
    assert_eq!(of(get("")).framing, Framing::Empty);
    assert!(of(get("")).is_persistent);
    assert!(!of(get("Connection: close\r\n")).is_persistent);
    assert!(!of("GET / HTTP/1.0\r\n\r\n".into()).is_persistent);
    assert!(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".into()).is_persistent);
    assert!(of(get("Expect: 100-Continue\r\n")).expects_continue);
    assert!(of(get("Connection: upgrade\r\nUpgrade: websocket\r\n")).wants_upgrade);
    assert!(!of(get("Upgrade: websocket\r\n")).wants_upgrade);
    let with_body = "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n";
    assert!(!of(get(with_body)).wants_upgrade);
}

fn response(text: &str, to_head: bool) -> Result<ResponseHead, HeadError> {
    let end = HeadScan::default().find_end(text.as_bytes())?.ok_or(HeadError::Syntax)?;
    let mut head = ResponseHead::default();
    head.parse(&text.as_bytes()[..end], to_head)?;
    Ok(head)
}

#[test]
fn an_answer_tells_how_its_body_ends() {
    let framing = |text: &str, to_head| response(text, to_head).map(|head| head.framing);
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(framing(&format!("{ok}\r\n"), false), Ok(Framing::UntilClose));
    assert_eq!(framing(&format!("{ok}\r\n"), true), Ok(Framing::Empty));
    assert_eq!(framing(&format!("{ok}Content-Length: 2\r\n\r\n"), false), Ok(Framing::Length(2)));
    assert_eq!(framing(&format!("{ok}Content-Length: 2\r\n\r\n"), true), Ok(Framing::Empty));
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framing(&format!("{ok}{chunked}"), false), Ok(Framing::Chunked));
    for code in ["100", "101", "204", "304"] {
        assert_eq!(framing(&format!("HTTP/1.1 {code} X\r\n\r\n"), false), Ok(Framing::Empty));
    }
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\n\r\n",
    ] {
        assert!(response(bad, false).is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn an_answer_is_written_for_its_client() {
    let text =
        "HTTP/1.0 200 Fine so\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Weft-A: b\r\nA: b\r\n\r\n";
    let head = response(text, false).expect("an answer");
    let written = |connection, (emission, mesh_fields)| {
        let how = (emission, mesh_fields, Changes::default());
        let mut out = Vec::new();
        write_response_head(&head, text.as_bytes(), connection, how, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(
        written(ConnectionField::None, (Emission::Chunked, MeshFields::Strip)),
        "HTTP/1.1 200 Fine so\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        written(ConnectionField::Close, (Emission::Unframed, MeshFields::Keep)),
        "HTTP/1.1 200 Fine so\r\nX-Weft-A: b\r\nA: b\r\nconnection: close\r\n\r\n"
    );
}

proptest! {
    #[test]
    fn any_segmentation_finds_the_same_end(
        text in "(\r\n){0,2}(GET|POST) /[a-z]{0,9} HTTP/1.1(\r\n|\n)([A-Z]: [a-z]{0,9}(\r\n|\n|\r)){0,5}(\r\n|\n)[a-z]{0,9}",
        cuts in proptest::collection::vec(0usize..100, 0..6),
    ) {
        let bytes = text.as_bytes();
        let whole = HeadScan::default().find_end(bytes);
        let mut scan = HeadScan::default();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut found = Ok(None);
        for cut in cuts {
            found = scan.find_end(&bytes[..cut]);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn no_input_breaks_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(end)) = HeadScan::default().find_end(&bytes) {
            let mut head = RequestHead::default();
            if head.parse(&bytes[..end]).is_ok() {
                RequestWriter::default().write(head.on(&bytes[..end]), &mut Vec::new());
            }
            // Whatever the answer, it is one.
            let _ = ResponseHead::default().parse(&bytes[..end], false);
        }
    }

    #[test]
    fn what_is_written_reads_as_what_was_read(
        fields in "((X-[A-Z]|Connection|Upgrade|Content-Length|TE|Host): ([a-z0-9]{1,5}|upgrade|x-a)\r\n){0,5}",
        line in "(GET|PUT) (/[a-z]{0,5}|http://web[/?]?[a-z]{0,3}) HTTP/1.[01]\r\n",
    ) {
        let text = format!("{line}{fields}\r\n");
        if let Ok((head, _)) = request(&text) {
            let out = forwarded(&text);
            let (again, _) = request(&out).expect("what we write, we accept");
            prop_assert_eq!(again.framing, head.framing);
            prop_assert_eq!(again.wants_upgrade, head.wants_upgrade);
            let (first, second) = (head.on(text.as_bytes()), again.on(out.as_bytes()));
            prop_assert_eq!(first.path(), second.path());
            prop_assert_eq!(first.query(), second.query());
        }
    }
}

#[test]
fn a_host_is_a_name_or_an_address_with_an_optional_port() {
    for host in
        ["web", "a_b.web", "web.", "web:80", "web:", "web.:8080", "10.0.0.1:1", "[::1]", "[::1]:80"]
    {
        assert!(is_host(host.as_bytes()), "{host} was refused");
    }
    // To some servers the first part alone is the host.
    for host in [
        "",
        ".",
        ":80",
        "web:x",
        "web:80:80",
        "web:80x",
        "web:123456",
        "web..",
        "a..web",
        ".web",
        "web%2e",
        "[::1",
        "::1",
        "[::1]x",
        "[::1%25lo]",
        "[web]",
        "[]",
        "x[::1]",
        "web,x",
        "u@web",
        "web/",
    ] {
        assert!(!is_host(host.as_bytes()), "{host} was accepted");
    }
}
