//! What is fuzzed: one function for each decoder of bytes that come from network, disk or users.
//!
//! None may panic, overflow the stack or take memory without bound, whatever the bytes; what they
//! accept must survive being written and read again where there is a writer.

#[path = "../../proxy/tests/it/support/strict.rs"]
mod strict;

use std::collections::BTreeMap;
use std::str::from_utf8;

use weft_core::canonical_path::CanonicalPath;
use weft_core::catalog::{CatalogRegistration, CheckDefinition, ServiceDefinition};
use weft_core::dns::{Question, RecordType, Settings};
use weft_core::filter::Filter;
use weft_core::index::Index;
use weft_core::kv::KvKey;
use weft_core::limits;
use weft_core::name::Datacenter;
use weft_core::state::{Answer, Command, State, StateSnapshot};
use weft_core::time::Timestamp;
use weft_core::traffic::client_hello::server_name;
use weft_core::traffic::datagrams::{
    LEAVE, Piece as Datagram, Reader, length_before, read_varint, write_varint,
};
use weft_core::traffic::message::{
    Field, Fields, FieldsWriter, MessageReader, Piece, RECORD_HEADER_BYTES, RecordKind,
    RequestHead, read_answer, write_end, write_header, write_reset,
};
use weft_core::traffic::mux::{Event, Mux, Side, StreamKind};
use weft_core::traffic::proxy_protocol::{HEADER_BYTES_MAX, Header};
use weft_proto::join_token::JoinToken;
use weft_proto::text::Unknown;
use weft_proto::{envelope, json, text};

/// A target's name, which is also the name of the folder with its corpus, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub(crate) const TARGETS: [Target; 25] = [
    ("acl_rules", acl_rules),
    ("agent_api", agent_api),
    ("agent_definitions", agent_definitions),
    ("canonical_path", canonical_path),
    ("client_hello", client_hello),
    ("command", command),
    ("datagrams", datagrams),
    ("dns_message", weft_agent::dns::untrusted::message),
    ("dns_question", dns_question),
    ("filter", filter),
    ("hcl", hcl),
    ("http1", http1),
    ("join_token", join_token),
    ("json_acl", json_acl),
    ("json_config_entry", json_config_entry),
    ("json_intention", json_intention),
    ("json_prepared_query", json_prepared_query),
    ("json_registration", json_registration),
    ("json_txn", json_txn),
    ("jwt", weft_server::untrusted::login),
    ("messages", messages),
    ("mux", mux),
    ("proxy_protocol", proxy_protocol),
    ("raft", weft_server::untrusted::raft),
    ("snapshot", snapshot),
];

/// The rules of a policy, in HCL or JSON; what was read can be written, and means the same.
fn acl_rules(bytes: &[u8]) {
    let Ok(content) = from_utf8(bytes) else { return };
    if let Ok(rules) = text::parse_rules(content) {
        let written = rules.to_string();
        let again = text::parse_rules(&written).expect("what was written is readable");
        assert_eq!(again, rules, "{written}");
    }
}

