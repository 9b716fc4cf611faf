//! Headers as others write them, cut anywhere and damaged, and what is read of them.

use super::*;

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn between(from: &str, to: &str) -> Header {
    Header { ends: Some((end(from), end(to))), ..Header::default() }
}

/// A header of version 2 by its parts.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = V2_SIGNATURE.to_vec();
    out.extend([command, family]);
    out.extend((rest.len() as u16).to_be_bytes());
    out.extend_from_slice(rest);
    out
}

#[test]
fn version_1_tells_two_ends_in_one_line() {
    for (line, want) in [
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            between("192.168.0.1:56324", "192.168.0.11:443"),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", between("[2001:db8::1]:1", "[::1]:65535")),
        ("PROXY UNKNOWN\r\n", Header::default()),
        ("PROXY UNKNOWN ffff:f:x 1 2\r\n", Header::default()),
    ] {
        let bytes = [line.as_bytes(), b"GET /"].concat();
        assert_eq!(Header::parse(&bytes), Ok(Some((want.clone(), line.len()))), "{line}");
        for cut in 0..line.len() {
            assert_eq!(Header::parse(&bytes[..cut]), Ok(None), "{line} until {cut}");
        }
    }
}

#[test]
fn what_is_no_line_of_version_1_is_refused() {
    for (line, want) in [
        ("GET / HTTP/1.1\r\n", InvalidHeader::Absent),
        ("PROXY\tTCP4 ", InvalidHeader::Absent),
        ("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", InvalidHeader::Absent),
        ("PROXY \r\n", InvalidHeader::Field),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", InvalidHeader::Field),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", InvalidHeader::Field),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", InvalidHeader::Field),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", InvalidHeader::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", InvalidHeader::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", InvalidHeader::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n", InvalidHeader::Address),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", InvalidHeader::Address),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", InvalidHeader::Address),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", InvalidHeader::Address),
    ] {
        assert_eq!(Header::parse(line.as_bytes()), Err(want), "{line}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
    assert_eq!(Header::parse(endless.as_bytes()), Err(InvalidHeader::TooLong));
}

#[test]
fn what_is_written_is_read_again_and_never_before_it_is_whole() {
    let full = Header {
        alpn: Some(b"h2".to_vec()),
        authority: Some("web.default.dc1.internal".to_owned()),
        ssl: Some(Ssl { version: "TLSv1.3".to_owned(), common_name: Some("shop".to_owned()) }),
        spiffe_id: Some("spiffe://mesh/ns/default/dc/dc1/svc/shop".to_owned()),
        ..between("192.0.2.1:1000", "198.51.100.7:443")
    };
    for header in [Header::default(), full, between("[2001:db8::1]:1", "[2001:db8::2]:2")] {
        let bytes = header.write_v2();
        assert_eq!(Header::parse(&bytes), Ok(Some((header.clone(), bytes.len()))));
        for cut in 0..bytes.len() {
            assert_eq!(Header::parse(&bytes[..cut]), Ok(None), "until {cut}");
        }
        for at in V2_FIXED_BYTES..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let read = Header::parse(&damaged);
            let is_whole = matches!(&read, Ok(Some((other, _))) if *other == header);
            assert!(!is_whole, "byte {at} counts: {read:?}");
        }
        let line = header.write_v1();
        let ends_alone = Header { ends: header.ends, ..Header::default() };
        assert_eq!(Header::parse(&line), Ok(Some((ends_alone, line.len()))));
        assert!(line.len() <= V1_BYTES_MAX);
    }
}

#[test]
fn ends_of_two_families_are_written_in_one() {
    let mixed = between("192.0.2.1:1", "[2001:db8::1]:2");
    let read = between("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2");
    assert_eq!(Header::parse(&mixed.write_v2()).expect("a header").expect("whole").0, read);
    assert_eq!(mixed.write_v1(), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n");
    let mapped = between("[::ffff:192.0.2.1]:1", "192.0.2.2:2");
    assert_eq!(mapped.write_v1(), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}

/// The bytes of haproxy 3.0 with `send-proxy-v2`, from 127.0.0.1:40000 to 127.0.0.1:9000.
#[test]
fn version_2_of_others_is_read() {
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0x9c, 0x40, 0x23, 0x28];
    let want = between("127.0.0.1:40000", "127.0.0.1:9000");
    let bytes = v2(0x21, 0x11, &addresses);
    assert_eq!(Header::parse(&bytes), Ok(Some((want.clone(), 28))));
    // Unknown fields, and those that say nothing, are passed over.
    let fields = [&addresses[..], &[0x04, 0, 2, 0, 0], &[0x30, 0, 1, b'x'], &[0xee, 0, 0]].concat();
    let bytes = v2(0x21, 0x11, &fields);
    assert_eq!(Header::parse(&bytes), Ok(Some((want, bytes.len()))));
    // A check of health, a datagram, a unix socket: there is nobody to tell of.
    for (command, family, length) in
        [(0x20, 0x00, 0), (0x20, 0x11, 12), (0x21, 0x12, 12), (0x21, 0x31, 216)]
    {
        let bytes = v2(command, family, &vec![0; length]);
        assert_eq!(Header::parse(&bytes), Ok(Some((Header::default(), bytes.len()))));
    }
}

#[test]
fn what_is_no_header_of_version_2_is_refused() {
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0x9c, 0x40, 0x23, 0x28];
    let with = |fields: &[u8]| v2(0x21, 0x11, &[&addresses[..], fields].concat());
    for (bytes, want) in [
        (v2(0x11, 0x11, &addresses), InvalidHeader::Command),
        (v2(0x22, 0x11, &addresses), InvalidHeader::Command),
        (v2(0x21, 0x11, &addresses[..11]), InvalidHeader::Address),
        (v2(0x21, 0x41, &addresses), InvalidHeader::Address),
        (v2(0x21, 0x21, &addresses), InvalidHeader::Address),
        (with(&[1, 0]), InvalidHeader::Field),
        (with(&[1, 0, 2, b'h']), InvalidHeader::Field),
        (with(&[2, 0, 1, b'\n']), InvalidHeader::Field),
        (with(&[2, 0, 1, 0xff]), InvalidHeader::Field),
        (with(&[0x20, 0, 4, 1, 0, 0, 0]), InvalidHeader::Field),
        (with(&[0x20, 0, 7, 1, 0, 0, 0, 0, 0x21, 0]), InvalidHeader::Field),
        (with(&[3, 0, 3, 0, 0, 0]), InvalidHeader::Field),
        (with(&[3, 0, 4, 0, 0, 0, 1]), InvalidHeader::Checksum),
        (v2(0x21, 0x11, &[0; HEADER_BYTES_MAX]), InvalidHeader::TooLong),
    ] {
        assert_eq!(Header::parse(&bytes), Err(want), "{bytes:?}");
    }
    // The length alone is enough to refuse.
    let long = [&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
    assert_eq!(Header::parse(&long), Err(InvalidHeader::TooLong));
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
