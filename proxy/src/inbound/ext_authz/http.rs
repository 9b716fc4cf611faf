//! Asking over HTTP: the request itself, with as much of its body as is told; 200 lets it pass.
//!
//! **Source**: Envoy: extensions/filters/http/ext_authz/v3/ext_authz.proto, HttpService.

use std::net::SocketAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, header};
use weft_core::config_entry::{ExtAuthzHttp, ExtAuthzMatch};
use weft_runtime::http::HttpClient;

use super::{Answer, NoAnswer, PARTIAL_BODY, Question, denied};
use crate::http::Edits;

pub(super) async fn ask(
    client: &HttpClient,
    (config, address): (&ExtAuthzHttp, SocketAddr),
    question: &Question,
) -> Result<Answer, NoAnswer> {
    let method = Method::from_bytes(question.method.as_bytes());
    let method = method.map_err(|_| NoAnswer::Question)?;
    let url = format!("http://{address}{}{}", config.path_prefix, question.path);
    let headers = headers(config, question).ok_or(NoAnswer::Question)?;
    let body = question.body.as_ref().map(|held| held.content.clone()).unwrap_or_default();
    let answer = client.request(method, &url, headers, body.into()).await;
    let answer = answer.map_err(NoAnswer::Http)?;
    let response = config.authorization_response.as_ref();
    match answer.status.as_u16() {
        200 => {
            let mut edits = Edits::default();
            let Some(response) = response else { return Ok(Answer::Allowed(edits)) };
            let given = |matches: &[ExtAuthzMatch]| {
                let pairs = answer.headers.iter();
                pairs.filter(|(name, _)| is_among(matches, name.as_str())).collect::<Vec<_>>()
            };
            let replacing = given(&response.allowed_upstream_headers);
            for (name, _) in &replacing {
                edits.remove(name.as_str());
            }
            let appended = given(&response.allowed_upstream_headers_to_append);
            for (name, value) in replacing.into_iter().chain(appended) {
                edits.append(name.as_str(), value.as_bytes());
            }
            Ok(Answer::Allowed(edits))
        }
        status @ 500..=599 => Err(NoAnswer::Status(status)),
        status => {
            let allowed = response.map(|it| &it.allowed_client_headers[..]).unwrap_or_default();
            let goes_back = |name: &str| {
                name == "content-type" || allowed.is_empty() || is_among(allowed, name)
            };
            let headers = answer.headers.iter().filter(|(name, _)| goes_back(name.as_str()));
            let headers =
                headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
            Ok(denied(status, headers, answer.body.to_vec()))
        }
    }
}

fn is_among(matches: &[ExtAuthzMatch], name: &str) -> bool {
    matches.iter().any(|matcher| matcher.holds(name))
}

fn headers(config: &ExtAuthzHttp, question: &Question) -> Option<HeaderMap> {
    let request = config.authorization_request.as_ref();
    let allowed = request.map(|it| &it.allowed_headers[..]).unwrap_or_default();
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(&question.host).ok()?);
    let length = question.body.as_ref().map_or(0, |held| held.content.len());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let certificate = HeaderValue::from_str(&question.certificate).ok()?;
    headers.insert("x-forwarded-client-cert", certificate);
    for (name, value) in &question.headers {
        let is_framing = matches!(&**name, "host" | "content-length" | "transfer-encoding");
        if !is_framing
            && (name == "authorization" || name == PARTIAL_BODY || is_among(allowed, name))
        {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.insert(name, HeaderValue::from_str(value).ok()?);
        }
    }
    for added in request.map(|it| &it.headers_to_add[..]).unwrap_or_default() {
        let name = HeaderName::from_bytes(added.key.as_bytes()).ok()?;
        headers.insert(name, HeaderValue::from_str(&added.value).ok()?);
    }
    Some(headers)
}