/// A caller's bytes and a service's, apart at a line with a caret. What the service gets is requests
/// that nobody can read in two ways, the last of them perhaps broken off; an answer that was cut is not
/// taken for whole.
fn http1(bytes: &[u8]) {
    let apart = bytes.windows(3).position(|three| three == b"\n^\n");
    let (caller, service) = match apart {
        Some(at) => (&bytes[..at], &bytes[at + 3..]),
        None => (bytes, &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let carried = runtime.block_on(weft_proxy::untrusted::http1(caller, service));
    assert!(carried.answered.len() <= 64 * (caller.len() + service.len()) + (64 << 10));
    let mut asked = &carried.asked[..];
    if asked.windows(21).any(|part| part == b"\r\nconnection: upgrade") {
        // Bytes may follow that are no request.
        return;
    }
    loop {
        match strict::first_request(asked, None) {
            Ok(Some((_, length))) => asked = &asked[length..],
            Ok(None) => break,
            Err(why) => panic!("{why}: {:?}", String::from_utf8_lossy(asked)),
        }
    }
}

/// The first message of TLS; what is decided does not depend on what follows.
fn client_hello(bytes: &[u8]) {
    let decided = server_name(bytes);
    if let Ok(Some(name)) = &decided {
        assert!(name.as_ref().is_none_or(|name| name.len() <= limits::HOST_NAME_BYTES_MAX));
        assert_eq!(server_name(&[bytes, b"more"].concat()), decided);
    }
}

/// The header before a connection; what was read can be written, and says the same.
fn proxy_protocol(bytes: &[u8]) {
    if let Ok(Some((header, length))) = Header::parse(bytes) {
        assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
        let written = header.write_v2();
        let read = Header::parse(&written).expect("what was written is readable").expect("whole");
        assert_eq!(read.0.ends.is_some(), header.ends.is_some());
        Header::parse(&header.write_v1()).expect("what was written is readable").expect("whole");
    }
}

/// Datagrams on a stream: the same whatever the pieces in which they come, and what was read can be
/// written and is what was there. The number before one beside a stream is the same written again, or
/// shorter.
fn datagrams(bytes: &[u8]) {
    if let Some((number, count)) = read_varint(bytes) {
        let mut written = Vec::new();
        write_varint(number, &mut written);
        assert!(written.len() <= count);
        assert_eq!(read_varint(&written), Some((number, written.len())));
    }
    let Some((step, bytes)) = bytes.split_first() else { return };
    let whole = datagrams_read(bytes, bytes.len().max(1));
    assert!(bytes.starts_with(&whole));
    assert_eq!(whole, datagrams_read(bytes, usize::from(*step).max(1)));
}

/// Reads as far as the rules are kept, in pieces of so many bytes, and writes it again.
fn datagrams_read(bytes: &[u8], step: usize) -> Vec<u8> {
    let (mut reader, mut written) = (Reader::default(), Vec::new());
    for mut piece in bytes.chunks(step) {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(Datagram::Datagram(datagram))) => {
                    written.extend(length_before(datagram).expect("it was read"));
                    written.extend_from_slice(datagram);
                }
                Ok(Some(Datagram::Leave)) => written.extend(LEAVE),
                Ok(None) => break,
                Err(_) => return written,
            }
        }
    }
    written
}

/// Messages between proxies: the same whatever the pieces in which they come, and what was read can be
/// written and is the same again.
fn messages(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let whole = message_records(bytes, bytes.len());
    assert_eq!(whole, message_records(bytes, usize::from(*step).max(1)));
    assert!(whole.len() <= bytes.len() + RECORD_HEADER_BYTES * bytes.len());
    assert_eq!(whole, message_records(&whole, whole.len()));
}

/// Reads as far as the rules are kept and writes it again, each run of data as one record.
fn message_records(bytes: &[u8], step: usize) -> Vec<u8> {
    let (mut reader, mut written, mut data) = (MessageReader::default(), Vec::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    while let Ok(next) = reader.next(&bytes[start..end]) {
        let Some((piece, count)) = next else {
            if end == bytes.len() {
                break;
            }
            end = (end + step).min(bytes.len());
            continue;
        };
        start += count;
        if let Piece::Data(more) = piece {
            data.extend_from_slice(more);
            continue;
        }
        if !data.is_empty() {
            write_header(&mut written, RecordKind::Data, data.len());
            written.append(&mut data);
        }
        match piece {
            Piece::Data(_) => {}
            Piece::End => write_end(&mut written),
            Piece::Reset(reason) => write_reset(&mut written, reason),
            Piece::Trailers(payload) => {
                let fields = FieldsWriter::trailers(&mut written);
                copy_fields(fields, Fields::of_trailers(payload));
            }
            Piece::Head(payload) => match RequestHead::read(payload) {
                Ok((head, fields)) => {
                    copy_fields(FieldsWriter::request(&mut written, &head), fields);
                }
                Err(_) => break,
            },
            Piece::Interim(payload) => match read_answer(payload) {
                Ok((status @ 100..200, fields)) => {
                    copy_fields(FieldsWriter::answer(&mut written, status), fields);
                }
                Ok(_) | Err(_) => break,
            },
        }
    }
    written
}

fn copy_fields(mut writer: FieldsWriter<'_>, mut fields: Fields<'_>) {
    while let Ok(Some(Field { name, value })) = fields.next() {
        writer.field(name, value);
    }
    writer.finish().expect("what was read is short enough");
}

/// Frames between proxies, in pieces, at either end. What was allowed is never passed by what is held,
/// and little is answered to little.
fn mux(bytes: &[u8]) {
    let Some((how, mut rest)) = bytes.split_first() else { return };
    let side = if how & 1 == 0 { Side::Called } else { Side::Caller };
    let now = std::time::Instant::now();
    let mut mux = Mux::new(side, 1, now);
    if side == Side::Caller {
        for _ in 0..how >> 4 {
            let _ = mux.open(StreamKind::Bytes);
        }
    }
    let mut unread: BTreeMap<u32, usize> = BTreeMap::new();
    while let Some((cut, more)) = rest.split_first() {
        let (piece, after) = more.split_at(usize::from(*cut).min(more.len()));
        rest = after;
        let mut input = piece;
        loop {
            let event = match mux.handle_bytes(&mut input, now) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(violation) => return mux.give_up(violation),
            };
            if let Event::Data { stream, bytes, .. } = event {
                *unread.entry(stream).or_default() += bytes.len();
            }
            if let Event::Data { stream, .. } | Event::Writable { stream } = event {
                mux.send(stream, b"answer");
                if how & 2 != 0 {
                    mux.read(stream, unread.remove(&stream).unwrap_or_default());
                }
            }
        }
        assert!(unread.values().sum::<usize>() <= 256 * (64 << 10) + (8 << 20));
        assert!(mux.output().len() <= 64 + 32 * bytes.len() + 64 * usize::from(*how));
        assert!(mux.streams() <= 256);
    }
    assert!(mux.poll_timeout() > now);
}

