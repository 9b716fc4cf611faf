//! Logging in at Vault: with a token, or with what a method of Vault's takes for one.

use http::Method;
use serde_json::{Value, json};
use weft_core::ca::VaultAuth;
use weft_runtime::task::TaskTree;

use super::{Vault, VaultError};

/// The longest credential in a file.
const CREDENTIAL_BYTES_MAX: usize = 64 * 1024;

/// Returns the token with which calls are made.
///
/// **Source**: Vault: api-docs/auth/approle, /jwt, /kubernetes, /token.
pub(super) async fn token(
    vault: &Vault,
    secret: Option<String>,
    tasks: &TaskTree,
) -> Result<String, VaultError> {
    let secret = secret.filter(|secret| !secret.is_empty());
    let (mount, body) = match &vault.access.auth {
        VaultAuth::Token => return secret.ok_or(VaultError::Secret),
        VaultAuth::AppRole { mount, role_id } => {
            let secret_id = secret.ok_or(VaultError::Secret)?;
            (mount, json!({ "role_id": role_id, "secret_id": secret_id }))
        }
        VaultAuth::Jwt { mount, role, path } if path.is_empty() => {
            (mount, json!({ "role": role, "jwt": secret.ok_or(VaultError::Secret)? }))
        }
        VaultAuth::Jwt { mount, role, path } | VaultAuth::Kubernetes { mount, role, path } => {
            (mount, json!({ "role": role, "jwt": read(path, tasks).await? }))
        }
    };
    let what = "the login";
    let path = format!("auth/{}/login", mount.trim_matches('/'));
    let answer: Value = vault.call(what, Method::POST, &path, Some(body)).await?;
    let token = answer["auth"]["client_token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(VaultError::Malformed { what, missing: "client_token" });
    }
    Ok(token.to_owned())
}

/// Reads a credential anew each time: its file is replaced before it ends.
async fn read(path: &str, tasks: &TaskTree) -> Result<String, VaultError> {
    let failed = |source| VaultError::Credential { path: path.to_owned(), source };
    let file = path.to_owned();
    let text = match tasks.blocking(move || std::fs::read_to_string(file)).await {
        Ok(text) => text.map_err(failed)?,
        Err(failure) => return Err(failed(std::io::Error::other(failure.message))),
    };
    if text.len() > CREDENTIAL_BYTES_MAX {
        return Err(failed(std::io::Error::other("it is too long to be a credential")));
    }
    Ok(text.trim().to_owned())
}
