//! What a request asks for: the query string, taken apart once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use weft_core::catalog::Node;
use weft_core::filter::{Filter, Schema};
use weft_core::index::Index;
use weft_core::name::{Datacenter, ServiceName};
use weft_core::time::Span;
use weft_runtime::http::Params;

use super::bodies::Place;
use super::error::ApiError;
use crate::acl::{Credential, Rights, Secret};
use crate::propose::Caller;
use crate::read::{Consistency, ReadOptions};

/// A request, read.
pub(super) struct ApiRequest {
    /// As asked; `HEAD` is answered as `GET` is.
    pub(super) method: Method,
    pub(super) path: Box<str>,
    pub(super) params: Params,
    pub(super) query: Query,
    /// The headers that may carry a token, as shown.
    pub(super) tokens: Vec<HeaderValue>,
    /// The address of who asked first, if those who passed the request on say.
    pub(super) asker: Option<IpAddr>,
    pub(super) body: Bytes,
    /// The body's, until the request is answered.
    pub(super) _place: Place,
    pub(super) caller: Caller,
    /// What was shown, to be judged anew on each state that is answered from.
    pub(super) credential: Credential,
    /// What the token may do, judged on the state at hand when the request came.
    pub(super) rights: Rights,
    /// Whether it comes from a server's own host, at the door on loopback.
    pub(super) is_on_host: bool,
}

/// Reads the token of a request.
///
/// **Source**: Consul: api-docs/api-structure#authentication: the parameter, then the header of
/// its own, then `Authorization`.
pub(super) fn credential(query: &Query, headers: &HeaderMap) -> Credential {
    // What is no text is no token either, and must not count as none.
    let text = |name: &str| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let bearer = || {
        let value = text("authorization")?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.to_owned())
    };
    let shown = [query.value("token").map(str::to_owned), text("x-consul-token"), bearer()];
    Credential::of(shown.into_iter().flatten().find_map(|text| Secret::new(&text)))
}

impl ApiRequest {
    /// Returns what tells its question from others: two requests with the same text get the same
    /// answer of the same state. Whose token it was is in it, the token is not; who passed the
    /// request on counts only where distances are told from there.
    pub(super) fn question(&self) -> String {
        let mut question = question(&self.path, &self.query, &self.tokens);
        // A prepared query may ask for distances where its asker does not.
        if self.query.has("near") || self.path.starts_with("/v1/query/") {
            if let Caller::Client { through: Some(through), .. } = &self.caller {
                question.extend(["\0", &through.to_string()]);
            }
            if let Some(address) = self.asker {
                question.extend(["\0", &address.to_string()]);
            }
        }
        question
    }
}

fn question(path: &str, query: &Query, tokens: &[HeaderValue]) -> String {
    let mut question = path.to_owned();
    // No value has a control character, so none reads as two.
    for (key, value) in query.0.iter().filter(|(key, _)| !OF_WAITING.contains(&&**key)) {
        if key == "token" {
            question.extend(['\0'].into_iter().chain(hidden(value.as_bytes())));
        } else {
            question.extend(["\0", key, "=", value]);
        }
    }
    for value in tokens {
        question.extend(['\0'].into_iter().chain(hidden(value.as_bytes())));
    }
    question
}

/// Returns the headers that may carry a token.
pub(super) fn tokens(headers: &HeaderMap) -> Vec<HeaderValue> {
    WITH_TOKENS.iter().flat_map(|name| headers.get_all(*name)).cloned().collect()
}

/// The parameters that say how to wait for an answer, not which.
const OF_WAITING: [&str; 7] =
    ["cached", "consistent", "index", "leader", "pretty", "stale", "wait"];
/// The headers that may carry a token.
const WITH_TOKENS: [&str; 3] = ["authorization", "x-consul-token", "x-weft-token"];

/// Returns the digest of a secret, in text.
fn hidden(secret: &[u8]) -> impl Iterator<Item = char> {
    let digest = weft_runtime::digest::of_bytes(secret);
    digest.into_iter().map(char::from)
}

