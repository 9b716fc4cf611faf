//! `/v1/connect/ca/roots`: whom to trust.
//!
//! **Source**: Consul: api-docs/connect/ca#list-ca-root-certificates.

use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use weft_core::ca::CaRoot;
use weft_core::name::TrustDomain;
use weft_core::watch::Topic;
use weft_proto::json::root::RootBody;
use weft_runtime::http::{Body, full};
use weft_runtime::tls::serial_number;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    table.get("/v1/connect/ca/roots", |context, request| Box::pin(roots(context, request)))
}

/// `GET /v1/connect/ca/roots`
async fn roots(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    if request.query.value("pem").is_some_and(|value| matches!(value, "true" | "1")) {
        return pem(context).await;
    }
    let topics = [Topic::Roots, Topic::Cluster];
    let read = page::read(context, request, topics, |state, _| {
        let (index, roots) = state.roots();
        let active = roots.iter().find(|root| root.active).map(|root| &root.fingerprint);
        let domain = state.cluster().map(|cluster| &cluster.trust_domain);
        let body = json!({
            "ActiveRootID": active,
            "TrustDomain": domain,
            "Roots": roots.iter().map(|root| root_body(root, domain)).collect::<Vec<Value>>(),
        });
        Ok((index, Some(body)))
    });
    Ok(read.await?.or_null(context))
}

async fn pem(context: &Context) -> Result<Response<Body>, ApiError> {
    let state = context.reader.state(Consistency::Default).await?;
    let (_, roots) = state.roots();
    let text: String = roots.iter().map(|root| root.certificate_pem.as_str()).collect();
    let mut response = Response::new(full(text));
    let kind = HeaderValue::from_static("application/pem-certificate-chain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn root_body(root: &CaRoot, trust_domain: Option<&TrustDomain>) -> Value {
    RootBody {
        root: &root.public(),
        certificate_pem: &root.certificate_pem,
        serial_number: &serial_number(&root.certificate_pem).unwrap_or_default(),
        is_active: root.active,
        trust_domain,
    }
    .value()
}
