//! Logging in and out.
//!
//! **Source**: Consul: api-docs/acl#login-to-auth-method, #logout-from-auth-method.

use http::{Response, StatusCode};
use tracing::info;
use weft_core::acl::{AccessorId, AuthMethodName, Grants, TokenLocality};
use weft_core::state::{AclCommand, Command, Expiry, TokenDraft, Writing};
use weft_proto::json::login::LoginBody;
use weft_runtime::http::Body;
use weft_runtime::{clock, entropy};

use super::token::new_secret;
use super::{ApiError, ApiRequest, Context, Routes, enabled, show};
use crate::acl::LoginError;
use crate::http::page;
use crate::propose::Caller;
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table
        .post("/v1/acl/login", |context, request| Box::pin(login(context, request)))
        .put("/v1/acl/login", |context, request| Box::pin(login(context, request)))
        .post("/v1/acl/logout", |context, request| Box::pin(logout(context, request)))
        .put("/v1/acl/logout", |context, request| Box::pin(logout(context, request)))
}

/// `POST /v1/acl/login`: needs no token; the credential is what is judged.
async fn login(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let body = LoginBody::decode(&request.body)?;
    let state = context.reader.state(Consistency::Default).await?;
    let method = AuthMethodName::parse(&body.auth_method).ok();
    let method = method.and_then(|name| state.acl().auth_method(&name));
    let method = method.ok_or_else(|| denied("there is no such auth method"))?;
    let now = clock::wall();
    let subject = context.logins.check(&method, &body.bearer_token, &context.seal, now).await?;
    let cluster = state.cluster().ok_or_else(|| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the cluster has no identity yet")
    })?;
    let grants = state.acl().login_grants(&method, &subject, &cluster.datacenter);
    let grants = grants.map_err(|fault| denied(&fault.to_string()))?;
    if grants == Grants::default() {
        return Err(denied("no binding rule takes this credential"));
    }
    let secret = new_secret("")?;
    let accessor = AccessorId::parse(&entropy::uuid())
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let draft = TokenDraft {
        accessor: accessor.clone(),
        secret: Some(secret.hash()),
        description: body.description(),
        grants,
        local: Some(method.token_locality == TokenLocality::Local),
        auth_method: method.name.as_str().to_owned(),
        expiry: method.token_lifetime.map_or(Expiry::Unsaid, Expiry::After),
    };
    let command = AclCommand::WriteToken { token: draft, writing: Writing::Create };
    context.proposer.write(&Caller::Server, Command::Acl(command)).await?;
    info!(%accessor, method = %method.name, "somebody logged in");
    let state = context.reader.newest();
    let written = state.acl().token(&accessor).ok_or_else(|| denied("the token is gone again"))?;
    let shown = show::token(state.acl(), &written, Some(&secret));
    Ok(page::json_response(page::json(&shown)?))
}

/// `POST /v1/acl/logout`: whoever came in by a method may end their own token.
async fn logout(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    enabled(context)?;
    let state = context.reader.state(Consistency::Default).await?;
    let own = request.rights.accessor().and_then(|accessor| state.acl().token(accessor));
    let own = own
        .filter(|token| !token.auth_method.is_empty())
        .ok_or_else(|| denied("only a token that was made by a login can log out"))?;
    let command = AclCommand::DeleteToken { accessor: own.accessor.clone() };
    context.proposer.write(&Caller::Server, Command::Acl(command)).await?;
    info!(accessor = %own.accessor, "somebody logged out");
    Ok(page::verdict(true))
}

/// **Source**: Consul answers 403 `Permission denied`. Differs: the reason is told, which says
/// nothing of the credential's content.
fn denied(reason: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, format!("Permission denied: {reason}"))
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused(reason) => denied(&reason),
            LoginError::Unreachable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        }
    }
}