/// The query string as pairs, in their order.
#[derive(Debug, Default, Clone)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query string apart.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let texts = || text.split('&').filter(|pair| !pair.is_empty());
        // Exactly as long as it must be: a request that waits keeps it.
        let mut pairs = Vec::with_capacity(texts().count());
        for pair in texts() {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(key), decode(value)) {
                (Some(key), Some(value)) => pairs.push((key, value)),
                _ => {
                    let text = format!("Invalid query parameter {pair:?}");
                    return Err(ApiError::bad_request(text));
                }
            }
        }
        Ok(Self(pairs))
    }

    /// Whether the parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Returns the first value that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).find(|value| !value.is_empty())
    }

    /// Returns every value.
    pub(super) fn values<'a, 'b>(
        &'a self,
        name: &'b str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns a value that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        let text = format!("required query parameter '{name}' not set");
        self.value(name).ok_or_else(|| ApiError::bad_request(text))
    }

    /// Reads the compare-and-set index.
    ///
    /// Differs: Consul takes an empty `?cas=` for none, and then writes whatever is there; who
    /// sends it has lost an index and means no such thing.
    pub(super) fn cas(&self) -> Result<Option<Index>, ApiError> {
        let parse = |text: &str| {
            text.parse().map(Index).map_err(|_| {
                ApiError::bad_request(format!("Invalid value for ?cas: {text:?} is not an index"))
            })
        };
        self.values("cas").next().map(parse).transpose()
    }

    /// Reads how fresh the answer must be, and what to wait for.
    ///
    /// **Source**: Consul: api-docs/features/blocking, api-docs/features/consistency.
    pub(super) fn read_options(&self) -> Result<ReadOptions, ApiError> {
        let (stale, consistent) = (self.has("stale"), self.has("consistent"));
        let consistency = match (stale, consistent) {
            (true, true) => {
                let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
                return Err(ApiError::bad_request(text));
            }
            (true, false) if !self.has("leader") => Consistency::Stale,
            (true | false, false) => Consistency::Default,
            (false, true) => Consistency::Consistent,
        };
        let newer_than = self
            .value("index")
            .map(|text| text.parse().map(Index).map_err(|_| ApiError::bad_request("Invalid index")))
            .transpose()?;
        let wait = self.value("wait").map(wait).transpose()?;
        let max_stale = self.value("max_stale").map(|text| {
            let parsed = text.parse::<Span>().map(|span| span.0);
            parsed.map_err(|_| ApiError::bad_request("Invalid max_stale"))
        });
        let max_stale = max_stale.transpose()?;
        Ok(ReadOptions { consistency, max_stale, newer_than, wait })
    }

    /// Refuses another datacenter.
    pub(super) fn check_datacenter(&self, own: Option<&Datacenter>) -> Result<(), ApiError> {
        let asked = self.value("dc").or_else(|| self.value("datacenter"));
        match (asked, own) {
            (Some(asked), Some(own)) if asked != own.as_str() => Err(ApiError::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                format!("No path to datacenter {asked:?}"),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what is elsewhere: there is one namespace, one partition, and no peering.
    ///
    /// **Source**: Consul's community edition answers 400 and names the parameter.
    pub(super) fn check_tenancy(&self) -> Result<(), ApiError> {
        for (name, what) in [
            ("ns", "there is one namespace"),
            ("namespace", "there is one namespace"),
            ("partition", "there is one partition"),
            ("ap", "there is one partition"),
        ] {
            if self.values(name).any(|value| !matches!(value, "" | "default")) {
                let reason = format!("{what}; leave it out or write \"default\"");
                return Err(ApiError::bad_request(format!(
                    "Invalid query parameter: {name:?} - {reason}"
                )));
            }
        }
        match self.value("peer") {
            Some(peer) => Err(ApiError::bad_request(format!(
                "Invalid query parameter: \"peer\" - there is no peering {peer:?}"
            ))),
            None => Ok(()),
        }
    }

    /// Reads the filter expression, checked against the record's fields when they are known.
    pub(super) fn filter(&self, schema: Option<&Schema>) -> Result<Option<Filter>, ApiError> {
        let Some(text) = self.value("filter") else { return Ok(None) };
        Ok(Some(match schema {
            Some(schema) => Filter::parse_for(text, schema)?,
            None => Filter::parse(text)?,
        }))
    }

    /// Reads `passing`: there and not false.
    pub(super) fn passing(&self) -> Result<bool, ApiError> {
        if !self.has("passing") {
            return Ok(false);
        }
        match self.value("passing").unwrap_or("1").to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(ApiError::bad_request("Invalid value for ?passing")),
        }
    }

    /// Reads the pairs that a node's metadata must have.
    pub(super) fn node_meta(&self) -> BTreeMap<String, String> {
        self.values("node-meta")
            .map(|pair| pair.split_once(':').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

/// Whether a node has all the pairs.
pub(super) fn has_meta(node: &Node, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| node.meta.get(key) == Some(value))
}

/// Reads a service's name from the path.
pub(super) fn service_name(text: &str) -> Result<ServiceName, ApiError> {
    ServiceName::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// A duration with a unit; clients also send bare seconds, which Consul refuses.
fn wait(text: &str) -> Result<Duration, ApiError> {
    text.parse::<Span>().map(|span| span.0).map_err(|_| ApiError::bad_request("Invalid wait time"))
}

/// Decodes `%xx` and `+`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
                rest = after;
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_clients_write_it() {
        let query = Query::parse("stale=&tag=a&tag=b%20c&index=7&wait=5000ms&filter=a+%3D%3D+1")
            .expect("a query");
        assert!(query.has("stale"));
        assert_eq!(query.values("tag").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(query.value("filter"), Some("a == 1"));
        let options = query.read_options().expect("options");
        assert_eq!(options.consistency, Consistency::Stale);
        assert_eq!(options.newer_than, Some(Index(7)));
        let bound = Query::parse("stale&max_stale=2s").expect("a query").read_options();
        let bound = bound.expect("options");
        let at = |seconds| bound.bounded(Duration::from_secs(seconds)).consistency;
        assert_eq!((at(2), at(3)), (Consistency::Stale, Consistency::Default));
        assert_eq!(options.wait, Some(Duration::from_secs(5)));
    }

    #[test]
    fn who_asks_the_same_asks_one_question() {
        let question = |path: &str, query: &str, token: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                headers.insert("x-consul-token", token.parse().expect("a value"));
            }
            super::question(path, &Query::parse(query).expect("a query"), &tokens(&headers))
        };
        let path = "/v1/health/service/web";
        let plain = question(path, "passing", None);
        assert_eq!(plain, question(path, "index=7&passing&wait=5s&stale", None));
        for other in [
            question("/v1/health/service/db", "passing", None),
            question(path, "", None),
            question(path, "passing&tag=a", None),
            question(path, "passing&tag=a&tag=b", None),
            question(path, "passing&tag=a%26tag=b", None),
            question(path, "passing", Some("secret-1")),
            question(path, "passing", Some("secret-2")),
            question(path, "passing&token=secret-3", None),
        ] {
            assert_ne!(plain, other);
            assert!(!other.contains("secret"), "{other}");
        }
        let with = |token| question(path, "passing", Some(token));
        assert_ne!(with("secret-1"), with("secret-2"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, expected) in [
            ("index=x", "Invalid index"),
            ("index=-1", "Invalid index"),
            ("index=18446744073709551616", "Invalid index"),
            ("wait=10", "Invalid wait time"),
            ("wait=-5s", "Invalid wait time"),
            ("wait=garbage", "Invalid wait time"),
            ("wait=99999999999h", "Invalid wait time"),
            ("stale&consistent", "Cannot specify ?stale with ?consistent"),
        ] {
            let error = Query::parse(text).expect("a query").read_options();
            assert!(error.expect_err(text).text.contains(expected), "{text}");
        }
        for text in ["a=%", "a=%zz", "a=%+f", "a=%00", "a=%ff"] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
        for (text, expected) in [("", false), ("passing", true), ("passing=0", false)] {
            assert_eq!(Query::parse(text).expect("a query").passing(), Ok(expected), "{text}");
        }
        assert!(Query::parse("passing=maybe").expect("a query").passing().is_err());
        for (text, expected) in [("", Ok(None)), ("cas=0", Ok(Some(Index(0))))] {
            assert_eq!(Query::parse(text).expect("a query").cas(), expected, "{text}");
        }
        for text in ["cas", "cas=", "cas=x", "cas=-1"] {
            assert!(Query::parse(text).expect("a query").cas().is_err(), "{text}");
        }
    }
}
