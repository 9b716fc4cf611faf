//! Asking over gRPC.
//!
//! **Source**: Envoy: service/auth/v3/external_auth.proto.

use std::net::{IpAddr, SocketAddr};

use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::Channel;
use weft_core::config_entry::ExtAuthzGrpc;
use weft_core::time::Timestamp;
use weft_proto::grpc::auth::attribute_context::{HttpRequest, Peer, Request};
use weft_proto::grpc::auth::authorization_client::AuthorizationClient;
use weft_proto::grpc::auth::check_response::HttpResponse;
use weft_proto::grpc::auth::{
    self, Address, AttributeContext, CheckRequest, HeaderValueOption, SocketAddress,
};
use weft_runtime::clock;

use super::{ANSWER_BYTES_MAX, Answer, NoAnswer, Question, denied};
use crate::http::{Edits, Extent};

/// `APPEND_IF_EXISTS_OR_ADD` and the others of `HeaderAppendAction`.
const ADD_IF_ABSENT: i32 = 1;
const OVERWRITE_IF_EXISTS: i32 = 3;

pub(super) async fn ask(
    channel: Channel,
    (grpc, as_bytes): (&ExtAuthzGrpc, bool),
    question: &Question,
) -> Result<Answer, NoAnswer> {
    let mut request = tonic::Request::new(check_request(question, as_bytes)?);
    for header in &grpc.initial_metadata {
        let key = MetadataKey::from_bytes(header.key.to_ascii_lowercase().as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(&header.value)) {
            request.metadata_mut().append(key, value);
        }
    }
    let mut client = AuthorizationClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let answer = client.check(request).await.map_err(|status| NoAnswer::Grpc(Box::new(status)))?;
    let answer = answer.into_inner();
    // An answer without a status says OK, as Envoy reads it: 0 is what is not written.
    let code = answer.status.map_or(0, |status| status.code);
    match (code, answer.http_response) {
        (0, Some(HttpResponse::OkResponse(ok))) => {
            if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
                return Err(NoAnswer::Changes);
            }
            let mut edits = Edits::default();
            ok.headers_to_remove.iter().for_each(|name| edits.remove(name));
            for option in ok.headers {
                change(option, question, &mut edits);
            }
            Ok(Answer::Allowed(edits))
        }
        (0, None) => Ok(Answer::Allowed(Edits::default())),
        (_, Some(HttpResponse::DeniedResponse(said))) => {
            let status = said.status.map_or(0, |status| status.code);
            let headers = said.headers.into_iter().filter_map(|option| named(option.header));
            let status = u16::try_from(status).unwrap_or_default();
            Ok(denied(status, headers, said.body.into_bytes()))
        }
        (_, _) => Ok(denied(403, [], Vec::new())),
    }
}

fn named(header: Option<auth::HeaderValue>) -> Option<(String, Vec<u8>)> {
    let header = header?;
    let value = match header.value.is_empty() {
        true => header.raw_value.to_vec(),
        false => header.value.into_bytes(),
    };
    Some((header.key, value))
}

/// What is not said to be appended replaces what the caller wrote.
fn change(option: HeaderValueOption, question: &Question, edits: &mut Edits) {
    let (append, action) = (option.append, option.append_action);
    let Some((name, value)) = named(option.header) else { return };
    let is_there = question.headers.contains_key(&name.to_ascii_lowercase());
    match (append.map(|append| append.value), action) {
        (Some(true), _) => edits.append(&name, &value),
        (None, ADD_IF_ABSENT) if is_there => {}
        (None, OVERWRITE_IF_EXISTS) if !is_there => {}
        (Some(false) | None, _) => edits.set(&name, &value),
    }
}

/// What is told of a body: text or bytes, and how much there is.
fn body(question: &Question, as_bytes: bool) -> Result<(String, Vec<u8>, i64), NoAnswer> {
    let Some(held) = &question.body else { return Ok((String::new(), Vec::new(), -1)) };
    let size = i64::try_from(held.content.len()).unwrap_or(-1);
    let size = if held.extent == Extent::Whole { size } else { -1 };
    if as_bytes {
        return Ok((String::new(), held.content.clone(), size));
    }
    let text = match std::str::from_utf8(&held.content) {
        Ok(text) => text,
        // The cut may go through the last character.
        Err(error) if held.extent == Extent::Partial && error.error_len().is_none() => {
            let whole = &held.content[..error.valid_up_to()];
            std::str::from_utf8(whole).map_err(|_| NoAnswer::Body)?
        }
        Err(_) => return Err(NoAnswer::Body),
    };
    Ok((text.to_owned(), Vec::new(), size))
}

fn check_request(question: &Question, as_bytes: bool) -> Result<CheckRequest, NoAnswer> {
    let (body, raw_body, size) = body(question, as_bytes)?;
    let Timestamp(millis) = clock::wall();
    let (address, principal, service) = &question.source;
    let source = peer(address.map(|address| (address, 0)), principal, service);
    let (address, principal, service) = &question.destination;
    let address: &SocketAddr = address;
    let destination = peer(Some((address.ip(), address.port())), principal, service);
    let http = HttpRequest {
        id: String::new(),
        method: question.method.clone(),
        headers: question.headers.clone().into_iter().collect(),
        path: question.path.clone(),
        host: question.host.clone(),
        scheme: "http".to_owned(),
        size,
        body,
        raw_body: raw_body.into(),
        protocol: "HTTP/1.1".to_owned(),
    };
    let time = auth::Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or_default(),
        nanos: i32::try_from(millis % 1000).unwrap_or_default() * 1_000_000,
    };
    let request = Some(Request { time: Some(time), http: Some(http) });
    let attributes = AttributeContext {
        source: Some(source),
        destination: Some(destination),
        request,
        ..AttributeContext::default()
    };
    Ok(CheckRequest { attributes: Some(attributes) })
}

fn peer(address: Option<(IpAddr, u16)>, principal: &str, service: &str) -> Peer {
    let address = address.map(|(ip, port)| Address {
        socket_address: Some(SocketAddress { address: ip.to_string(), port_value: port.into() }),
    });
    Peer { address, service: service.to_owned(), principal: principal.to_owned() }
}
