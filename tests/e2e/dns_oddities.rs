//! Messages that no good caller sends: each gets the right answer or none, and the next good
//! query is answered as ever.
//!
//! **Source**: RFC 1035 §4, RFC 6891 §6.1, RFC 7766 §8, RFC 9267 (common implementation faults).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;
use weft_tests::Cluster;

use crate::dns::wait_lines;

/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(10);

const NO_ERROR: u8 = 0;
const FORM_ERR: u8 = 1;
const NOT_IMP: u8 = 4;
const REFUSED: u8 = 5;

/// What a message gets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gets {
    /// An answer with that code in its head.
    Code(u8),
    Nothing,
}

/// A head with these flags and counts.
fn head(flags: [u8; 2], counts: [u8; 4]) -> Vec<u8> {
    let mut head = vec![0x77, 0x01, flags[0], flags[1]];
    head.extend(counts.iter().flat_map(|count| [0, *count]));
    head
}

const WEB: &[u8] = b"\x03web\x07service\x04mesh\0";
const A_IN: &[u8] = b"\0\x01\0\x01";
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

fn oddities() -> Vec<(&'static str, Vec<u8>, Gets)> {
    use Gets::{Code, Nothing};
    let asks = |counts, parts: &[&[u8]]| [head([1, 0], counts), parts.concat()].concat();
    let one = |parts: &[&[u8]]| asks([1, 0, 0, 0], parts);
    let with_opt = |opt: &[u8]| asks([1, 0, 0, 1], &[WEB, A_IN, opt]);
    let flagged = |flags| [head(flags, [1, 0, 0, 0]), WEB.to_vec(), A_IN.to_vec()].concat();
    let long_label = [&[64_u8][..], &[b'a'; 64], b"\0"].concat();
    let long_name = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5);
    vec![
        ("nothing", Vec::new(), Nothing),
        ("one byte", vec![0], Nothing),
        ("half a head", head([1, 0], [1, 0, 0, 0])[..11].to_vec(), Nothing),
        ("a head alone", head([1, 0], [1, 0, 0, 0]), Code(FORM_ERR)),
        ("a head that asks nothing", head([1, 0], [0, 0, 0, 0]), Code(FORM_ERR)),
        ("a name that points to itself", one(&[b"\xc0\x0c", A_IN]), Code(FORM_ERR)),
        ("a name that points ahead", one(&[b"\xc0\x40", A_IN]), Code(FORM_ERR)),
        (
            "two names that point to each other",
            one(&[b"\x01a\xc0\x10\xc0\x0c", A_IN]),
            Code(FORM_ERR),
        ),
        ("a name that points to a zero in the head", one(&[b"\xc0\x04", A_IN]), Code(REFUSED)),
        ("a label above 63 bytes", one(&[&long_label, A_IN]), Code(FORM_ERR)),
        ("a name above 255 bytes", one(&[&long_name, b"\0", A_IN]), Code(FORM_ERR)),
        ("a name without an end", one(&[b"\x03web\x07serv"]), Code(FORM_ERR)),
        ("a question without a class", one(&[WEB, b"\0\x01"]), Code(FORM_ERR)),
        ("an answer", flagged([0x84, 0]), Nothing),
        ("an answer with nothing", head([0x80, 0], [0, 0, 0, 0]), Nothing),
        ("a status request", flagged([0x11, 0]), Code(NOT_IMP)),
        ("class CHAOS", one(&[WEB, b"\0\x01\0\x03"]), Code(REFUSED)),
        ("class NONE", one(&[WEB, b"\0\x01\0\xfe"]), Code(REFUSED)),
        ("class ANY", one(&[WEB, b"\0\x01\0\xff"]), Code(NO_ERROR)),
        ("an unknown type", one(&[WEB, b"\xff\x01\0\x01"]), Code(NO_ERROR)),
        ("another zone", one(&[b"\x07example\x03com\0", A_IN]), Code(REFUSED)),
        ("the root", one(&[b"\0", A_IN]), Code(REFUSED)),
        ("bits that mean nothing", flagged([1, 0x70]), Code(NO_ERROR)),
        ("two questions", asks([2, 0, 0, 0], &[WEB, A_IN, WEB, A_IN]), Code(FORM_ERR)),
        ("records that are not there", asks([1, 1, 0, 0], &[WEB, A_IN]), Code(FORM_ERR)),
        ("two OPT records", asks([1, 0, 0, 2], &[WEB, A_IN, OPT, OPT]), Code(FORM_ERR)),
        ("OPT of a later version", with_opt(b"\0\0\x29\x04\xd0\0\x05\0\0\0\0"), Code(NO_ERROR)),
        ("OPT with a payload of 0", with_opt(b"\0\0\x29\0\0\0\0\0\0\0\0"), Code(NO_ERROR)),
        ("OPT that is too long", with_opt(b"\0\0\x29\x04\xd0\0\0\0\0\xff\xff"), Code(FORM_ERR)),
        (
            "OPT with half an option",
            with_opt(b"\0\0\x29\x04\xd0\0\0\0\0\0\x02\0\x0a"),
            Code(NO_ERROR),
        ),
        (
            "an unknown option",
            with_opt(b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\xff\xf0\0\x02hi"),
            Code(NO_ERROR),
        ),
    ]
}

