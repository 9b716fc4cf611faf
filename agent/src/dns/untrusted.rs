//! What is made of bytes from anybody, for fuzzing: the quick reader and hickory's must agree, and
//! what is written must be readable.

use hickory_proto::op::Message;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use weft_core::dns::{Delivery, Question, Settings, View, plan};
use weft_core::name::Datacenter;
use weft_core::time::Timestamp;
use weft_runtime::entropy;

use super::plain::Plain;
use super::prepared::{Desk, Prepared, Style};
use super::records;

/// Reads a message both ways and answers it without looking anything up.
///
/// # Panics
/// When the two ways differ, or an answer is none.
pub fn message(bytes: &[u8]) {
    let caller = ([127, 0, 0, 1], 1).into();
    let full = Request::from_bytes(bytes.to_vec(), caller, Protocol::Udp);
    let Some(plain) = Plain::read(bytes) else { return };
    // What is read quickly is read fully, but for options that hickory is strict about.
    let Ok(full) = full else {
        assert!(plain.edns.is_some(), "only the quick reader takes {bytes:02x?}");
        return;
    };
    let [query] = full.queries.queries() else { panic!("a plain query has one question") };
    let query = query.original();
    assert_eq!(full.metadata.id.to_be_bytes(), plain.id);
    assert_eq!(full.metadata.recursion_desired, plain.wants_recursion);
    assert_eq!(
        full.edns.as_ref().map(|edns| edns.max_payload().max(512)),
        plain.edns.map(|edns| edns.payload.max(512))
    );

    let datacenter = Datacenter::parse("dc1").expect("`dc1` is a valid name of a datacenter");
    let settings = Settings::new("mesh", Some("consul"), datacenter);
    let kind = records::record_type(query.query_type());
    let Some(question) = Question::parse(&query.name().to_ascii(), kind, &settings) else { return };
    if plain.question.len() != question.name.len() + 6 {
        return;
    }
    let plan = plan(&question, View::Absent, &settings, Timestamp(1));
    let Some(prepared) = Prepared::new(&plan, &question) else { return };
    let style = Style { settings, has_recursion: false };
    let mut desk = Desk::new(Box::new(entropy::rng()));
    let mut answer = Vec::new();
    if prepared.write(&plain, (Delivery::Tcp, &style), &mut desk, &mut answer) {
        let answer = Message::from_vec(&answer).expect("an answer is a message");
        assert_eq!(answer.queries.first(), Some(query));
    }
}
