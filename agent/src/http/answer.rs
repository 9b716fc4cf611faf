//! From results to answers: the only place where an error becomes a status.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use weft_proto::text::Fault;
use weft_runtime::http::{Body, BodyError, ForeignRequest, full};

use crate::acl::Refusal;
use crate::checks::ReportError;
use crate::local::LocalError;
use crate::servers::{ForwardError, reason};

/// The type of answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Tells clients what happens where no rule says otherwise.
pub(super) const DEFAULT_POLICY: HeaderName =
    HeaderName::from_static("x-consul-default-acl-policy");
/// Tells clients that a list has more than they may see.
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");
/// Tells clients the index of an answer.
pub(super) const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
/// Tells clients the hash of an answer.
pub(super) const CONTENT_HASH: HeaderName = HeaderName::from_static("x-consul-contenthash");

/// Says why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// As many do that as may.
    #[error("{0}")]
    Busy(String),
    /// The body could not be read.
    #[error("cannot read the request's body")]
    Body(#[from] BodyError),
    /// A page of another site may have sent it.
    #[error(transparent)]
    Foreign(#[from] ForeignRequest),
    /// A server was asked and none answered.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// A change of the registrations was not made.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The body is not what is wanted.
    #[error("{}", Fault::line(.0))]
    Malformed(Vec<Fault>),
    /// The path exists, but not with this method.
    #[error("method not allowed; use {allow}")]
    Method {
        /// The methods it has.
        allow: String,
    },
    /// The mesh has no ACLs.
    #[error("ACL support disabled")]
    NoAcls,
    /// There is no such page.
    #[error("there is nothing at {0}")]
    NoPage(String),
    /// What is asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A parameter of the query is wrong.
    #[error("{0}")]
    Query(String),
    /// The caller lacks a right.
    #[error(transparent)]
    Rights(#[from] Refusal),
    /// Not all of the configuration is in force.
    #[error("{0}")]
    Reload(String),
    /// The caller may not have what it asks for.
    #[error("{0}")]
    Refused(String),
    /// A report was not taken.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The agent is going down.
    #[error("the agent is stopping")]
    Stopping,
    /// What is needed to answer is not known at the moment.
    #[error("{0}")]
    Unavailable(String),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Slow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::Foreign(_) | Self::Refused(_) | Self::Rights(_) => StatusCode::FORBIDDEN,
            Self::Forward(ForwardError::NotApi) => StatusCode::NOT_FOUND,
            Self::Forward(ForwardError::NoServer { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Local(error) => match error {
                LocalError::Refused(_) => StatusCode::BAD_REQUEST,
                LocalError::UnknownCheck(_) | LocalError::UnknownService(_) => {
                    StatusCode::NOT_FOUND
                }
                LocalError::Stopped(_) => StatusCode::SERVICE_UNAVAILABLE,
                LocalError::Unkept { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Malformed(_) | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoAcls => StatusCode::UNAUTHORIZED,
            Self::NoPage(_) | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Reload(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Report(ReportError::NotTtl(_) | ReportError::Unknown(_)) => StatusCode::NOT_FOUND,
            Self::Report(ReportError::Stopped) | Self::Stopping | Self::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What is said: Consul's own words where clients know them.
    fn text(&self) -> String {
        match self {
            Self::Local(LocalError::UnknownService(id)) => format!(
                "Unknown service ID {id:?}. Ensure that the service ID is passed, not the \
                 service name."
            ),
            Self::Local(LocalError::UnknownCheck(id)) | Self::Report(ReportError::Unknown(id)) => {
                format!(
                    "Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name."
                )
            }
            Self::Report(ReportError::NotTtl(id)) => {
                format!("CheckID {id:?} does not have associated TTL")
            }
            Self::Malformed(faults) => format!("Request decode failed: {}", Fault::line(faults)),
            other => reason(other),
        }
    }

    /// Makes the answer: the status and one text that says why.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut text = self.text();
        text.push('\n');
        let mut response = Response::new(full(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, TEXT);
        mark(headers);
        if let Self::Method { allow } = &self
            && let Ok(allow) = allow.parse()
        {
            headers.insert(header::ALLOW, allow);
        }
        response
    }
}

/// Sets what every answer of the API has.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert(DEFAULT_POLICY, HeaderValue::from_static("allow"));
    // What is said here is for programs; nothing in it is to be run by a browser.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Answers what may be done at a path.
pub(super) fn allowed(allow: &str) -> Response<Body> {
    let mut response = text(String::new(), TEXT);
    if let Ok(allow) = allow.parse() {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// Answers with a text of some type.
pub(super) fn text(text: String, kind: HeaderValue) -> Response<Body> {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    mark(response.headers_mut());
    response
}

/// Answers with a record as JSON.
pub(super) fn json<T: Serialize>(record: &T, is_pretty: bool) -> Response<Body> {
    let text = match is_pretty {
        true => serde_json::to_string_pretty(record),
        false => serde_json::to_string(record),
    };
    text_of_json(text.expect("records have text keys and serialise to memory"))
}

/// Answers with a list, and says whether the caller's token may not see all of it.
///
/// **Source**: Consul: api-docs/api-structure#results-filtered-by-acls.
pub(super) fn list<T: Serialize>(record: &T, is_pretty: bool, is_filtered: bool) -> Response<Body> {
    let mut response = json(record, is_pretty);
    if is_filtered {
        response.headers_mut().insert(FILTERED, HeaderValue::from_static("true"));
    }
    response
}

fn text_of_json(json: String) -> Response<Body> {
    text(json, JSON)
}