/// The bodies by which services and checks are registered with an agent; what was taken can be
/// written, and means the same.
fn agent_api(bytes: &[u8]) {
    if let Ok(service) = json::from_slice::<ServiceDefinition>(bytes, Unknown::Ignore) {
        judge_service(&service);
    }
    if let Ok(check) = json::from_slice::<CheckDefinition>(bytes, Unknown::Ignore) {
        judge_check(&check);
    }
}

/// Files with services and checks, in HCL and JSON, as an agent takes them up.
fn agent_definitions(bytes: &[u8]) {
    let Ok(content) = from_utf8(bytes) else { return };
    for file in ["a.hcl", "a.json"] {
        let Ok(value) = text::parse(file, content) else { continue };
        let lists = [("service", "services"), ("services", "services"), ("check", "checks")];
        let lists = lists
            .into_iter()
            .filter_map(|(name, list)| Some((file.to_owned(), list, value.get(name)?.clone())));
        let read = weft_agent::config::read_definitions(&lists.collect::<Vec<_>>());
        read.services.iter().for_each(|placed| judge_service(&placed.definition));
        read.checks.iter().for_each(|placed| judge_check(&placed.definition));
    }
}

/// The path of a request. Those who unescape the canonical form, once or twice, with or without the
/// parameters of its segments, find the same segments as those who take it as it stands.
fn canonical_path(bytes: &[u8]) {
    let Ok(path) = CanonicalPath::parse(bytes) else { return };
    let again = CanonicalPath::parse(path.as_bytes()).expect("it was canonical");
    assert_eq!(again, path);
    for reading in path.readings().filter(|reading| *reading != b"*") {
        let once = unescape(reading);
        for text in [reading, &once, &unescape(&once)] {
            let parts = || text.split(|byte| *byte == b'/').skip(1);
            assert_eq!(parts().count(), reading.split(|byte| *byte == b'/').skip(1).count());
            assert!(text.starts_with(b"/") && !parts().any(|part| part == b"." || part == b".."));
            assert!(!text.windows(2).any(|two| two == b"//"), "{text:?}");
            assert!(!text.contains(&b'\\') && !text.iter().any(u8::is_ascii_control));
        }
        assert!(from_utf8(&once).is_ok());
    }
}

/// As a lenient reader does: what is no escape stays.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn judge_service(service: &ServiceDefinition) {
    if weft_agent::local::check(service).is_empty() {
        let written = serde_json::to_vec(service).expect("text keys serialise to memory");
        let again: ServiceDefinition =
            json::from_slice(&written, Unknown::Refuse).expect("what was written is readable");
        assert_eq!(&again, service);
    }
}

fn judge_check(check: &CheckDefinition) {
    if weft_agent::local::check_alone(check).is_empty() {
        let written = serde_json::to_vec(check).expect("text keys serialise to memory");
        let again: CheckDefinition =
            json::from_slice(&written, Unknown::Refuse).expect("what was written is readable");
        assert_eq!(&again, check);
    }
}

/// A replicated command, and an answer, as they come from other servers and from the log.
fn command(bytes: &[u8]) {
    let _ = envelope::decode::<Answer>(bytes);
    if let Ok(command) = envelope::decode::<Command>(bytes) {
        let again = envelope::decode::<Command>(&envelope::encode(&command));
        assert_eq!(again.expect("what was written is readable"), command);
    }
}

