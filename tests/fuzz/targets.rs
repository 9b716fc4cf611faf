//! What is fuzzed: one function for each decoder of bytes that come from network, disk or users.
//!
//! None may panic, overflow the stack or take memory without bound, whatever the bytes; what they
//! accept must survive being written and read again where there is a writer.

use std::str::from_utf8;

use weft_core::catalog::CatalogRegistration;
use weft_core::dns::{Question, RecordType, Settings};
use weft_core::filter::Filter;
use weft_core::name::Datacenter;
use weft_core::state::{Answer, Command, State, StateSnapshot};
use weft_proto::join_token::JoinToken;
use weft_proto::text::Unknown;
use weft_proto::{envelope, json, text};

/// A target's name, which is also the name of the folder with its corpus, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub(crate) const TARGETS: [Target; 11] = [
    ("command", command),
    ("dns_question", dns_question),
    ("filter", filter),
    ("hcl", hcl),
    ("join_token", join_token),
    ("json_config_entry", json_config_entry),
    ("json_intention", json_intention),
    ("json_prepared_query", json_prepared_query),
    ("json_registration", json_registration),
    ("raft", weft_server::untrusted::raft),
    ("snapshot", snapshot),
];

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

fn json_config_entry(bytes: &[u8]) {
    let _ = json::config_entry::decode(bytes);
}

fn json_intention(bytes: &[u8]) {
    let _ = json::intention::decode_upsert(bytes);
}

fn json_prepared_query(bytes: &[u8]) {
    let _ = json::query::decode(bytes);
}

fn json_registration(bytes: &[u8]) {
    let _ = json::registration::decode_register(bytes);
    let _ = json::registration::decode_deregister(bytes);
}
