//! Keeps the webhook's authorities in a Secret that its replicas share, and the API server's trust
//! in them in the webhook's configuration. One round is safe to repeat, and beside others'.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tracing::info;
use weft_core::time::Timestamp;

use super::api::{ApiError, ApiServer};
use super::certificate::{Authorities, CertificateError};

/// The key of the Secret's data.
const DATA_KEY: &str = "authorities.json";
/// The same certificates, for people and other programs.
const BUNDLE_KEY: &str = "ca.crt";

/// Where the authorities are kept.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) namespace: String,
    /// The Secret.
    pub(super) secret: String,
    /// The MutatingWebhookConfiguration.
    pub(super) configuration: String,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the Secret {0} holds something else than authorities; delete it to have it made anew")]
    Secret(String),
    #[error("there is no MutatingWebhookConfiguration {0}; `weft k8s install` has it")]
    NoConfiguration(String),
}

/// Does one round: authorities that are there, renewed when it is time, and trusted.
pub(super) async fn keep(
    api: &ApiServer,
    places: &Places,
    now: Timestamp,
) -> Result<Authorities, KeepError> {
    let authorities = authorities(api, places, now).await?;
    trust(api, places, &authorities).await?;
    Ok(authorities)
}

async fn authorities(
    api: &ApiServer,
    places: &Places,
    now: Timestamp,
) -> Result<Authorities, KeepError> {
    let folder = format!("/api/v1/namespaces/{}/secrets", places.namespace);
    let path = format!("{folder}/{}", places.secret);
    let found = api.get(&path).await?;
    let kept = match &found {
        None => Authorities::default(),
        Some(secret) => read(secret).ok_or_else(|| KeepError::Secret(places.secret.clone()))?,
    };
    let Some(renewed) = kept.renewed(now)? else { return Ok(kept) };
    let mut secret = found.clone().unwrap_or_else(|| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": places.secret, "namespace": places.namespace },
        })
    });
    let text = serde_json::to_vec(&renewed).expect("authorities are texts, so they are JSON");
    secret["data"][DATA_KEY] = STANDARD.encode(text).into();
    secret["data"][BUNDLE_KEY] = STANDARD.encode(renewed.bundle()).into();
    // Another replica may have been first: its authorities are found in the next round.
    match found {
        None => api.create(&folder, &secret).await?,
        Some(_) => api.replace(&path, &secret).await?,
    };
    info!(secret = %places.secret, "a new authority for the webhook");
    Ok(renewed)
}

fn read(secret: &Value) -> Option<Authorities> {
    let Some(data) = secret["data"][DATA_KEY].as_str() else {
        // An empty Secret may have been made for us.
        return secret["data"].is_null().then(Authorities::default);
    };
    serde_json::from_slice(&STANDARD.decode(data).ok()?).ok()
}

/// Has the API server trust them.
async fn trust(
    api: &ApiServer,
    places: &Places,
    authorities: &Authorities,
) -> Result<(), KeepError> {
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
        places.configuration
    );
    let found = api.get(&path).await?;
    let mut configuration =
        found.ok_or_else(|| KeepError::NoConfiguration(places.configuration.clone()))?;
    let bundle = Value::from(STANDARD.encode(authorities.bundle()));
    let mut is_changed = false;
    for webhook in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        let told = &mut webhook["clientConfig"]["caBundle"];
        if *told != bundle {
            *told = bundle.clone();
            is_changed = true;
        }
    }
    if is_changed {
        api.replace(&path, &configuration).await?;
        info!(configuration = %places.configuration, "the API server trusts the webhook");
    }
    Ok(())
}
