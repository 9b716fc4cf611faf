//! What of an API goes into the audit log: every write, and every request that was refused for
//! want of a right. Values, bodies and tokens never do.
//!
//! A record tells the page and its parameters as they were taken apart to be carried out, so that
//! no spelling of a URL is carried out as one thing and recorded as another.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use http::{Method, Request, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Map, Value};

use super::accept::Remote;
use super::router::{Found, Router, percent_decode};
use crate::clock;
use crate::telemetry::audit::{AuditError, AuditLog};

/// An API's part of the audit log.
#[derive(Debug, Clone)]
pub struct ApiAudit {
    /// The log.
    pub log: AuditLog,
    /// Whether that is not done which cannot be written down first.
    pub is_enforced: bool,
    /// The host whose API it is.
    pub node: String,
}

/// A request that may be worth a record.
#[derive(Debug)]
pub struct Noted {
    began: Instant,
    method: Method,
    uri: Uri,
    /// Who asked first; `None` on a unix socket.
    pub remote: Option<IpAddr>,
    /// Through which member of the mesh it came, if through one.
    pub through: Option<String>,
    /// Whose token was shown: what may be told of it, never the secret. To be filled in once it
    /// is known.
    pub token: Option<String>,
    /// Whether there is a record of it though it changes nothing and was not refused.
    pub is_told: bool,
}

/// One line.
#[derive(Debug, Serialize)]
struct Record<'a> {
    time: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// `start`, before anything is done, or `complete`.
    stage: &'static str,
    node: &'a str,
    method: &'a str,
    /// The pattern of the page; none for what is no page.
    endpoint: Option<&'a str>,
    params: Map<String, Value>,
    query: Map<String, Value>,
    token: Option<&'a str>,
    remote: Option<IpAddr>,
    through: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<u64>,
}

impl Noted {
    /// Keeps what a record of the request would tell.
    pub fn of<B>(request: &Request<B>) -> Self {
        let remote = match request.extensions().get::<Remote>() {
            Some(Remote::Tcp(address)) => Some(SocketAddr::ip(address)),
            Some(Remote::Unix) | None => None,
        };
        Self {
            began: clock::instant(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            remote,
            through: None,
            token: None,
            is_told: false,
        }
    }

    fn is_worth_it(&self) -> bool {
        self.is_told || !matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    fn record<'a, H>(&'a self, router: &'a Router<H>, node: &'a str) -> Record<'a> {
        let method = if self.method == Method::HEAD { &Method::GET } else { &self.method };
        let (endpoint, params) = match router.find(method, self.uri.path()) {
            Found::Handler { pattern, params, .. } => (Some(pattern), params),
            Found::NotFound | Found::WrongMethod { .. } => (None, super::Params::default()),
        };
        let text = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
        Record {
            time: clock::wall().rfc3339(),
            kind: "api",
            stage: "complete",
            node,
            method: self.method.as_str(),
            endpoint,
            params: params.iter().map(text).collect(),
            query: query(self.uri.query().unwrap_or_default()),
            token: self.token.as_deref(),
            remote: self.remote,
            through: self.through.as_deref(),
            status: None,
            duration_us: None,
        }
    }
}

impl ApiAudit {
    /// Writes down what is about to be done, where that is demanded.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be written: then nothing may be done.
    pub async fn begin<H>(&self, router: &Router<H>, noted: &Noted) -> Result<(), AuditError> {
        if !self.is_enforced || !noted.is_worth_it() {
            return Ok(());
        }
        let record = Record { stage: "start", ..noted.record(router, &self.node) };
        self.log.demand(&record).await
    }

    /// Writes down how a request ended, if it is worth it.
    pub fn complete<H>(&self, router: &Router<H>, noted: &Noted, status: StatusCode) {
        let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_refused || noted.is_worth_it() {
            let took = clock::instant().duration_since(noted.began).as_micros();
            self.log.write(&Record {
                status: Some(status.as_u16()),
                duration_us: u64::try_from(took).ok(),
                ..noted.record(router, &self.node)
            });
        }
    }
}

/// Takes a query string apart and leaves the token out. What cannot be read stands as it came; of
/// a name that is there more than once, all values stand.
fn query(text: &str) -> Map<String, Value> {
    let decode =
        |text: &str| percent_decode(&text.replace('+', " ")).unwrap_or_else(|| text.to_owned());
    let mut query = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        if name == "token" {
            continue;
        }
        let values = query.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(value.into());
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskTree;
    use crate::telemetry::audit::AuditOptions;

    fn router() -> Router<()> {
        Router::new().route(Method::PUT, "/v1/kv/{*key}", ()).route(
            Method::GET,
            "/v1/kv/{*key}",
            (),
        )
    }

    #[tokio::test]
    async fn writes_and_refusals_are_told_as_they_are_carried_out_and_without_secrets() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.json");
        let options =
            AuditOptions { path: path.clone(), rotate_bytes: 1 << 20, rotate_files_max: 1 };
        let log = AuditLog::open(options, &TaskTree::root("test")).expect("opened");
        let audit = ApiAudit { log, is_enforced: true, node: "s1".to_owned() };
        for (method, uri, status) in [
            (Method::PUT, "/v1/kv/a%2F%62?cas=0&token=secret&recurse&x=1+2", StatusCode::OK),
            (Method::GET, "/v1/kv/a?token=%73ecret&to%6ben=secret", StatusCode::FORBIDDEN),
            (Method::GET, "/v1/kv/read", StatusCode::OK),
            (Method::DELETE, "/v1/nothing", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
            let mut noted = Noted::of(&request);
            noted.token = Some("accessor".to_owned());
            audit.begin(&router(), &noted).await.expect("written");
            audit.complete(&router(), &noted, status);
        }
        audit.log.demand(&serde_json::json!({})).await.expect("all before it are written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert!(!text.contains("secret"), "{text}");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let told = |line: &Value| {
            let of = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            (of("stage"), of("method"), of("endpoint"), line["status"].as_u64())
        };
        let expected = [
            ("start", "PUT", "/v1/kv/{*key}", None),
            ("complete", "PUT", "/v1/kv/{*key}", Some(200)),
            ("complete", "GET", "/v1/kv/{*key}", Some(403)),
            ("start", "DELETE", "-", None),
            ("complete", "DELETE", "-", Some(405)),
        ];
        let told: Vec<_> = lines.iter().take(expected.len()).map(told).collect();
        let expected = expected.map(|(stage, method, endpoint, status)| {
            (stage.to_owned(), method.to_owned(), endpoint.to_owned(), status)
        });
        assert_eq!(told, expected);
        assert_eq!(lines[1]["params"]["key"], "a/b");
        let query = serde_json::json!({ "cas": ["0"], "recurse": [""], "x": ["1 2"] });
        assert_eq!(lines[1]["query"], query);
        assert_eq!(lines[2]["query"], serde_json::json!({}));
        assert_eq!(lines[2]["token"], "accessor");
    }
}
