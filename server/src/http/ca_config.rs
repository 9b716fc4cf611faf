//! `/v1/connect/ca/configuration`: who signs and for how long; `/v1/connect/ca/rotate`: a new root.
//!
//! **Source**: Consul: api-docs/connect/ca#get-ca-configuration.

mod decode;

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tracing::info;
use weft_core::acl::{Permission, Resource};
use weft_core::ca::{CaRoot, CaSettings, CaTerms, RootSource, VaultAccess, VaultAuth};
use weft_core::state::Command;
use weft_core::time::Span;
use weft_core::watch::Topic;
use weft_proto::json::Fault;
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::ca::{ChangeError, ChangeRequest, WantedProvider};
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    const CONFIGURATION: &str = "/v1/connect/ca/configuration";
    table
        .get(CONFIGURATION, |context, request| Box::pin(show(context, request)))
        .put(CONFIGURATION, |context, request| Box::pin(write(context, request)))
        .put("/v1/connect/ca/rotate", |context, request| Box::pin(rotate(context, request)))
}

/// `GET /v1/connect/ca/configuration`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Roots], |state, rights| {
        rights.require(Permission::read(Resource::Operator, ""))?;
        let settings = state.ca_settings().cloned().unwrap_or_default();
        let (_, roots) = state.roots();
        let active = roots.first().map(|root| &**root);
        let body = json!({
            "Provider": active.map_or("consul", |root| root.source.provider()),
            "Config": shown(active, &settings, state.ca_terms(context.leaf_lifetime)),
            "State": null,
            "ForceWithoutCrossSigning": false,
            "CreateIndex": settings.create_index,
            "ModifyIndex": settings.modify_index,
        });
        Ok((state.ca_index(), Some(body)))
    });
    Ok(read.await?.or_null(context))
}

/// The configuration, without any secret.
fn shown(active: Option<&CaRoot>, settings: &CaSettings, terms: CaTerms) -> Map<String, Value> {
    let (kind, bits) = active.map(|root| root.key_kind).unwrap_or_default().parts();
    let mut config = Map::from_iter([
        ("LeafCertTTL".to_owned(), json!(Span(terms.leaf))),
        ("IntermediateCertTTL".to_owned(), json!(Span(terms.intermediate))),
        ("RootCertTTL".to_owned(), json!(Span(terms.root))),
        ("CSRMaxPerSecond".to_owned(), json!(settings.signatures_per_second())),
        ("PrivateKeyType".to_owned(), json!(kind)),
        ("PrivateKeyBits".to_owned(), json!(bits)),
    ]);
    if let Some(RootSource::Vault(access)) = active.map(|root| &root.source) {
        let VaultAccess { address, root_path, namespace, ca_file, auth } = access;
        let params = match auth {
            VaultAuth::Token => None,
            VaultAuth::AppRole { mount, role_id } => Some((mount, json!({ "role_id": role_id }))),
            VaultAuth::Jwt { mount, role, path } => {
                Some((mount, json!({ "role": role, "path": path })))
            }
            VaultAuth::Kubernetes { mount, role, path } => {
                Some((mount, json!({ "role": role, "token_path": path })))
            }
        };
        let method = params.map(
            |(mount, params)| json!({ "Type": auth.kind(), "MountPath": mount, "Params": params }),
        );
        for (name, value) in [
            ("Address", json!(address)),
            ("RootPKIPath", json!(root_path)),
            ("Namespace", json!(namespace)),
            ("CAFile", json!(ca_file)),
            ("AuthMethod", json!(method)),
        ] {
            config.insert(name.to_owned(), value);
        }
    }
    config
}

/// `PUT /v1/connect/ca/configuration`
///
/// Differs: what would take effect only later, or not at all, is refused by name.
async fn write(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let change = decode::configuration(&request.body)?;
    carry_out(context, request, |_| change).await
}

/// `PUT /v1/connect/ca/rotate`
async fn rotate(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let (key_kind, force) = decode::rotation(&request.body)?;
    let change = |state: &weft_core::state::State| ChangeRequest {
        settings: state.ca_settings().cloned().unwrap_or_default(),
        provider: WantedProvider::BuiltIn(key_kind),
        renew: true,
        force,
    };
    carry_out(context, request, change).await
}

async fn carry_out(
    context: &Context,
    request: &ApiRequest,
    change: impl FnOnce(&weft_core::state::State) -> ChangeRequest,
) -> Result<Response<Body>, ApiError> {
    let state = context.reader.state(Consistency::Default).await?;
    let change = change(&state);
    let terms = change.settings.terms(context.leaf_lifetime);
    let faults: Vec<Fault> = terms
        .faults()
        .into_iter()
        .map(|fault| Fault::new(format!("Config.{}", fault.field), fault.reason))
        .collect();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let change = context.admission.signer().change(&state, change, terms).await;
    let change = change.map_err(|error| refused(&error))?;
    let new = change.root.as_ref().map(|root| root.fingerprint.clone());
    let written = context.proposer.write(&request.caller, Command::ChangeCa(change)).await?;
    if !written.matched {
        let text = "the CA was changed by somebody else in the meantime; look, and try again";
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    if let Some(root) = new {
        info!(root, "the CA signs under this root now");
    }
    Ok(page::empty_response())
}

fn refused(error: &ChangeError) -> ApiError {
    let status = match error {
        ChangeError::Ca(_) | ChangeError::CrossSigning { .. } | ChangeError::Field { .. } => {
            StatusCode::BAD_REQUEST
        }
        ChangeError::NotReady => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError::new(status, error.words())
}
