//! A request as a value: what routing may see of it, and what must not go on to the next hop.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use weft_core::limits;
use weft_core::log_format::{TIMING_ASKED, TIMING_FIELD};
use weft_core::traffic::RequestView;
use weft_core::traffic::deadline::{TIMEOUT_FIELD, read_timeout};

use super::super::h1::{is_disguised, is_envoys, is_host, is_like, is_mesh, is_scheme};
use super::super::kept::ATTEMPT_FIELD;
use super::super::refusal::Refusal;
use super::tunnel;
use crate::inbound::WholeRequest;

/// Fields of one connection only, whatever `connection` says.
///
/// **Source**: Spec: RFC 9110 §7.6.1.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request head for routing.
pub(crate) struct PartsView<'a>(pub(crate) &'a Parts);

impl RequestView for PartsView<'_> {
    fn method(&self) -> &str {
        self.0.method.as_str()
    }

    fn path(&self) -> &[u8] {
        match self.0.uri.path() {
            // CONNECT has none.
            "" => b"/",
            path => path.as_bytes(),
        }
    }

    fn protocol(&self) -> &'static str {
        match self.0.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_11 => "HTTP/1.1",
            _ => "HTTP/2",
        }
    }

    fn query(&self) -> Option<&[u8]> {
        self.0.uri.query().map(str::as_bytes)
    }

    fn has_disguised(&self, name: &str) -> bool {
        let is_disguise = |field: &HeaderName| {
            field.as_str() != name && is_like(field.as_str().as_bytes(), name.as_bytes())
        };
        self.0.headers.keys().any(is_disguise)
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        // In HTTP/2 the host stands in `:authority`, which goes on in place of a field.
        match self.0.uri.authority() {
            Some(authority) if name == "host" => visit(authority.as_str().as_bytes()),
            Some(_) | None => each_value(&self.0.headers, name, visit),
        }
    }
}

impl WholeRequest for PartsView<'_> {
    fn told_timeout(&self) -> Option<Duration> {
        self.0.extensions.get::<ToldTimeout>().map(|told| told.0)
    }

    fn is_further_attempt(&self) -> bool {
        self.0.extensions.get::<FurtherAttempt>().is_some()
    }

    fn each_field(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        let authority = self.0.uri.authority();
        if let Some(authority) = authority {
            visit(b"host", authority.as_str().as_bytes());
        }
        let fields = self.0.headers.iter();
        fields
            .filter(|(name, _)| authority.is_none() || *name != header::HOST)
            .for_each(|(name, value)| visit(name.as_str().as_bytes(), value.as_bytes()));
    }
}

/// Shows each value of a header, in order.
pub(crate) fn each_value(headers: &HeaderMap, name: &str, visit: &mut dyn FnMut(&[u8])) {
    headers.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
}

/// What heads a hop takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadRules {
    pub(crate) fields_max: usize,
    pub(crate) tunnels: Tunnels,
}

/// Whether requests may ask for tunnels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tunnels {
    None,
    Taken,
}

/// What a request has said of certificates before that was taken out.
#[derive(Debug, Clone)]
pub(crate) struct SaidCert(pub(crate) Vec<HeaderValue>);

