//! `/v1/internal/acl/authorize`: may the token that is shown do this?
//!
//! Agents ask it before they do what they are asked to do on their host.
//! **Source**: Consul: the endpoint of its web page; the answer's `Reason` is ours.

use ::http::Response;
use weft_core::acl::{Access, Permission, Resource};
use weft_proto::json::acl::{AuthorizeAnswer, AuthorizeQuestion};
use weft_proto::json::{Unknown, from_slice};
use weft_proto::text::Fault;
use weft_runtime::http::Body;

use super::enabled;
use crate::http::error::ApiError;
use crate::http::request::ApiRequest;
use crate::http::routes::Routes;
use crate::http::{Context, page};

/// Questions of one request: an agent asks for the services of its host at once.
const QUESTIONS_MAX: usize = 4_096;

pub(super) fn routes(table: Routes) -> Routes {
    table.post("/v1/internal/acl/authorize", |context, request| Box::pin(answer(context, request)))
}

/// `POST /v1/internal/acl/authorize`
async fn answer(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let questions: Vec<AuthorizeQuestion> = from_slice(&request.body, Unknown::Ignore)?;
    if questions.len() > QUESTIONS_MAX {
        let text = format!("at most {QUESTIONS_MAX} questions are answered at once");
        return Err(ApiError::bad_request(text));
    }
    let mut faults = Vec::new();
    let mut answers = Vec::new();
    for (at, question) in questions.into_iter().enumerate() {
        match permission(&question) {
            Ok(asked) => {
                let denial = request.rights.require(asked).err();
                answers.push(AuthorizeAnswer {
                    allow: denial.is_none(),
                    reason: denial.map(|denial| denial.to_string()).unwrap_or_default(),
                    resource: question.resource,
                    access: question.access,
                    segment: question.segment,
                });
            }
            Err(reason) => faults.push(Fault::new(format!("[{at}]"), reason)),
        }
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    Ok(page::json_response(page::json(&answers)?))
}

fn permission(question: &AuthorizeQuestion) -> Result<Permission<'_>, String> {
    let resource = Resource::of_word(&question.resource).ok_or_else(|| {
        let words = Resource::ALL.map(Resource::as_str).join(", ");
        format!("Resource: {:?} is none of {words}", question.resource)
    })?;
    let segment = question.segment.as_str();
    if !resource.is_named() && !segment.is_empty() {
        return Err(format!("Segment: {resource} is about the cluster as a whole; leave it out"));
    }
    match question.access.as_str() {
        "list" if resource == Resource::Key => Ok(Permission::list_keys(segment)),
        "read" => Ok(Permission::read(resource, segment)),
        "write" => Ok(Permission::write(resource, segment)),
        "write-prefix" if resource == Resource::Key => {
            Ok(Permission::write_below(resource, segment))
        }
        other => {
            let words = [Access::Read, Access::Write].map(Access::as_str).join(" or ");
            Err(format!("Access: {other:?} must be {words}; for keys also list or write-prefix"))
        }
    }
}
