//! `/v1/acl/…` and `/v1/internal/acl/authorize`: who may do what.
//!
//! **Source**: Consul: api-docs/acl. Differs: a secret is in the answer of the call that made it,
//! and in that of whoever shows it; nowhere else, as the cluster does not know it. Lists and
//! reads by accessor say `<hidden>`, which Consul says to who may not write ACLs.

mod authorize;
mod bootstrap;
mod expand;
mod login;
mod policy;
mod role;
mod show;
mod token;

pub(super) use bootstrap::ResetFile;

use ::http::{Response, StatusCode};
use serde_json::json;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    let table = table
        .get("/v1/acl/replication", |context, request| Box::pin(replication(context, request)));
    let pages = [
        authorize::routes,
        bootstrap::routes,
        login::routes,
        policy::routes,
        role::routes,
        token::routes,
    ];
    pages.into_iter().fold(table, |table, page| page(table))
}

/// Refuses everything here where there are no ACLs.
///
/// **Source**: Consul: 401 with this text, by which clients tell.
fn enabled(context: &Context) -> Result<(), ApiError> {
    if context.gate.is_enabled() {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "ACL support disabled"))
}

/// `GET /v1/acl/replication`: tokens are the cluster's own, nothing is replicated from elsewhere.
async fn replication(context: &Context, _: &ApiRequest) -> Result<Response<Body>, ApiError> {
    const NEVER: &str = "0001-01-01T00:00:00Z";
    enabled(context)?;
    let body = json!({
        "Enabled": false,
        "Running": false,
        "SourceDatacenter": "",
        "ReplicationType": "",
        "ReplicatedIndex": 0,
        "ReplicatedRoleIndex": 0,
        "ReplicatedTokenIndex": 0,
        "LastSuccess": NEVER,
        "LastError": NEVER,
        "LastErrorMessage": "",
    });
    Ok(page::json_response(page::json(&body)?))
}

/// Says that something named in the path is not there.
///
/// **Source**: Consul: 404; clients look for `ACL not found`.
fn missing(kind: &str) -> ApiError {
    ApiError::not_found(format!("Requested {kind} does not exist: ACL not found"))
}
