//! `/v1/connect/ca/configuration`: how the CA signs.
//!
//! **Source**: Consul: api-docs/connect/ca#get-ca-configuration.

use http::Response;
use serde_json::{Value, json};
use weft_core::acl::{Permission, Resource};
use weft_core::ca::CaSettings;
use weft_core::limits;
use weft_core::state::Command;
use weft_core::time::Span;
use weft_core::watch::Topic;
use weft_proto::json::{Fault, parse};
use weft_runtime::http::Body;

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};

pub(super) fn routes(table: Routes) -> Routes {
    const CONFIGURATION: &str = "/v1/connect/ca/configuration";
    table
        .get(CONFIGURATION, |context, request| Box::pin(show(context, request)))
        .put(CONFIGURATION, |context, request| Box::pin(write(context, request)))
}

/// `GET /v1/connect/ca/configuration`
async fn show(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Roots], |state, rights| {
        rights.require(Permission::read(Resource::Operator, ""))?;
        let settings = state.ca_settings().cloned().unwrap_or_default();
        let leaf = settings.leaf_lifetime.unwrap_or(Span(context.leaf_lifetime));
        let body = json!({
            "Provider": "consul",
            "Config": {
                "LeafCertTTL": leaf,
                "IntermediateCertTTL": Span(limits::INTERMEDIATE_LIFETIME),
                "RootCertTTL": Span(limits::ROOT_LIFETIME),
                "PrivateKeyType": "ec",
                "PrivateKeyBits": 256,
            },
            "State": null,
            "ForceWithoutCrossSigning": false,
            "CreateIndex": settings.create_index,
            "ModifyIndex": settings.modify_index,
        });
        Ok((state.roots().0.max(settings.modify_index), Some(body)))
    });
    Ok(read.await?.or_null(context))
}

/// `PUT /v1/connect/ca/configuration`
///
/// Differs: what would take effect only later, or not at all, is refused by name.
async fn write(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let settings = decode(&request.body)?;
    context.proposer.write(&request.caller, Command::SetCaSettings(settings)).await?;
    Ok(page::empty_response())
}

/// Reads the settings, and refuses what cannot be changed.
fn decode(body: &[u8]) -> Result<CaSettings, Vec<Fault>> {
    let value = parse(body).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let mut fault = |field: &str, reason: String| faults.push(Fault::new(field, reason));
    let mut settings = CaSettings::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match folded(key).as_str() {
            "provider" => {
                if value != "consul" {
                    let reason = "must be \"consul\": there is no other provider yet";
                    fault("Provider", reason.to_owned());
                }
            }
            "config" => {}
            "state" | "createindex" | "modifyindex" => {}
            "forcewithoutcrosssigning" if *value == Value::Bool(false) => {}
            _ => fault(key, "is not supported; remove it".to_owned()),
        }
    }
    let config = value.as_object().into_iter().flatten().find(|(key, _)| folded(key) == "config");
    let config = config.and_then(|(_, config)| config.as_object());
    for (key, value) in config.into_iter().flatten() {
        let field = format!("Config.{key}");
        let span = || serde_json::from_value::<Span>(value.clone());
        let fixed = |wanted: std::time::Duration| match span() {
            Ok(span) if span.0 == wanted => None,
            Ok(_) | Err(_) => Some(format!(
                "cannot be changed yet; leave it out or write {:?}",
                Span(wanted).to_string()
            )),
        };
        let refused = match folded(key).as_str() {
            "leafcertttl" => match span() {
                Ok(span) => {
                    settings.leaf_lifetime = Some(span);
                    check_leaf(span)
                }
                Err(error) => Some(error.to_string()),
            },
            "intermediatecertttl" => fixed(limits::INTERMEDIATE_LIFETIME),
            "rootcertttl" => fixed(limits::ROOT_LIFETIME),
            "privatekeytype" if value == "ec" => None,
            "privatekeybits" if *value == json!(256) => None,
            "privatekeytype" | "privatekeybits" => {
                Some("must be \"ec\" with 256 bits: every key of the mesh is EC P-256".to_owned())
            }
            _ if value.is_null() || value == "" => None,
            _ => Some("cannot be changed yet; remove it".to_owned()),
        };
        if let Some(reason) = refused {
            fault(&field, reason);
        }
    }
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// A leaf ends well before the intermediate that signed it, as in Consul.
fn check_leaf(leaf: Span) -> Option<String> {
    let (min, max) = (Span(limits::LEAF_LIFETIME_MIN), Span(limits::INTERMEDIATE_LIFETIME / 3));
    (leaf < min || leaf > max).then(|| format!("{leaf} must be from {min} to {max}"))
}

fn folded(key: &str) -> String {
    key.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        let faults = decode(body.as_bytes()).expect_err(body);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_shown_is_taken_back() {
        let body = r#"{"Provider":"consul","Config":{"LeafCertTTL":"2h","IntermediateCertTTL":
            "8760h","RootCertTTL":"87600h0m0s","PrivateKeyType":"ec","PrivateKeyBits":256},
            "State":null,"ForceWithoutCrossSigning":false,"CreateIndex":1,"ModifyIndex":2}"#;
        let settings = decode(body.as_bytes()).expect("as it is shown");
        assert_eq!(settings.leaf_lifetime, Some(Span::seconds(7200)));
    }

    #[test]
    fn what_cannot_be_changed_is_refused_by_name() {
        assert_eq!(
            faults(
                r#"{"Provider":"vault","Config":{"LeafCertTTL":"1s","RootCertTTL":"1h",
                "PrivateKeyType":"rsa","RotationPeriod":"1h","CSRMaxPerSecond":5},
                "ForceWithoutCrossSigning":true}"#
            ),
            [
                "ForceWithoutCrossSigning: is not supported; remove it",
                "Provider: must be \"consul\": there is no other provider yet",
                "Config.CSRMaxPerSecond: cannot be changed yet; remove it",
                "Config.LeafCertTTL: 1s must be from 1m0s to 2920h0m0s",
                "Config.PrivateKeyType: must be \"ec\" with 256 bits: every key of the mesh is EC \
                 P-256",
                "Config.RootCertTTL: cannot be changed yet; leave it out or write \"87600h0m0s\"",
                "Config.RotationPeriod: cannot be changed yet; remove it",
            ]
        );
    }
}