/// The state in a snapshot; what was believed can be written.
fn snapshot(bytes: &[u8]) {
    weft_server::untrusted::snapshot(bytes);
    if let Ok(snapshot) = envelope::decode::<StateSnapshot>(bytes) {
        let state = State::from_snapshot(snapshot);
        envelope::encode(&state.to_snapshot());
    }
}

fn dns_question(bytes: &[u8]) {
    let Ok(name) = from_utf8(bytes) else { return };
    let datacenter = Datacenter::parse("dc1").expect("a name");
    let settings = Settings::new("consul.", Some("mesh."), datacenter);
    for kind in [RecordType::A, RecordType::Any, RecordType::Srv, RecordType::Txt] {
        if let Some(question) = Question::parse(name, kind, &settings) {
            question.need();
        }
    }
}

/// An expression, and its judgement of a record.
fn filter(bytes: &[u8]) {
    let Ok(expression) = from_utf8(bytes) else { return };
    if let Ok(filter) = Filter::parse(expression) {
        let record = serde_json::json!({
            "Node": { "Node": "n1", "Meta": { "a": "1" } },
            "Service": { "Tags": ["v1", "v2"], "Port": 80, "Meta": {} },
            "Checks": [{ "Status": "passing" }],
        });
        filter.matches(&record);
    }
}

fn hcl(bytes: &[u8]) {
    let Ok(content) = from_utf8(bytes) else { return };
    for file in ["a.hcl", "a.json", "a"] {
        if let Ok(value) = text::parse(file, content) {
            let _ = text::decode::<CatalogRegistration>(&value, Unknown::Refuse);
            let _ = json::config_entry::decode_file(value);
        }
    }
}

fn join_token(bytes: &[u8]) {
    let Ok(content) = from_utf8(bytes) else { return };
    if let Ok(token) = content.parse::<JoinToken>() {
        let again: JoinToken = token.to_string().parse().expect("what was written is readable");
        assert!(again == token, "a token changed on its way");
    }
}

/// The bodies of tokens, roles, policies, auth methods, binding rules and logins.
fn json_acl(bytes: &[u8]) {
    let id = "00000000-0000-4000-8000-000000000001";
    if let Ok(token) = json::acl::decode_token(bytes) {
        let _ = token.fields.expiry();
    }
    if let Ok((_, grants)) = json::acl::decode_role(bytes) {
        let _ = grants.grants();
    }
    if let Ok(policy) = json::from_slice::<json::acl::PolicyUpsert>(bytes, Unknown::Ignore) {
        let _ = policy.policy(id.parse().expect("an id"));
    }
    if let Ok(body) = json::login::AuthMethodBody::decode(bytes)
        && let Ok(method) = body.method(None)
    {
        json::login::show_method(&method);
        json::login::show_method_briefly(&method);
    }
    if let Ok(body) = json::login::BindingRuleBody::decode(bytes)
        && let Ok(rule) = body.rule(id.parse().expect("an id"))
    {
        json::login::show_rule(&rule);
    }
    if let Ok(body) = json::login::LoginBody::decode(bytes) {
        body.description();
    }
}

fn json_config_entry(bytes: &[u8]) {
    let _ = json::config_entry::decode(bytes);
}

fn json_intention(bytes: &[u8]) {
    let _ = json::intention::decode_upsert(bytes);
}

/// A query, and what a template makes of names.
fn json_prepared_query(bytes: &[u8]) {
    let Ok(query) = json::query::decode(bytes) else { return };
    for name in ["", "geo-db-customer-master", "é"] {
        let _ = query.render(name);
    }
}

fn json_registration(bytes: &[u8]) {
    let _ = json::registration::decode_register(bytes);
    let _ = json::registration::decode_deregister(bytes);
}

/// The bodies of transactions and of sessions, and names of keys; a transaction is carried out on
/// a state that has none of what it speaks of.
fn json_txn(bytes: &[u8]) {
    let datacenter = Datacenter::parse("dc1").expect("a name");
    if let Ok(ops) = json::txn::decode(bytes, bytes.len(), &datacenter) {
        let mut state = State::default();
        state.apply(Index(1), Timestamp(5), Command::Txn(ops));
        envelope::encode(&state.to_snapshot());
    }
    if let Ok(body) = json::session::decode_create(bytes) {
        let id = "00000000-0000-4000-8000-000000000001";
        let _ = body.session(id, limits::SESSION_TTL_MIN_DEFAULT);
    }
    let _ = serde_json::from_slice::<Vec<json::kv::KvPair>>(bytes);
    let _ = from_utf8(bytes).map(KvKey::parse);
}