pub(crate) const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Says by which scheme the caller has asked, where the request does not say so clearly.
pub(crate) fn set_proto(headers: &mut HeaderMap, scheme: &'static str) {
    let mut said = headers.get_all(FORWARDED_PROTO).iter();
    let is_clear =
        said.next().is_some_and(|said| is_scheme(said.as_bytes())) && said.next().is_none();
    if !is_clear {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
}

/// Takes out what is of this hop or only the mesh may say, and checks that the host has one
/// name. There may be so many fields.
pub(crate) fn clean_request(
    parts: &mut Parts,
    HeadRules { fields_max: most, tunnels }: HeadRules,
) -> Result<(), Refusal> {
    let refuse = |message: &str| Refusal::new(400, "bad-request", message);
    if parts.method == http::Method::CONNECT {
        match tunnels {
            Tunnels::None => return Err(refuse("CONNECT is not served")),
            Tunnels::Taken => tunnel::check(parts)?,
        }
    }
    let crumbs = parts.headers.get_all(header::COOKIE).iter().count();
    let is_many = parts.headers.len() - crumbs > most;
    if is_many || crumbs > limits::HTTP_COOKIE_CRUMBS_MAX {
        let (most, pieces) = (limits::HTTP_HEADERS_MAX, limits::HTTP_COOKIE_CRUMBS_MAX);
        let message = format!("the head has more than {most} headers, or {pieces} of cookies");
        return Err(Refusal::new(431, "bad-request", message));
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = parts.uri.authority().map(Authority::as_str);
    let differs = match (host, authority) {
        (Some(host), Some(authority)) => {
            !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
        }
        (Some(_), None) => false,
        (None, Some(authority)) => authority.is_empty(),
        (None, None) => true,
    };
    if differs || more.is_some() {
        return Err(refuse("the host is missing, or has two names"));
    }
    if !host.map(HeaderValue::as_bytes).or(authority.map(str::as_bytes)).is_some_and(is_host) {
        return Err(refuse("the host is not a name or address with an optional port"));
    }
    if parts.headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(refuse("Content-Length is given twice"));
    }
    if parts.headers.keys().any(|name| is_disguised(name.as_str().as_bytes())) {
        return Err(refuse("a header's name reads as Content-Length or Transfer-Encoding to some"));
    }
    // Whoever reads the target after us may speak HTTP/1 and be less strict.
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let is_plain = target.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    if !is_plain || target == "*" && parts.method != http::Method::OPTIONS {
        return Err(refuse("the request target does not fit the method, or is not ASCII"));
    }
    let trailers = parts.headers.get(header::TE).is_some_and(|te| te == "trailers");
    clean(&mut parts.headers);
    parts.headers.remove(header::TE);
    if trailers {
        parts.headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    }
    let said: Vec<HeaderValue> = parts.headers.get_all(CLIENT_CERT).iter().cloned().collect();
    if !said.is_empty() {
        parts.extensions.insert(SaidCert(said));
    }
    let told = parts.headers.get_all(TIMEOUT_FIELD).iter();
    if let Some(told) = told.filter_map(|told| read_timeout(told.as_bytes())).min() {
        parts.extensions.insert(ToldTimeout(told));
    }
    if parts.headers.contains_key(ATTEMPT_FIELD) {
        parts.extensions.insert(FurtherAttempt);
    }
    if strip_mesh(&mut parts.headers).is_some_and(|value| value == TIMING_ASKED) {
        parts.extensions.insert(AsksTiming);
    }
    strip(&mut parts.headers, is_envoys, |_, _| {});
    Ok(())
}

/// Stands beside a request whose calling proxy wants to know where the time goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsksTiming;

/// Within what time a calling proxy wants the head of the answer.
#[derive(Debug, Clone, Copy)]
struct ToldTimeout(Duration);

/// Stands beside a request that its calling proxy has sent before.
#[derive(Debug, Clone, Copy)]
struct FurtherAttempt;

/// Takes out fields of one connection, those that `connection` names included.
pub(super) fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Takes out fields that only the mesh may set. Returns what the one says by which proxies tell each
/// other where the time goes.
pub(super) fn strip_mesh(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut timing = None;
    strip(headers, is_mesh, |name, value| {
        if name == TIMING_FIELD {
            timing = Some(value);
        }
    });
    timing
}

fn strip(
    headers: &mut HeaderMap,
    is_meant: impl Fn(&[u8]) -> bool,
    mut taken: impl FnMut(&HeaderName, HeaderValue),
) {
    let made_up: Vec<HeaderName> =
        headers.keys().filter(|name| is_meant(name.as_str().as_bytes())).cloned().collect();
    for name in made_up {
        if let Some(value) = headers.remove(&name) {
            taken(&name, value);
        }
    }
}

/// Gives the request the target that an HTTP/2 hop needs: scheme, host and path.
pub(crate) fn set_authority(parts: &mut Parts, path_and_query: &str, host_default: &str) {
    let host = parts.headers.remove(header::HOST);
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| host.and_then(|host| host.to_str().map(str::to_owned).ok()))
        .unwrap_or_else(|| host_default.to_owned());
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path_and_query)
        .build();
    // A host that is no authority was taken from HTTP/1.1; its own name serves as well.
    if let Ok(uri) = uri {
        parts.uri = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_pieces_of_cookies_are_bounded_each() {
        let status = |headers: usize, crumbs: usize| {
            let mut request = http::Request::get("http://web/").body(()).expect("a request");
            for number in 0..headers {
                let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
                request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            for _ in 0..crumbs {
                let crumb = HeaderValue::from_static("a=b");
                request.headers_mut().append(header::COOKIE, crumb);
            }
            {
                let (fields_max, tunnels) = (limits::HTTP_HEADERS_MAX, Tunnels::None);
                let rules = HeadRules { fields_max, tunnels };
                clean_request(&mut request.into_parts().0, rules)
            }
            .map_err(|refusal| refusal.status)
        };
        assert_eq!(status(limits::HTTP_HEADERS_MAX, limits::HTTP_COOKIE_CRUMBS_MAX), Ok(()));
        assert_eq!(status(limits::HTTP_HEADERS_MAX + 1, 0), Err(431));
        assert_eq!(status(0, limits::HTTP_COOKIE_CRUMBS_MAX + 1), Err(431));
    }
}
