//! The bodies of `/v1/event/…`.
//!
//! **Source**: Consul: api-docs/event.

use serde::{Deserialize, Serialize};
use weft_core::state::UserEvent;

use super::kv::encode;

/// An event as it is shown; its payload in base64, `null` when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventBody {
    /// Drawn when it was fired.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it says.
    pub name: String,
    /// What came with it, in base64.
    pub payload: Option<String>,
    /// The nodes that it is for.
    pub node_filter: String,
    /// The services that it is for.
    pub service_filter: String,
    /// The tags that it is for.
    pub tag_filter: String,
    /// Always 1.
    pub version: u32,
    /// Its place among all events; 0 in the answer to whoever fires it.
    #[serde(rename = "LTime")]
    pub ltime: u64,
}

impl From<&UserEvent> for EventBody {
    fn from(event: &UserEvent) -> Self {
        Self {
            id: event.id.clone(),
            name: event.name.clone(),
            payload: (!event.payload.is_empty()).then(|| encode(&event.payload)),
            node_filter: event.node_filter.clone(),
            service_filter: event.service_filter.clone(),
            tag_filter: event.tag_filter.clone(),
            version: 1,
            ltime: event.ltime,
        }
    }
}
