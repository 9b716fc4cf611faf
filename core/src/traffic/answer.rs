//! What the caller's proxy answers itself because a route says so.

use super::{RequestView, Rewrite};
use crate::chain::RouteAction;
use crate::config_entry::{RouteRedirect, RouteResponse};

/// An answer that a route gives, without a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAnswer {
    /// Sends the caller elsewhere.
    Redirect(RouteRedirect),
    /// The same for every request.
    Response(RouteResponse),
}

/// One answer, made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeAnswer {
    /// The status.
    pub status: u16,
    /// Why the proxy answers, in one word.
    pub cause: &'static str,
    /// A header: its name in lower case, and its value.
    pub header: (&'static str, Vec<u8>),
    /// The body.
    pub body: Vec<u8>,
}

impl RouteAnswer {
    /// Returns the answer of a route, if it gives one.
    pub(super) fn of(action: &RouteAction) -> Option<Self> {
        match (&action.redirect, &action.response) {
            (Some(redirect), _) => Some(Self::Redirect(redirect.clone())),
            (None, Some(response)) => Some(Self::Response(response.clone())),
            (None, None) => None,
        }
    }

    /// Answers a request of whose path so many bytes were matched.
    pub fn make<R: RequestView + ?Sized>(&self, request: &R, matched_bytes: usize) -> MadeAnswer {
        match self {
            Self::Redirect(redirect) => MadeAnswer {
                status: if redirect.code == 0 { 301 } else { redirect.code },
                cause: "redirect",
                header: ("location", location(redirect, request, matched_bytes)),
                body: Vec::new(),
            },
            Self::Response(response) => {
                let kind = match &*response.content_type {
                    "" => "text/plain; charset=utf-8",
                    kind => kind,
                };
                MadeAnswer {
                    status: response.status,
                    cause: "direct-response",
                    header: ("content-type", kind.into()),
                    body: response.body.clone().into_bytes(),
                }
            }
        }
    }
}

/// Says where a request is sent.
///
/// It is always a whole URL: of a path alone that begins with two slashes, callers would read a
/// host.
fn location<R: RequestView + ?Sized>(
    redirect: &RouteRedirect,
    request: &R,
    matched_bytes: usize,
) -> Vec<u8> {
    let mut said = (Vec::new(), Vec::new());
    request.each_header("host", &mut |host| said.0 = host.to_vec());
    request.each_header("x-forwarded-proto", &mut |proto| said.1 = proto.to_ascii_lowercase());
    let (said_host, said_scheme) = said;
    let scheme = match &redirect.scheme {
        Some(scheme) => scheme,
        None if said_scheme == b"https" => "https",
        None => "http",
    };
    let mut out = format!("{scheme}://").into_bytes();
    let (name, port) = split_port(&said_host);
    match &redirect.host {
        Some(host) => out.extend_from_slice(host.as_bytes()),
        None => out.extend_from_slice(name),
    }
    if redirect.port != 0 {
        out.extend_from_slice(format!(":{}", redirect.port).as_bytes());
    } else if redirect.host.is_none() && redirect.scheme.is_none() {
        out.extend_from_slice(port);
    }
    match (&redirect.path, &redirect.prefix_rewrite) {
        (Some(path), _) => out.extend_from_slice(path.as_bytes()),
        (None, Some(replacement)) => {
            Rewrite::Prefix { matched_bytes, replacement }.apply(request.path(), &mut out);
        }
        (None, None) => out.extend_from_slice(request.path()),
    }
    if let Some(query) = request.query() {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out
}

/// Splits a host from its port, which keeps its colon.
fn split_port(host: &[u8]) -> (&[u8], &[u8]) {
    let colon = host.iter().rposition(|byte| *byte == b':');
    match colon.filter(|at| host[at + 1..].iter().all(u8::is_ascii_digit)) {
        Some(at) => host.split_at(at),
        None => (host, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::Request;
    use super::*;

    fn sent_to(redirect: serde_json::Value, request: &str) -> String {
        let redirect = serde_json::from_value(redirect).expect("a redirect");
        let made = RouteAnswer::Redirect(redirect).make(&Request::parse(request), "/old".len());
        assert_eq!((made.header.0, made.cause), ("location", "redirect"));
        format!("{} {}", made.status, String::from_utf8_lossy(&made.header.1))
    }

    #[test]
    fn a_redirect_changes_what_it_names_and_keeps_the_rest() {
        use serde_json::json;
        for (redirect, host, want) in [
            (json!({ "Scheme": "https" }), "a.example:80", "301 https://a.example/old/x?q=1"),
            (json!({ "Host": "b.example" }), "a.example:80", "301 http://b.example/old/x?q=1"),
            (json!({ "Port": 8443 }), "a.example:80", "301 http://a.example:8443/old/x?q=1"),
            (json!({ "Path": "/n" }), "a.example:80", "301 http://a.example:80/n?q=1"),
            (json!({ "PrefixRewrite": "/n" }), "[::1]:80", "301 http://[::1]:80/n/x?q=1"),
            (json!({ "Port": 1, "Code": 308 }), "[::1]", "308 http://[::1]:1/old/x?q=1"),
        ] {
            let request = format!("GET /old/x?q=1 | host: {host}");
            assert_eq!(sent_to(redirect.clone(), &request), want, "{redirect}");
        }
        let request = "GET //evil.example/x | host: a.example | x-forwarded-proto: https";
        let sent = sent_to(json!({ "Code": 302 }), request);
        assert_eq!(sent, "302 https://a.example//evil.example/x");
    }

    #[test]
    fn a_fixed_answer_is_what_it_says() {
        let json = serde_json::json!({ "Status": 418, "Body": "short" });
        let response = serde_json::from_value(json).expect("a response");
        let made = RouteAnswer::Response(response).make(&Request::parse("GET /"), 0);
        assert_eq!((made.status, made.cause), (418, "direct-response"));
        assert_eq!(made.header, ("content-type", b"text/plain; charset=utf-8".to_vec()));
        assert_eq!(made.body, b"short");
    }
}
