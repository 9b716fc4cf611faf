//! `/v1/agent/connect/…`: certificates for services that speak for themselves.
//!
//! **Source**: Consul: api-docs/agent/connect.

use std::time::Duration;

use http::{HeaderValue, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_core::acl::Resource;
use weft_core::ca::TrustBundle;
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_proto::json::root::RootBody;
use weft_runtime::clock;
use weft_runtime::http::Body;
use weft_runtime::tls::{certificates_from_pem, fingerprint, serial_number};

use super::answer::{self, ApiError};
use super::{Api, Call};
use crate::acl::Question;

/// How long the first answer of a server, or the first certificate, is waited for.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// The body of `authorize`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AuthorizeRequest {
    target: String,
    #[serde(rename = "ClientCertURI")]
    client_cert_uri: String,
}

impl Api {
    pub(super) async fn connect_roots(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let (known, wait) = (call.query.index()?, call.query.wait()?);
        let mut view = self.parts.views.roots();
        let mut slot = view.first(FIRST_LIMIT).await;
        if known > 0 {
            let newer = async {
                while slot.index.shown() <= known {
                    slot = view.changed().await;
                }
            };
            // After the wait the present state is the answer, changed or not.
            let _ = tokio::time::timeout(wait, newer).await;
        }
        let index = slot.index.shown();
        // The roots on disk are as good: they were confirmed when this host joined.
        let trust = slot.value.map_or_else(|| self.parts.servers.trust(), |trust| (*trust).clone());
        let mut response = answer::json(&shown_roots(&trust), call.query.has("pretty"));
        response.headers_mut().insert(answer::INDEX, HeaderValue::from(index));
        self.mark_age(response.headers_mut());
        Ok(response)
    }

    pub(super) async fn connect_leaf(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let wait = call.query.wait()?;
        let known = call.query.index()?;
        let name = ServiceName::parse(call.params.get("service"))
            .map_err(|error| ApiError::Query(error.to_string()))?;
        let local = self.parts.local.current();
        if !local.services.values().any(|service| service.name == name) {
            return Err(ApiError::Refused(format!(
                "service {name} is not registered on this host; certificates are given to local \
                 services only"
            )));
        }
        let mut newest = self.parts.leaves.leaf(&name);
        let limit = if known > 0 { wait } else { FIRST_LIMIT };
        let wanted =
            newest.wait_for(|leaf| leaf.as_ref().is_some_and(|leaf| index_of(leaf) > known));
        // After the wait the present certificate is the answer, renewed or not.
        let _ = tokio::time::timeout(limit, wanted).await;
        // A clock that was set forward is noticed here first.
        let present = newest.borrow().clone().filter(|leaf| leaf.valid_before > clock::wall());
        let Some(leaf) = present else {
            return Err(ApiError::Unavailable(format!(
                "no server has signed a certificate for {name} yet"
            )));
        };
        let membership = self.parts.servers.membership();
        let id = SpiffeId::service(
            membership.trust_domain.clone(),
            membership.datacenter.clone(),
            name.clone(),
        );
        let index = index_of(&leaf);
        let shown = json!({
            "SerialNumber": serial_number(&leaf.certificate_pem).unwrap_or_default(),
            "CertPEM": leaf.certificate_pem,
            "PrivateKeyPEM": leaf.private_key_pem,
            "Service": name,
            "ServiceURI": id.to_string(),
            "ValidAfter": leaf.valid_after.rfc3339(),
            "ValidBefore": leaf.valid_before.rfc3339(),
            "CreateIndex": index,
            "ModifyIndex": index,
        });
        let mut response = answer::json(&shown, call.query.has("pretty"));
        response.headers_mut().insert(answer::INDEX, HeaderValue::from(index));
        self.mark_age(response.headers_mut());
        Ok(response)
    }

    pub(super) async fn connect_authorize(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let (is_pretty, token) = (call.query.has("pretty"), call.token.clone());
        let request: AuthorizeRequest = call.decode().await?;
        let target = ServiceName::parse(&request.target)
            .map_err(|error| ApiError::Query(format!("Target: {error}")))?;
        let needed = vec![Question::write(Resource::Service, target.as_str())];
        self.require(token.as_ref(), needed).await?;
        let caller = SpiffeId::parse(&request.client_cert_uri)
            .map_err(|error| ApiError::Query(format!("ClientCertURI: {error}")))?;
        let mut view = self.parts.views.intentions(&target);
        let Some(intentions) = view.first(FIRST_LIMIT).await.value else {
            return Err(ApiError::Unavailable(format!(
                "the intentions of {target} are not known: no server has answered yet"
            )));
        };
        let is_ours = caller.trust_domain == self.parts.servers.membership().trust_domain;
        let (authorized, reason) = match is_ours {
            false => (false, format!("{caller} is of another trust domain")),
            true => (
                intentions.evaluate_identity(&caller).allowed,
                intentions.explain_identity(&caller, &target),
            ),
        };
        let shown = json!({ "Authorized": authorized, "Reason": reason });
        Ok(answer::json(&shown, is_pretty))
    }
}

/// Certificates are renewed far less often than every second, so the moment numbers them.
fn index_of(leaf: &weft_core::ca::Leaf) -> u64 {
    leaf.valid_before.unix_seconds()
}

fn shown_roots(trust: &TrustBundle) -> Value {
    let roots = trust.roots_pem.iter().filter_map(|pem| shown_root(trust, pem));
    json!({
        "ActiveRootID": trust.active_root,
        "TrustDomain": trust.trust_domain,
        "Roots": roots.collect::<Vec<Value>>(),
    })
}

fn shown_root(trust: &TrustBundle, pem: &str) -> Option<Value> {
    let chain = certificates_from_pem("root", pem).ok()?;
    let id = fingerprint(chain.first()?);
    let serial_number = serial_number(pem).unwrap_or_default();
    let is_active = id == trust.active_root;
    let Some(root) = trust.roots.iter().find(|root| root.fingerprint == id) else {
        // A host that has just joined knows the certificate alone.
        return Some(json!({
            "ID": id,
            "RootCert": pem,
            "SerialNumber": serial_number,
            "Active": is_active,
        }));
    };
    let trust_domain = Some(&trust.trust_domain);
    let (certificate_pem, serial_number) = (pem, serial_number.as_str());
    let body = RootBody { root, certificate_pem, serial_number, is_active, trust_domain };
    Some(body.value())
}
