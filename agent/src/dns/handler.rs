//! One query: read, answered from a view or forwarded, written.

use std::sync::Arc;

use hickory_proto::op::ResponseCode as WireCode;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, Record as WireRecord};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::Mutex;
use tracing::debug;
use weft_core::dns::{
    Answer, Asked, Delivery, Need, Question, RecordData, RecordType, ResponseCode, Settings, View,
    answer,
};
use weft_runtime::telemetry::metrics::{Counter, Family};
use weft_runtime::{clock, entropy};

use super::forward::{Forwarder, Transport};
use super::names::{Names, Wanted};
use super::records;

/// How often an answer that is another name is followed (Consul: 3).
const ALIASES_MAX: usize = 3;

type Rng = Mutex<Box<dyn rand_core::RngCore + Send>>;
type ByCode = Family<Vec<(&'static str, String)>, Counter>;

/// Answers queries; hickory calls it for each.
pub(super) struct Handler {
    settings: Settings,
    names: Names,
    forwarder: Forwarder,
    answers: ByCode,
    rng: Rng,
}

/// The handler as hickory's UDP server wants it: whole.
pub(super) struct Datagrams(pub(super) Arc<Handler>);

/// An answer in the forms of the wire.
struct Reply {
    metadata: Metadata,
    answers: Vec<WireRecord>,
    authority: Vec<WireRecord>,
    additional: Vec<WireRecord>,
}

impl Handler {
    pub(super) fn new(
        settings: Settings,
        names: Names,
        (forwarder, answers): (Forwarder, ByCode),
    ) -> Self {
        let rng: Rng = Mutex::new(Box::new(entropy::rng()));
        Self { settings, names, forwarder, answers, rng }
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
        match Question::parse(&name, kind, &self.settings) {
            Some(question) => {
                let answer = self.answer(&question, delivery(request)).await;
                self.whole(answer, (&question, asked), (metadata, transport(request))).await
            }
            None if !self.forwarder.is_on() => bare(WireCode::Refused),
            None => match self.forwarder.forward(request.as_slice(), transport(request)).await {
                Some(message) => Reply::forwarded(message, metadata),
                None => bare(WireCode::ServFail),
            },
        }
    }

    async fn answer(&self, question: &Question, delivery: Delivery) -> Answer {
        let asked = Asked { question, delivery, now: clock::wall() };
        let (instances, nodes);
        let view = match question.need() {
            Need::Connect(name) => {
                instances = self.names.instances(Wanted::Connect(name)).await;
                instances.as_deref().map_or(View::Unknown, |list| View::Instances(list))
            }
            Need::Service(name) => {
                instances = self.names.instances(Wanted::Service(name)).await;
                instances.as_deref().map_or(View::Unknown, |list| View::Instances(list))
            }
            Need::Nodes => {
                nodes = self.names.nodes().await;
                nodes.as_deref().map_or(View::Unknown, |list| View::Nodes(list))
            }
            Need::Nothing => View::Nothing,
        };
        answer(asked, view, &self.settings, &mut **self.rng.lock())
    }

    /// Writes an answer of ours; one that is another name is followed.
    async fn whole(
        &self,
        answer: Answer,
        (question, asked): (&Question, &Query),
        (mut metadata, transport): (Metadata, Transport),
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
        for _ in 0..ALIASES_MAX {
            let Some(target) = alias.take() else { break };
            match Question::parse(&target, question.kind, &self.settings) {
                Some(next) => {
                    let answer = self.answer(&next, Delivery::Tcp).await;
                    reply.answers.extend(records::write(&answer.answers, asked.name()));
                    alias = self::alias(&answer, question.kind);
                }
                None if self.forwarder.is_on() => {
                    let Ok(name) = Name::from_ascii(format!("{target}.")) else { break };
                    let query = Query::query(name, asked.query_type());
                    if let Some(message) = self.forwarder.resolve(query, transport).await {
                        reply.answers.extend(message.answers);
                    }
                }
                None => {}
            }
        }
        reply
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
        self.answers.get_or_create(&vec![("code", mnemonic(code))]).inc();
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

#[async_trait::async_trait]
impl RequestHandler for Datagrams {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        self.0.handle_request::<R, T>(request, response_handle).await
    }
}
