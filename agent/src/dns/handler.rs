//! One query: read, answered from what is known or forwarded, written. The full way, by hickory's
//! forms; answers that can be given again are left in the table for the quick one.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode as WireCode;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, Record as WireRecord};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::{Time, TokioTime};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use parking_lot::Mutex;
use tracing::debug;
use weft_core::dns::{
    Answer, Asked, Delivery, Lookup, Question, RecordData, RecordType, ResponseCode, answer_of,
};
use weft_runtime::{clock, entropy};

use super::forward::{Forwarder, Transport};
use super::front::Front;
use super::look::{Looker, Planned};
use super::plain::{HEAD_BYTES, Plain};
use super::prepared::Prepared;
use super::records;
use super::table::Ready;

/// How often an answer that is another name is followed (Consul: 3).
const ALIASES_MAX: usize = 3;
/// Records of an answer by another name to a caller without EDNS (Consul: 5).
const PLAIN_ALIAS_RECORDS_MAX: usize = 5;
/// Bytes of a datagram to a caller without EDNS (RFC 1035 §4.2.1).
const PLAIN_BYTES_MAX: u16 = 512;
/// Bytes of the largest datagram that is sent: 65 535 less the IP and UDP heads.
const DATAGRAM_BYTES_MAX: u16 = 65_507;

/// Answers queries.
pub(super) struct Handler {
    looker: Looker,
    forwarder: Forwarder,
    front: Front,
    rng: Mutex<Box<dyn rand_core::RngCore + Send>>,
}

/// An answer in the forms of the wire.
struct Reply {
    metadata: Metadata,
    answers: Vec<WireRecord>,
    authority: Vec<WireRecord>,
    additional: Vec<WireRecord>,
}

impl Handler {
    pub(super) fn new(looker: Looker, forwarder: Forwarder, front: Front) -> Self {
        let rng: Box<dyn rand_core::RngCore + Send> = Box::new(entropy::rng());
        Self { looker, forwarder, front, rng: Mutex::new(rng) }
    }

    /// Answers a query as it came; `None` for what is none, such as an answer.
    pub(super) async fn respond(
        &self,
        query: Vec<u8>,
        (caller, protocol): (SocketAddr, Protocol),
    ) -> Option<Vec<u8>> {
        let head: [u8; HEAD_BYTES] = *query.first_chunk()?;
        // Answers to answers would go on for ever.
        if head[2] & 0x80 != 0 {
            return None;
        }
        let Ok(request) = Request::from_bytes(query, caller, protocol) else {
            self.front.counts.count(mnemonic(WireCode::FormErr));
            return Some(unreadable(head));
        };
        let written = Written {
            bytes_max: match (protocol, &request.edns) {
                (Protocol::Udp, None) => PLAIN_BYTES_MAX,
                (Protocol::Udp, Some(edns)) => {
                    edns.max_payload().clamp(PLAIN_BYTES_MAX, DATAGRAM_BYTES_MAX)
                }
                _ => u16::MAX,
            },
            bytes: Arc::default(),
        };
        self.handle_request::<_, TokioTime>(&request, written.clone()).await;
        let bytes = std::mem::take(&mut *written.bytes.lock());
        (!bytes.is_empty()).then_some(bytes)
    }

    async fn reply(&self, request: &Request) -> Reply {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = self.forwarder.is_on();
        let bare = |code| {
            let mut metadata = metadata;
            metadata.response_code = code;
            Reply::bare(metadata)
        };
        if request.metadata.op_code != OpCode::Query {
            return bare(WireCode::NotImp);
        }
        let [query] = request.queries.queries() else { return bare(WireCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return bare(WireCode::BADVERS);
        }
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return bare(WireCode::Refused);
        }
        let asked = query.original();
        let name = asked.name().to_ascii();
        let kind = records::record_type(asked.query_type());
        let question = Question::parse(&name, kind, &self.looker.settings);
        if let Some(question) = question {
            let planned = self.looker.plan(&question).await;
            // An address whose owner is not known here may be known elsewhere.
            let is_foreign =
                matches!(question.lookup, Lookup::Reverse(_)) && planned.plan.picks.is_empty();
            if !is_foreign || !self.forwarder.is_on() {
                let answer = self.answer(&question, &planned, delivery(request));
                self.keep(planned, &question, request.as_slice());
                return self.whole(answer, (&question, asked), (metadata, request)).await;
            }
        }
        if !self.forwarder.is_on() {
            return bare(WireCode::Refused);
        }
        match self.forwarder.forward(request.as_slice(), transport(request)).await {
            Some(message) => Reply::forwarded(message, metadata),
            None => bare(WireCode::ServFail),
        }
    }

    fn answer(&self, question: &Question, planned: &Planned, delivery: Delivery) -> Answer {
        if self.front.views.away_for(clock::instant()).is_some() {
            self.front.counts.stale.inc();
        }
        let asked = Asked { question, delivery, now: clock::wall() };
        answer_of(&planned.plan, asked, &self.looker.settings, &mut **self.rng.lock())
    }

    /// Leaves an answer for those who ask the same.
    fn keep(&self, planned: Planned, question: &Question, query: &[u8]) {
        let Some((sources, longest)) = planned.kept else { return };
        let Some(plain) = Plain::read(query) else { return };
        // A name with escapes is shorter on the wire than as text.
        if plain.question.len() != question.name.len() + 6 {
            return;
        }
        let Some(prepared) = Prepared::new(&planned.plan, question) else { return };
        let until = clock::instant() + longest;
        self.front.table.put(&plain.key(), Ready { prepared, sources, until });
    }

