//! The bodies of `/v1/connect/intentions…`.
//!
//! Intentions are the sources of service-intentions entries, seen one by one.
//! **Source**: Consul: api-docs/connect/intentions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_core::config_entry::{IntentionAction, IntentionSource, ServiceIntentions, SourceName};
use weft_core::index::Index;

/// The body of `PUT /v1/connect/intentions/exact`; source and destination are in the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionUpsert {
    /// What is done with the calls.
    pub action: IntentionAction,
    /// A remark for people.
    #[serde(default)]
    pub description: String,
    /// `consul`, or empty.
    #[serde(default)]
    pub source_type: String,
    /// The source once more; empty, or as in the query.
    #[serde(default)]
    pub source_name: String,
    /// The destination once more; empty, or as in the query.
    #[serde(default)]
    pub destination_name: String,
    /// Free key-value pairs; refused unless empty, as entries keep them for all sources at once.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

/// One intention, as lists, matches and `exact` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionBody {
    /// Always `default`.
    #[serde(rename = "SourceNS")]
    pub source_ns: String,
    /// The caller, or `*`.
    pub source_name: SourceName,
    /// Always `default`.
    #[serde(rename = "DestinationNS")]
    pub destination_ns: String,
    /// The service called, or `*`.
    pub destination_name: SourceName,
    /// Always `consul`.
    pub source_type: String,
    /// What is done with the calls.
    pub action: IntentionAction,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// From 9 to 5.
    pub precedence: u8,
    /// When the entry that holds it was created.
    pub create_index: Index,
    /// When the entry that holds it last changed.
    pub modify_index: Index,
}

impl IntentionBody {
    /// Shows one source of an entry.
    pub fn new(entry: &ServiceIntentions, source: &IntentionSource) -> Self {
        Self {
            source_ns: "default".to_owned(),
            source_name: source.name.clone(),
            destination_ns: "default".to_owned(),
            destination_name: entry.name.clone(),
            source_type: ServiceIntentions::SOURCE_TYPE.to_owned(),
            action: source.action,
            description: source.description.clone(),
            precedence: source.precedence,
            create_index: entry.create_index,
            modify_index: entry.modify_index,
        }
    }
}

/// The answer of `GET /v1/connect/intentions/check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionCheck {
    /// Whether the call would be let through.
    pub allowed: bool,
    /// Why, for people. Consul's answer lacks it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The answer of `GET /v1/connect/intentions/match`: by the name asked for, the intentions that
/// apply, by falling precedence.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentionMatch(pub BTreeMap<String, Vec<IntentionBody>>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_in_the_shape_that_clients_read() {
        let entry = br#"{"Kind":"service-intentions","Name":"db","ModifyIndex":7,
            "Sources":[{"Name":"web","Action":"allow"}]}"#;
        let entry = crate::json::config_entry::decode(entry).expect("intentions");
        let weft_core::config_entry::ConfigEntry::ServiceIntentions(entry) = entry else {
            panic!("another kind");
        };
        let body = IntentionBody::new(&entry, &entry.sources[0]);
        assert_eq!(
            serde_json::to_value(body).expect("text keys"),
            serde_json::json!({
                "SourceNS": "default", "SourceName": "web", "SourceType": "consul",
                "DestinationNS": "default", "DestinationName": "db",
                "Action": "allow", "Precedence": 9, "CreateIndex": 0, "ModifyIndex": 7,
            })
        );
    }
}
