//! `/v1/connect/ca/roots`: whom to trust.
//!
//! **Source**: Consul: api-docs/connect/ca#list-ca-root-certificates.

use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use weft_core::ca::{CaRoot, RootSource};
use weft_core::time::Timestamp;
use weft_core::watch::Topic;
use weft_runtime::http::{Body, full};
use weft_runtime::tls::certificates_from_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

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
        let body = json!({
            "ActiveRootID": active,
            "TrustDomain": state.cluster().map(|cluster| &cluster.trust_domain),
            "Roots": roots.iter().map(|root| root_body(root)).collect::<Vec<Value>>(),
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

/// The public part of a root; its key never leaves the servers.
fn root_body(root: &CaRoot) -> Value {
    let (kind, bits) = root.key_kind.parts();
    json!({
        "ID": root.fingerprint,
        "Name": root.name,
        "NotBefore": root.valid_after.rfc3339(),
        "NotAfter": root.valid_before.rfc3339(),
        "RootCert": root.certificate_pem,
        "SerialNumber": serial_of(&root.certificate_pem),
        "IntermediateCerts": intermediates_of(root),
        "Active": root.active,
        "RotatedOutAt": root.rotated_out_at.map(Timestamp::rfc3339),
        "TrustedUntil": root.trusted_until.map(Timestamp::rfc3339),
        "PrivateKeyType": kind,
        "PrivateKeyBits": bits,
        "CreateIndex": root.create_index,
        "ModifyIndex": root.modify_index,
    })
}

/// What stands between leaves and other roots that may be trusted: the root certified by each of
/// those, and an intermediate that was given.
fn intermediates_of(root: &CaRoot) -> Option<Vec<&str>> {
    let mut found: Vec<&str> =
        root.cross_signed.iter().map(|cross| cross.certificate_pem.as_str()).collect();
    match &root.source {
        RootSource::Intermediate { chain_pem } => found.push(chain_pem),
        RootSource::BuiltIn | RootSource::Given | RootSource::Vault(_) => {}
    }
    (!found.is_empty()).then_some(found)
}

fn serial_of(certificate_pem: &str) -> String {
    let chain = certificates_from_pem("root", certificate_pem).unwrap_or_default();
    let Some(der) = chain.first() else { return String::new() };
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate.raw_serial_as_string())
        .unwrap_or_default()
}
