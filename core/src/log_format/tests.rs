//! Forms and the lines that they make.

use std::time::Duration;

use super::*;

fn record() -> LogRecord {
    LogRecord {
        start_ns: 1_700_000_000_123_456_789,
        direction: "inbound",
        protocol: Some("HTTP/1.1"),
        method: "GET".into(),
        authority: "web.example".into(),
        path: "/a".into(),
        query: Some(shown_query(b"page=2&api_token=s3cret").into()),
        status: 200,
        bytes_received: 1,
        bytes_sent: 2,
        duration: Duration::from_micros(7_900),
        response_duration: Some(Duration::from_millis(5)),
        remote: Some(([10, 0, 0, 1], 4444).into()),
        tls_version: Some("TLSv1.3"),
        grpc_status: Some(14),
        cluster: "local_app".into(),
        trace: Some(0xabc),
        ..LogRecord::default()
    }
}

fn headers(name: &str, visit: &mut dyn FnMut(&[u8])) {
    match name {
        "authorization" => visit(b"Bearer s3cret"),
        "user-agent" => visit(b"a\"b\r\n\x1b[31m\xe2\x80\xaec\xff"),
        "x-two" => [&b"1"[..], b"2"].into_iter().for_each(visit),
        _ => {}
    }
}

fn line(format: &LogFormat, record: LogRecord) -> String {
    let record = LogRecord {
        request_headers: format.request_headers(headers),
        response_headers: format.response_headers(headers),
        trailers: format.trailers(headers),
        ..record
    };
    let scope = LogScope {
        proxy_id: "web-proxy".into(),
        service: "web".into(),
        identity: "spiffe://mesh/web".into(),
        hostname: "node-1".into(),
    };
    let mut line = String::new();
    format.write(&scope, &record, &mut line);
    line
}

#[test]
fn operators_tell_what_envoys_tell() {
    for (form, want) in [
        ("%REQ(:METHOD)% %REQ(:PATH)%", "GET /a?page=2&api_token=(hidden)"),
        ("%PATH(NQ)% %PATH% 100%%", "/a /a?page=2&api_token=(hidden) 100%"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):4%|", "/a?p|"),
        ("%REQ(Host)% %REQ(:scheme)%", "web.example http"),
        ("%REQ(AUTHORIZATION)% %REQ(x-none)% %RESP(X-Two)%", "(hidden) - 1"),
        ("%TRAILER(x-none?x-two)% %RESP(:STATUS)%", "1 200"),
        ("\"%REQ(USER-AGENT)%\"", r#""a\"b\r\n\u{1b}[31m\u{202e}c�""#),
        ("%START_TIME%", "2023-11-14T22:13:20.123Z"),
        ("%START_TIME(%s.%3f %s.%6f %f)%", "1700000000.123 1700000000.123456 123456789"),
        ("%START_TIME(%Y/%m/%dT%H:%M:%S%z %Z %%)%", "2023/11/14T22:13:20+0000 UTC %"),
        (
            "%START_TIME(%a %A %b %B %e %j %I %p %y %D %F %R %T)%",
            "Tue Tuesday Nov November 14 318 10 PM 23 11/14/23 2023-11-14 22:13 22:13:20",
        ),
        (
            "%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%",
            "HTTP/1.1 200 - via_upstream",
        ),
        (
            "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%",
            "1 2 7 5 2",
        ),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%",
            "10.0.0.1:4444 10.0.0.1 4444",
        ),
        (
            "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%",
            "Unavailable UNAVAILABLE 14",
        ),
        (
            "%TRACE_ID% %HOSTNAME% %DOWNSTREAM_LOCAL_URI_SAN% %UPSTREAM_HOST%",
            "00000000000000000000000000000abc node-1 spiffe://mesh/web -",
        ),
    ] {
        let format = LogFormat::text(form).expect(form);
        assert_eq!(line(&format, record()), want, "{form}");
    }
}