    /// Writes an answer of ours; one that is another name is followed.
    async fn whole(
        &self,
        answer: Answer,
        (question, asked): (&Question, &Query),
        (mut metadata, request): (Metadata, &Request),
    ) -> Reply {
        metadata.authoritative = answer.code != ResponseCode::ServFail;
        metadata.response_code = records::response_code(answer.code);
        metadata.truncation = answer.is_truncated;
        let mut reply = Reply {
            metadata,
            answers: records::write(&answer.answers, asked.name()),
            authority: records::write(&answer.authority, asked.name()),
            additional: records::write(&answer.additional, asked.name()),
        };
        let mut alias = alias(&answer, question.kind);
        let is_alias = alias.is_some();
        for _ in 0..ALIASES_MAX {
            let Some(target) = alias.take() else { break };
            match Question::parse(&target, question.kind, &self.looker.settings) {
                Some(next) => {
                    let planned = self.looker.plan(&next).await;
                    let answer = self.answer(&next, &planned, Delivery::Tcp);
                    reply.answers.extend(records::write(&answer.answers, asked.name()));
                    alias = self::alias(&answer, question.kind);
                }
                None if self.forwarder.is_on() => {
                    let Ok(name) = Name::from_ascii(format!("{target}.")) else { break };
                    let query = Query::query(name, asked.query_type());
                    if let Some(message) = self.forwarder.resolve(query, transport(request)).await {
                        reply.answers.extend(message.answers);
                    }
                }
                None => {}
            }
        }
        if is_alias && delivery(request) == Delivery::Udp {
            reply.answers.truncate(PLAIN_ALIAS_RECORDS_MAX);
        }
        reply
    }
}

/// Answers what cannot be read: its id and kind of query, and that it cannot.
fn unreadable(head: [u8; HEAD_BYTES]) -> Vec<u8> {
    let [id0, id1, flags, ..] = head;
    // The kind of query and whether recursion was wanted are repeated; the code is FORMERR.
    let mut answer = vec![id0, id1, 0x80 | flags & 0x79, 1];
    answer.resize(HEAD_BYTES, 0);
    answer
}

/// Takes an answer as bytes.
#[derive(Clone)]
struct Written {
    bytes_max: u16,
    bytes: Arc<Mutex<Vec<u8>>>,
}

#[async_trait::async_trait]
impl ResponseHandler for Written {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a WireRecord> + Send + 'a,
            impl Iterator<Item = &'a WireRecord> + Send + 'a,
            impl Iterator<Item = &'a WireRecord> + Send + 'a,
            impl Iterator<Item = &'a WireRecord> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut message = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut message);
        encoder.set_max_size(self.bytes_max);
        let info = response.destructive_emit(&mut encoder)?;
        *self.bytes.lock() = message;
        Ok(info)
    }
}

/// Returns the code's name as tools print it, `NXDOMAIN`.
fn mnemonic(code: WireCode) -> String {
    format!("{code:?}").to_ascii_uppercase()
}

/// Returns the other name that an answer consists of, when addresses were asked for.
fn alias(answer: &Answer, kind: RecordType) -> Option<String> {
    let wants_addresses = matches!(kind, RecordType::A | RecordType::Aaaa | RecordType::Any);
    match answer.answers.first().map(|record| &record.data) {
        Some(RecordData::Cname(target)) if wants_addresses => Some(target.clone()),
        _ => None,
    }
}

fn transport(request: &Request) -> Transport {
    if request.protocol() == Protocol::Udp { Transport::Udp } else { Transport::Tcp }
}

fn delivery(request: &Request) -> Delivery {
    match (transport(request), &request.edns) {
        (Transport::Tcp, _) => Delivery::Tcp,
        (Transport::Udp, None) => Delivery::Udp,
        (Transport::Udp, Some(edns)) => Delivery::UdpEdns { payload: edns.max_payload() },
    }
}

/// Writes the OPT record that answers the caller's.
///
/// **Source**: RFC 6891 §6.1.1; RFC 7871 §7.2.1: a scope of 0 says that the answer is for all.
fn edns_of(request: &Request) -> Option<Edns> {
    let theirs = request.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_max_payload(theirs.max_payload().max(512));
    edns.set_dnssec_ok(theirs.flags().dnssec_ok);
    if let Some(EdnsOption::Subnet(subnet)) = theirs.option(EdnsCode::Subnet) {
        let subnet = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    Some(edns)
}

impl Reply {
    fn bare(metadata: Metadata) -> Self {
        let (answers, authority, additional) = (Vec::new(), Vec::new(), Vec::new());
        Self { metadata, answers, authority, additional }
    }

    /// Passes a recursor's answer on, under the id of the caller.
    fn forwarded(message: Message, ours: Metadata) -> Self {
        let mut metadata = message.metadata;
        metadata.id = ours.id;
        metadata.recursion_available = true;
        Self {
            metadata,
            answers: message.answers,
            authority: message.authorities,
            additional: message.additionals,
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let mut reply = self.reply(request).await;
        let code = reply.metadata.response_code;
        self.front.counts.count(mnemonic(code));
        let mut edns = edns_of(request);
        if let Some(edns) = &mut edns {
            // The upper bits of the code travel in the OPT record.
            edns.set_rcode_high(code.high());
        }
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        reply.metadata.id = request.metadata.id;
        let response =
            builder.build(reply.metadata, &reply.answers, &reply.authority, [], &reply.additional);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(failure) => {
                debug!(error = %failure, "a DNS answer could not be sent");
                let mut metadata = reply.metadata;
                metadata.response_code = WireCode::ServFail;
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}
