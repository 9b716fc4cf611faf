//! Messages made by hand and cut anywhere, with the name that is to be found in them.

use super::*;

/// An extension with the server name.
fn sni(name: &[u8]) -> Vec<u8> {
    let mut list = vec![HOST_NAME];
    list.extend((name.len() as u16).to_be_bytes());
    list.extend_from_slice(name);
    let mut content = (list.len() as u16).to_be_bytes().to_vec();
    content.append(&mut list);
    extension(SERVER_NAME, &content)
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend((content.len() as u16).to_be_bytes());
    out.extend_from_slice(content);
    out
}

/// A message with these extensions; `None` for one that has no place for them.
fn message(extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0]);
    body.extend([0, 4, 0x1a, 0x1a, 0x13, 0x01]);
    body.extend([1, 0]);
    if let Some(extensions) = extensions {
        let extensions = extensions.concat();
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
    }
    let mut out = vec![CLIENT_HELLO, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// The message in records of this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let mut out = vec![HANDSHAKE, 3, 1];
        out.extend((part.len() as u16).to_be_bytes());
        out.extend_from_slice(part);
        out
    };
    message.chunks(size).flat_map(record).collect()
}

const GREASE: u16 = 0x0a0a;
const ECH: u16 = 0xfe0d;

#[test]
fn the_name_is_found_among_whatever_else_there_is() {
    let name = |text: &str| Some(text.to_owned());
    for (extensions, want) in [
        (Some(vec![sni(b"db.example.com")]), name("db.example.com")),
        (Some(vec![sni(b"DB.Example.COM.")]), name("db.example.com")),
        (Some(vec![extension(GREASE, b""), sni(b"a"), extension(0x2a2a, b"x")]), name("a")),
        (Some(vec![sni(b"public.example"), extension(ECH, &[0; 300])]), name("public.example")),
        (Some(vec![extension(51, &[0; 1300]), sni(b"late.example")]), name("late.example")),
        (Some(vec![extension(GREASE, b""), extension(ECH, &[0; 9])]), None),
        (Some(vec![]), None),
        (None, None),
    ] {
        let message = message(extensions.as_deref());
        for size in [1, 3, 4, 5, 100, 16_384] {
            let bytes = records(&message, size);
            assert_eq!(server_name(&bytes), Ok(Some(want.clone())), "in records of {size}");
            for cut in 0..bytes.len() {
                assert_eq!(server_name(&bytes[..cut]), Ok(None), "until {cut} of {size}");
            }
            let more = [&bytes[..], b"what follows"].concat();
            assert_eq!(server_name(&more), Ok(Some(want.clone())));
        }
    }
}

#[test]
fn what_is_not_tls_is_known_by_its_first_bytes() {
    for bytes in [
        &b"G"[..],
        b"SSH-2.0-x\r\n",
        b"\x16\x02",
        b"\x16\x03\x01\0\x01\x02",
        b"\x80\x2e\x01\x03\x01",
    ] {
        assert_eq!(server_name(bytes), Err(InvalidHello::NotTls), "{bytes:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = message(Some(&[sni(b"a.example")]));
        change(&mut message);
        server_name(&records(&message, 16_384))
    };
    let longer = |message: &mut Vec<u8>| message[3] -= 1;
    assert_eq!(broken(&longer), Err(InvalidHello::Malformed));
    for at in [38, 40, 45, 47, 51, 53, 56] {
        let refused = broken(&|message| message[at] = message[at].wrapping_add(200));
        assert!(matches!(refused, Err(_) | Ok(Some(None))), "byte {at}: {refused:?}");
    }
    let twice = message(Some(&[sni(b"a"), sni(b"b")]));
    assert_eq!(server_name(&records(&twice, 16_384)), Err(InvalidHello::Malformed));
    for name in [&b""[..], b"a b", b"a\0.example", b"\xff", "ä".as_bytes(), &[b'x'; 256]] {
        let message = message(Some(&[sni(name)]));
        assert_eq!(server_name(&records(&message, 16_384)), Err(InvalidHello::Name), "{name:?}");
    }
    assert_eq!(server_name(b"\x16\x03\x01\0\0"), Err(InvalidHello::Malformed));
    assert_eq!(server_name(b"\x16\x03\x01\x40\0\x01\x01\0\0"), Err(InvalidHello::TooLong));
    let endless = records(&[[CLIENT_HELLO, 0, 0x3f, 0xff].as_slice(), &[0; 16_000]].concat(), 1);
    assert_eq!(server_name(&endless[..HELLO_BYTES_MAX]), Err(InvalidHello::TooLong));
}