fn code(answer: &[u8]) -> Gets {
    assert!(answer.len() >= 12 && answer[..2] == [0x77, 0x01], "{answer:02x?}");
    assert!(answer[2] & 0x80 != 0, "it says that it is an answer: {answer:02x?}");
    Gets::Code(answer[3] & 0x0f)
}

fn over_udp(dns: SocketAddr, message: &[u8], wanted: Gets) -> Gets {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let limit = if wanted == Gets::Nothing { SILENCE } else { LIMIT };
    socket.set_read_timeout(Some(limit)).expect("a socket has a limit");
    socket.send_to(message, dns).expect("sent");
    let mut answer = [0; 4_096];
    match socket.recv(&mut answer) {
        Ok(length) => code(&answer[..length]),
        Err(_) => Gets::Nothing,
    }
}

fn connect(dns: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(dns).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket has a limit");
    stream
}

/// Sends a message with the length that it has; whoever sends none is left.
fn over_tcp(dns: SocketAddr, message: &[u8]) -> Gets {
    let mut stream = connect(dns);
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], message].concat()).expect("sent");
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return Gets::Nothing;
    }
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("a whole answer");
    code(&answer)
}

#[test]
fn odd_messages_are_answered_right_and_harm_nobody() {
    let mut cluster = Cluster::start();
    // The library that reads them says so.
    cluster.agent.process.expect_log("poorly formatted EDNS options");
    cluster.agent.register(&json!({ "Name": "web", "Port": 80 }));
    let dns = cluster.agent.dns();
    if weft_tests::tools::find("dig").is_some() {
        wait_lines(dns, &["web.service.mesh"], &["127.0.0.1"]);
    }
    let good = [head([1, 0], [1, 0, 0, 0]), WEB.to_vec(), A_IN.to_vec()].concat();
    let mut wrong = Vec::new();
    for (what, message, wanted) in oddities() {
        let udp = over_udp(dns, &message, wanted);
        let tcp = over_tcp(dns, &message);
        if (udp, tcp) != (wanted, wanted) {
            wrong.push(format!("{what}: UDP {udp:?}, TCP {tcp:?}, not {wanted:?}"));
        }
        assert_eq!(over_udp(dns, &good, Gets::Code(0)), Gets::Code(0), "after {what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lies_about_lengths_over_tcp_cost_the_liar_alone() {
    let cluster = Cluster::start();
    let dns = cluster.agent.dns();
    let query = [head([1, 0], [1, 0, 0, 0]), b"\x04mesh\0\0\x06\0\x01".to_vec()].concat();
    let length = u16::try_from(query.len()).expect("short").to_be_bytes();

    // A length of nothing ends the conversation.
    let mut stream = connect(dns);
    stream.write_all(&[0, 0]).expect("sent");
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    // One that is too short makes two messages of one, neither of which is a query.
    let mut stream = connect(dns);
    stream.write_all(&[&[0, 5][..], &query[..]].concat()).expect("sent");
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    // One that is too long waits for the rest; others are served meanwhile.
    let mut patient = connect(dns);
    patient.write_all(&[&[0xff, 0xff][..], &query[..]].concat()).expect("sent");
    for _ in 0..3 {
        assert_eq!(over_tcp(dns, &query), Gets::Code(0));
    }
    // A query in pieces is a query, and so are two in one piece.
    let mut stream = connect(dns);
    for byte in [&length[..], &query[..]].concat() {
        stream.write_all(&[byte]).expect("sent");
    }
    stream.write_all(&[&length[..], &query[..], &length[..], &query[..]].concat()).expect("sent");
    for _ in 0..3 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("a whole answer");
        assert_eq!(code(&answer), Gets::Code(0));
    }
}
