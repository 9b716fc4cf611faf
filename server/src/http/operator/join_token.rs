//! `/v1/operator/join-token…`: tokens with which hosts become members.
//!
//! A server's token opens everything: its holder gets the key that seals the mesh's root. So it
//! takes more than a token for agents, and no agent's certificate is a step towards it.

use http::{Response, StatusCode};
use weft_core::acl::{Permission, Resource};
use weft_core::ca::MemberRole;
use weft_core::limits;
use weft_core::name::NodeName;
use weft_core::state::Command;
use weft_proto::json::join_token::{JoinTokenBody, JoinTokenRequest};
use weft_proto::json::{self, Unknown};
use weft_runtime::clock;
use weft_runtime::http::Body;

use super::{ApiError, Context, Routes, page};
use crate::http::request::ApiRequest;
use crate::join::{JoinError, Terms};

pub(super) fn routes(table: Routes) -> Routes {
    const TOKEN: &str = "/v1/operator/join-token";
    table
        .post(TOKEN, |context, request| Box::pin(create(context, request)))
        .put(TOKEN, |context, request| Box::pin(create(context, request)))
        .get("/v1/operator/join-tokens", |context, request| Box::pin(list(context, request)))
        .delete("/v1/operator/join-token/{id}", |context, request| {
            Box::pin(revoke(context, request))
        })
}

/// `POST /v1/operator/join-token`
async fn create(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let body = if request.body.is_empty() { &b"{}"[..] } else { &request.body };
    let asked: JoinTokenRequest = json::from_slice(body, Unknown::Refuse)?;
    let terms = terms(asked)?;
    judge(terms.role, request)?;
    let (token, record) = context.admission.mint(terms).await?;
    let shown = JoinTokenBody::of(&record, clock::wall());
    let shown = JoinTokenBody { token: Some(token.to_string()), ..shown };
    tracing::info!(id = shown.id, role = %record.role, "join token made");
    Ok(page::json_response(page::json(&shown)?))
}

/// Whether the caller may have a token for this role, who may have one at all.
fn judge(role: MemberRole, request: &ApiRequest) -> Result<(), ApiError> {
    match role {
        MemberRole::Agent => return Ok(()),
        MemberRole::Server => {}
    }
    // Who holds the root's key can be anybody, as who may write every ACL.
    request.rights.require(Permission::snapshot())?;
    let is_judged = request.rights.accessor().is_some();
    if is_judged || request.is_on_host {
        return Ok(());
    }
    let text = "Permission denied: without ACLs a join token for servers is made on a server's \
                own host only, at its `http.addr`; or take the one in `server-join-token` in its \
                data directory";
    Err(ApiError::new(StatusCode::FORBIDDEN, text))
}

fn terms(asked: JoinTokenRequest) -> Result<Terms, ApiError> {
    let JoinTokenRequest { role, uses, ttl, node, description } = asked;
    let lifetime = ttl.map_or(limits::JOIN_TOKEN_LIFETIME_DEFAULT, |ttl| ttl.0);
    let most = match role {
        MemberRole::Agent => limits::JOIN_TOKEN_LIFETIME_MAX,
        MemberRole::Server => limits::SERVER_TOKEN_LIFETIME_MAX,
    };
    let least = limits::JOIN_TOKEN_LIFETIME_MIN;
    if lifetime < least || lifetime > most {
        let (least, most) = (least.as_secs(), most.as_secs() / 3600);
        let text = format!("TTL: must be {least}s to {most}h for the role {role}");
        return Err(ApiError::bad_request(text));
    }
    if role == MemberRole::Server && uses == 0 {
        let text = "Uses: a join token for servers is good for a number of them, at least 1";
        return Err(ApiError::bad_request(text));
    }
    let named =
        |error: weft_core::name::InvalidName| ApiError::bad_request(format!("Node: {error}"));
    let node = match node.as_str() {
        "" => None,
        name => Some(NodeName::parse(name).map_err(named)?),
    };
    if description.len() > limits::DESCRIPTION_BYTES_MAX {
        let most = limits::DESCRIPTION_BYTES_MAX;
        return Err(ApiError::bad_request(format!("Description: more than {most} bytes")));
    }
    let uses = (uses > 0).then_some(uses);
    Ok(Terms { role, uses, lifetime, node, description })
}

/// `GET /v1/operator/join-tokens`: those that are over, too, for a day.
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    let consistency = request.query.read_options()?.consistency;
    let state = context.reader.state(consistency).await?;
    let now = clock::wall();
    let mut shown: Vec<_> =
        state.join_tokens().map(|token| JoinTokenBody::of(token, now)).collect();
    shown.sort_by_key(|token| token.create_index);
    Ok(page::json_response(page::json(&shown)?))
}

/// `DELETE /v1/operator/join-token/:id`: who joined with it stays a member.
async fn revoke(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let id = request.params.get("id").to_ascii_lowercase();
    let command = Command::RevokeJoinToken { id };
    context.proposer.write(&request.caller, command).await?;
    Ok(page::verdict(true))
}

impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Write(error) => error.into(),
            JoinError::Name(_) => Self::bad_request(error.to_string()),
            JoinError::NotReady | JoinError::Sign(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}
