//! Records as they were written, in pieces of any size, and what is refused.

use super::*;

fn message() -> Vec<u8> {
    let mut out = Vec::new();
    let head =
        RequestHead { method: b"POST", is_https: false, authority: b"web", target: b"/a?b=1" };
    let mut fields = FieldsWriter::request(&mut out, &head);
    fields.field(b"te", b"trailers");
    fields.field(b"x-empty", b"");
    fields.finish().expect("short");
    for data in [&b"hello"[..], b" ", b"world"] {
        write_header(&mut out, RecordKind::Data, data.len());
        out.extend_from_slice(data);
    }
    let mut trailers = FieldsWriter::trailers(&mut out);
    trailers.field(b"grpc-status", b"0");
    trailers.finish().expect("short");
    write_end(&mut out);
    out
}

/// Reads all of it, of which so many bytes come at a time.
fn read(bytes: &[u8], step: usize) -> Result<Vec<String>, InvalidMessage> {
    let (mut reader, mut said, mut body) = (MessageReader::default(), Vec::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match reader.next(&bytes[start..end])? {
            Some((piece, count)) => {
                start += count;
                match piece {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::End => said.push(format!("end of {:?}", String::from_utf8_lossy(&body))),
                    Piece::Head(payload) => {
                        said.push(format!("{:?}", RequestHead::read(payload)?.0))
                    }
                    Piece::Interim(payload) => said.push(format!("{}", read_answer(payload)?.0)),
                    Piece::Reset(reason) => said.push(format!("reset {reason}")),
                    Piece::Trailers(payload) => {
                        said.push(format!("{:?}", Fields::of_trailers(payload).next()?));
                    }
                }
            }
            None if end == bytes.len() => return Ok(said),
            None => end = (end + step).min(bytes.len()),
        }
    }
}

#[test]
fn messages_come_out_as_they_went_in_whatever_the_pieces() {
    let twice = [message(), message()].concat();
    let whole = read(&twice, twice.len()).expect("well formed");
    assert_eq!(whole.len(), 6);
    assert_eq!(whole[2], "end of \"hello world\"");
    for step in 1..40 {
        assert_eq!(read(&twice, step).as_ref(), Ok(&whole), "{step}");
    }
}

#[test]
fn fields_come_in_order_with_empty_values() {
    let bytes = message();
    let mut reader = MessageReader::default();
    let Ok(Some((Piece::Head(payload), _))) = reader.next(&bytes) else { panic!("a head") };
    let (head, mut fields) = RequestHead::read(payload).expect("well formed");
    assert_eq!((head.method, head.target), (&b"POST"[..], &b"/a?b=1"[..]));
    assert_eq!(fields.next(), Ok(Some(Field { name: b"te", value: b"trailers" })));
    assert_eq!(fields.next(), Ok(Some(Field { name: b"x-empty", value: b"" })));
    assert_eq!(fields.next(), Ok(None));
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let data = [2, 0, 0, 1, b'x'];
    let end = [4, 0, 0, 0];
    let head = [1, 0, 0, 2, 0, 200];
    for (bytes, refusal) in [
        (&[0_u8, 0, 0, 0][..], InvalidMessage::Unknown { number: 0 }),
        (&[9, 0, 0, 0], InvalidMessage::Unknown { number: 9 }),
        (&data, InvalidMessage::Order { kind: RecordKind::Data }),
        (&end, InvalidMessage::Order { kind: RecordKind::End }),
        (&[head, head].concat(), InvalidMessage::Order { kind: RecordKind::Head }),
        (&[&head[..], &[2, 0, 0, 0]].concat(), InvalidMessage::Length { length: 0 }),
        (&[&head[..], &[4, 0, 0, 1]].concat(), InvalidMessage::Length { length: 1 }),
        (
            &[&head[..], &[3, 0, 0, 0], &data].concat(),
            InvalidMessage::Order { kind: RecordKind::Data },
        ),
        (&[1, 255, 255, 255], InvalidMessage::Length { length: RECORD_BYTES_MAX }),
        (&[6, 0, 0, 3, 0, 0, 0], InvalidMessage::Length { length: 3 }),
    ] {
        let (mut reader, mut rest) = (MessageReader::default(), bytes);
        let refused = loop {
            match reader.next(rest) {
                Ok(Some((_, count))) => rest = &rest[count..],
                Ok(None) => panic!("{bytes:?} is taken"),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, refusal, "{bytes:?}");
    }
    for payload in [&[][..], &[0, 0], &[0, 0, 9, b'x'], &[0, 0, 0, 0, 0]] {
        assert_eq!(RequestHead::read(payload).err(), Some(InvalidMessage::Fields), "{payload:?}");
    }
    assert_eq!(read_answer(&[200]).err(), Some(InvalidMessage::Fields));
}

#[test]
fn what_no_peer_would_take_is_not_written() {
    let mut out = b"before".to_vec();
    let mut fields = FieldsWriter::answer(&mut out, 200);
    for _ in 0..3 {
        fields.field(b"x", &[b'y'; 30_000]);
    }
    assert!(fields.finish().is_err());
    assert_eq!(out, b"before");
}
