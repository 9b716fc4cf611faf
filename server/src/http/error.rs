//! The only mapping from our errors to HTTP status codes and texts.

use http::{HeaderValue, Response, StatusCode, header};
use weft_core::acl::Denial;
use weft_core::filter::FilterError;
use weft_core::state::{AclRefusal, Refusal};
use weft_proto::json::Fault;
use weft_runtime::http::{Body, BodyError, full};
use weft_runtime::telemetry::audit::AuditError;

use crate::acl::UnknownToken;
use crate::propose::WriteError;
use crate::raft::ProposeError;

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// The methods that the path has, for 405.
    pub(super) allow: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), allow: None }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// Turns it into an answer: a line of plain text, as clients show it.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut answer = Response::new(full(self.text));
        *answer.status_mut() = self.status;
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            answer.headers_mut().insert(header::ALLOW, allow);
        }
        answer
    }
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> Self {
        Self::new(StatusCode::FORBIDDEN, denial.to_string())
    }
}

impl From<UnknownToken> for ApiError {
    fn from(error: UnknownToken) -> Self {
        Self::new(StatusCode::FORBIDDEN, error.to_string())
    }
}

impl From<ProposeError> for ApiError {
    /// **Source**: Consul answers 500 `No cluster leader`, which clients look for. Differs: a
    /// leader without a majority and a server that is going down say 503, so that an agent asks
    /// another one.
    fn from(error: ProposeError) -> Self {
        let status = match &error {
            ProposeError::NoLeader(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ProposeError::DiskFull { .. }
            | ProposeError::NoQuorum
            | ProposeError::Stopped
            | ProposeError::StorageFailed { .. }
            | ProposeError::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
            ProposeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Consensus(error) => error.into(),
            WriteError::Denied { .. }
            | WriteError::Lacks(_)
            | WriteError::Refused(Refusal::NotExternal { .. }) => {
                Self::new(StatusCode::FORBIDDEN, error.to_string())
            }
            // What is named in the path of an update.
            WriteError::Refused(Refusal::Acl(AclRefusal::Unknown { field, .. }))
                if matches!(field.as_str(), "AccessorID" | "ID") =>
            {
                let kind = if field == "ID" { "policy or role" } else { "token" };
                Self::not_found(format!("Requested {kind} does not exist: ACL not found"))
            }
            // As Consul says it, and clients look for.
            WriteError::Refused(Refusal::Acl(AclRefusal::BootstrapDone { .. })) => {
                Self::new(StatusCode::FORBIDDEN, format!("Permission denied: {error}"))
            }
            // Clients look for these texts in answers with 500.
            WriteError::Refused(
                Refusal::InvalidSession(_)
                | Refusal::SessionCheckCritical(_)
                | Refusal::SessionCheckMissing(_)
                | Refusal::SessionNodeMissing,
            ) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            WriteError::Refused(
                refusal @ (Refusal::UnknownIntention { .. }
                | Refusal::UnknownJoinToken { .. }
                | Refusal::UnknownQuery { .. }
                | Refusal::UnknownRollout { .. }),
            ) => Self::not_found(refusal.to_string()),
            WriteError::Refused(refusal) => Self::bad_request(refusal.to_string()),
        }
    }
}

impl From<AuditError> for ApiError {
    /// Nothing was done, and another server may be able to write it down.
    fn from(error: AuditError) -> Self {
        let text = format!("audit.delivery_guarantee is enforced, and {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::bad_request(format!("Failed to create boolean expression evaluator: {error}"))
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = match &error {
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
            BodyError::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let text = match &error {
            BodyError::TooLarge { limit_bytes } => too_large("", *limit_bytes),
            BodyError::Broken(_) | BodyError::Slow { .. } => error.to_string(),
        };
        Self::new(status, text)
    }
}

/// Says that a body is too large, in words of which each client finds its own.
///
/// **Source**: Vault looks for `Value exceeds` and `is too large`, Consul says `Request body`.
pub(super) fn too_large(length: &str, limit_bytes: usize) -> String {
    format!(
        "Request body{length} too large, max size: {limit_bytes} bytes. Value exceeds \
         {limit_bytes} byte limit: it is too large"
    )
}

impl From<Vec<Fault>> for ApiError {
    fn from(faults: Vec<Fault>) -> Self {
        Self::bad_request(format!("Request decode failed: {}", Fault::line(&faults)))
    }
}
