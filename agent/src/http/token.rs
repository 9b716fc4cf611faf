//! `/v1/agent/token/:slot`: the agent's own tokens, set while it runs.
//!
//! **Source**: Consul: api-docs/agent#update-acl-tokens.

use http::Response;
use serde::Deserialize;
use weft_runtime::http::Body;

use super::answer::ApiError;
use super::{Api, Call, done};
use crate::acl::Slot;
use crate::config::TokenText;

/// The body.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenBody {
    /// The secret; empty empties the slot.
    #[serde(default)]
    token: String,
}

impl Api {
    /// Sets one of the agent's tokens.
    pub(super) async fn set_token(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let acl = self.parts.acl.clone();
        if acl.has_none() {
            return Err(ApiError::NoAcls);
        }
        let slot: Slot = (call.params.get("slot").parse())
            .map_err(|error: crate::acl::UnknownSlot| ApiError::NotFound(error.to_string()))?;
        let TokenBody { token } = call.decode().await?;
        let token = TokenText::new(&token);
        if token.as_ref().is_some_and(|token| !token.is_usable()) {
            let text = "Token: not a token: it is too long, or has characters that no token has";
            return Err(ApiError::Query(text.to_owned()));
        }
        let set = self.parts.tasks.blocking(move || acl.tokens().set(slot, token)).await;
        set.map_err(|_| ApiError::Stopping)?
            .map_err(|error| ApiError::Unavailable(crate::servers::reason(&error)))?;
        Ok(done())
    }
}