#[test]
fn json_keeps_numbers_and_has_null_for_what_is_absent() {
    for (form, want) in [
        (r#"{"b":"%RESPONSE_CODE%","a":"%UPSTREAM_HOST%"}"#, r#"{"a":null,"b":200}"#),
        (r#"{"a":"%PROTOCOL% %UPSTREAM_HOST%"}"#, r#"{"a":"HTTP/1.1 -"}"#),
        (
            r#"{"a":{"b":["%DURATION%",1,true,null,"x"]},"c":{},"d":[]}"#,
            r#"{"a":{"b":[7,1,true,null,"x"]},"c":{},"d":[]}"#,
        ),
        (r#"{"q\"":"%REQ(USER-AGENT)%"}"#, r#"{"q\"":"a\"b\u000d\u000a\u001b[31m\u202ec�"}"#),
        (r#"{"a":"%RESPONSE_FLAGS%","b":"%REQ(:METHOD):1%"}"#, r#"{"a":"-","b":"G"}"#),
    ] {
        let format = LogFormat::json(form).expect(form);
        let text = line(&format, record());
        assert_eq!(text, want);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (form, want) in [
        ("%FILTER_STATE(x)%", "%FILTER_STATE% is not an operator"),
        ("%response_code%", "begins no operator"),
        ("%REQ(x", "not ended"),
        ("50% of", "begins no operator"),
        ("%DURATION", "not ended"),
        ("%DURATION(x)%", "takes nothing"),
        ("%REQ%", "needs the name of a header"),
        ("%REQ(a b)%", "is not the name of a header"),
        ("%REQ(:nothing)%", "is not the name of a header"),
        ("%REQ(x):y%", "is no length"),
        ("%START_TIME(%Q)%", "%Q is no part of a date"),
        ("%START_TIME(%)%", "single %"),
        ("%PATH(x)%", "neither"),
        ("a\nb", "line break"),
        ("", "says nothing"),
    ] {
        let error = LogFormat::text(form).expect_err(form);
        assert!(error.to_string().contains(want), "{form}: {error}");
    }
    for (form, place, want) in [
        ("[]", "", "must be a JSON object"),
        ("{", "", "EOF"),
        (r#"{"a":{"b":[1,"%NO%"]}}"#, ".a.b[1]", "%NO% is not an operator"),
    ] {
        let error = LogFormat::json(form).expect_err(form);
        assert!(error.place == place && error.reason.contains(want), "{form}: {error:?}");
    }
    let many = "%DURATION%".repeat(129);
    assert!(LogFormat::text(&many).expect_err("too many").reason.contains("more than 128"));
    let deep = format!("{}1{}", r#"{"a":"#.repeat(10), "}".repeat(10));
    assert!(LogFormat::json(&deep).expect_err("too deep").reason.contains("deeper"));
}

#[test]
fn connections_have_a_line_of_their_own() {
    let record = LogRecord {
        protocol: None,
        method: "".into(),
        path: "".into(),
        query: None,
        authority: "".into(),
        status: 0,
        cause: Some("connection-broken"),
        ..record()
    };
    let format = LogFormat::text(
        "%REQ(:METHOD)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% \
         %CONNECTION_TERMINATION_DETAILS%",
    );
    let text = line(&format.expect("a form"), record);
    assert_eq!(text, "- - 0 - UC connection-broken");
}

#[test]
fn the_forms_of_our_own_are_forms() {
    let json: serde_json::Value =
        serde_json::from_str(&line(&LogFormat::standard(), record())).expect("JSON");
    assert_eq!(json["path"], "/a", "and no query");
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(24));
    let text = line(&LogFormat::text(PLAIN_LOG_FORMAT).expect("a form"), record());
    assert!(
        text.starts_with("2023-11-14T22:13:20.123Z inbound web \"GET /a HTTP/1.1\" 200 - "),
        "{text}"
    );
}

#[test]
fn every_flag_is_one_of_envoys() {
    for cause in ["no-endpoint", "client-gone", "overload", "request-timeout", "connect-failed"] {
        assert!(RESPONSE_FLAGS.contains(&flag_of(cause).expect(cause)));
    }
    assert_eq!(
        shown_query(b"a=1&Session=x&b=eyJhbGciOi.x.y&to%6ben=x&c"),
        "a=1&Session=(hidden)&b=(hidden)&to%6ben=(hidden)&c"
    );
}
