//! `/v1/operator/usage`: how much is in the catalog.
//!
//! **Source**: Consul: api-docs/operator/usage.

use http::Response;
use serde_json::json;
use weft_core::acl::{Permission, Resource};
use weft_runtime::http::Body;

use super::{ApiError, Context, Routes, page};
use crate::http::request::ApiRequest;

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/operator/usage", |context, request| Box::pin(usage(context, request)))
}

/// `GET /v1/operator/usage`
async fn usage(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::read(Resource::Operator, ""))?;
    let consistency = request.query.read_options()?.consistency;
    let state = context.reader.state(consistency).await?;
    let usage = state.usage();
    let standing = context.reader.standing();
    let datacenter = state.cluster().map(|cluster| cluster.datacenter.to_string());
    let body = json!({
        "Usage": { datacenter.unwrap_or_default(): {
            "Nodes": usage.nodes,
            "Services": usage.services,
            "ServiceInstances": usage.instances,
            "ConnectServiceInstances": usage.connect_instances,
            "BillableServiceInstances": usage.billable_instances,
        } },
        "Index": state.index().shown(),
        "LastContact": u64::try_from(standing.last_contact.as_millis()).unwrap_or(u64::MAX),
        "KnownLeader": standing.leader.is_some(),
        "ConsistencyLevel": "leader",
        "NotModified": false,
        "Backend": 0,
        "ResultsFilteredByACLs": false,
    });
    Ok(page::json_response(page::json(&body)?))
}
