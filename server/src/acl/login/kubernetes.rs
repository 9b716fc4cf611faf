//! Tokens of Kubernetes service accounts: their API server is asked.
//!
//! **Source**: Kubernetes: authentication.k8s.io/v1 TokenReview, v1 ServiceAccount; Consul:
//! docs/security/acl/auth-methods/kubernetes.

use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::json;
use weft_core::acl::KubernetesConfig;
use weft_core::login::Subject;

use super::{LoginError, ask};

/// What the API server calls service accounts by.
const PREFIX: &str = "system:serviceaccount:";
/// An account's own word for its service; consul-k8s writes it.
const SERVICE_NAME: &str = "consul.hashicorp.com/service-name";
/// The longest name of a namespace or an account (RFC 1123 subdomain).
const NAME_BYTES_MAX: usize = 253;

#[derive(Debug, Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
}

#[derive(Debug, Deserialize)]
struct Account {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Asks the API server whose token it is.
pub(super) async fn check(
    config: &KubernetesConfig,
    reviewer: &str,
    credential: &str,
) -> Result<Subject, LoginError> {
    let url = format!("{}/apis/authentication.k8s.io/v1/tokenreviews", config.host);
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": credential },
    });
    let headers = headers(reviewer)?;
    let body = review.to_string().into_bytes();
    let answer = ask(Method::POST, &url, &config.ca_pem, headers.clone(), body).await?;
    let review: Review = answer.json().map_err(|error| LoginError::unreachable(&url, error))?;
    if !review.status.authenticated {
        return Err(LoginError::refused("Kubernetes does not know the service account's token"));
    }
    let user = review.status.user;
    let (namespace, name) = account(&user.username).ok_or_else(|| {
        LoginError::refused("the token is not one of a Kubernetes service account")
    })?;
    let url = format!("{}/api/v1/namespaces/{namespace}/serviceaccounts/{name}", config.host);
    let answer = ask(Method::GET, &url, &config.ca_pem, headers, Vec::new()).await?;
    let found: Account = answer.json().map_err(|error| LoginError::unreachable(&url, error))?;
    let own = found.metadata.annotations.unwrap_or_default().remove(SERVICE_NAME);
    let name = own.filter(|own| !own.is_empty()).unwrap_or_else(|| name.to_owned());
    Ok(Subject::kubernetes(namespace, &name, &user.uid))
}

fn headers(reviewer: &str) -> Result<HeaderMap, LoginError> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {reviewer}"))
        .map_err(|_| LoginError::refused("the reviewer's token cannot stand in a header"))?;
    bearer.set_sensitive(true);
    let kind = HeaderValue::from_static("application/json");
    Ok(HeaderMap::from_iter([(header::AUTHORIZATION, bearer), (header::CONTENT_TYPE, kind)]))
}

/// Takes `system:serviceaccount:<namespace>:<name>` apart. Both go into a path, so what is no
/// name of Kubernetes is none here.
fn account(username: &str) -> Option<(&str, &str)> {
    let (namespace, name) = username.strip_prefix(PREFIX)?.split_once(':')?;
    let is_name = |text: &str| {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let plain = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed);
        plain && !text.starts_with('.')
    };
    (is_name(namespace) && is_name(name)).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_service_accounts_are_taken_apart() {
        let long = format!("{PREFIX}default:{}", "a".repeat(254));
        for (username, expected) in [
            ("system:serviceaccount:default:web", Some(("default", "web"))),
            ("system:serviceaccount:shop:web.v1-a", Some(("shop", "web.v1-a"))),
            ("system:node:web", None),
            ("system:serviceaccount:default", None),
            ("system:serviceaccount::web", None),
            ("system:serviceaccount:default:", None),
            ("system:serviceaccount:a/b:web", None),
            ("system:serviceaccount:..:web", None),
            ("system:serviceaccount:a:web:b", None),
            ("system:serviceaccount:a:web?x=1", None),
            (long.as_str(), None),
        ] {
            assert_eq!(account(username), expected, "{username}");
        }
    }
}
