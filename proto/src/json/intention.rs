//! The bodies of `/v1/connect/intentions…`.
//!
//! Intentions are the sources of service-intentions entries, seen one by one.
//! **Source**: Consul: api-docs/connect/intentions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weft_core::config_entry::{
    IntentionAction, IntentionPermission, IntentionSource, ServiceIntentions, SourceName,
};
use weft_core::index::Index;

use super::{Fault, Options, Unknown, from_value, is_empty, is_key, parse};

/// The body of `PUT /v1/connect/intentions/exact`; source and destination are in the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionUpsert {
    /// What is done with the calls; absent when permissions say.
    #[serde(default)]
    pub action: Option<IntentionAction>,
    /// What is done with the calls by their content.
    #[serde(default)]
    pub permissions: Vec<IntentionPermission>,
    /// Whether what would be refused is let through, and only counted and logged.
    #[serde(default)]
    pub dry_run: bool,
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
    /// Free key-value pairs; only of intentions with ids, as entries keep them for all sources.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

impl IntentionUpsert {
    /// Returns what is said about one caller.
    pub fn source(self, name: SourceName) -> IntentionSource {
        let mut source = IntentionSource::new(name, IntentionAction::Deny, self.description);
        source.action = self.action;
        source.permissions = self.permissions;
        source.dry_run = self.dry_run;
        source
    }
}

/// Decodes the body of `PUT /v1/connect/intentions/exact`.
///
/// Clients send back whole intentions: what they were told (indexes, dates, ids) is passed over.
///
/// # Errors
/// Every fault, by field. What would narrow the intention and cannot be said of one caller, such
/// as a `JWT` beside the permissions, is refused by name.
pub fn decode_upsert(body: &[u8]) -> Result<IntentionUpsert, Vec<Fault>> {
    let upsert = decode_legacy(body)?;
    if !upsert.meta.is_empty() {
        let reason = "cannot be kept for one source; write it to the service-intentions entry";
        return Err(vec![Fault::new("Meta", reason)]);
    }
    Ok(upsert)
}

/// Decodes the body of `POST /v1/connect/intentions` and `PUT /v1/connect/intentions/:id`, where an
/// intention has an id, and metadata of its own.
///
/// # Errors
/// As [`decode_upsert`].
pub fn decode_legacy(body: &[u8]) -> Result<IntentionUpsert, Vec<Fault>> {
    let mut value = parse(body).map_err(|fault| vec![fault])?;
    let (permissions, mut faults) = match take_permissions(&mut value) {
        Ok(permissions) => (permissions, Vec::new()),
        Err(faults) => (Vec::new(), faults),
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        let is_one_of = |fields: &[&str]| fields.iter().any(|field| is_key(key, field));
        let is_default = matches!(value.as_str(), Some("default"));
        if (is_one_of(&NARROWING) && !is_empty(value))
            || (is_one_of(&TENANCY) && !is_empty(value) && !is_default)
        {
            faults.push(Fault::new(key, "is not supported yet; remove it"));
        }
    }
    let decoded = from_value::<IntentionUpsert>(&value, &Options::new(Unknown::Ignore));
    let mut upsert = match decoded {
        Ok(upsert) if faults.is_empty() => upsert,
        Ok(_) => return Err(faults),
        Err(more) => {
            faults.extend(more);
            return Err(faults);
        }
    };
    if !upsert.source_type.is_empty() && upsert.source_type != ServiceIntentions::SOURCE_TYPE {
        let reason = format!("must be {:?} or left out", ServiceIntentions::SOURCE_TYPE);
        faults.push(Fault::new("SourceType", reason));
    }
    upsert.permissions = permissions;
    match (upsert.action, upsert.permissions.is_empty()) {
        (Some(_), true) | (None, false) => {}
        (None, true) => faults.push(Fault::new("Action", "is missing; write it or Permissions")),
        (Some(_), false) => {
            faults.push(Fault::new("Permissions", "go without Action; write one of both"));
        }
    }
    if faults.is_empty() { Ok(upsert) } else { Err(faults) }
}

/// Takes the permissions out. Elsewhere fields that are not known are passed over; a condition
/// that is not known would be one that does not protect.
fn take_permissions(value: &mut Value) -> Result<Vec<IntentionPermission>, Vec<Fault>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Permissions {
        #[serde(default)]
        permissions: Vec<IntentionPermission>,
    }
    let mut taken = Map::new();
    if let Some(object) = value.as_object_mut() {
        // The empty action is how clients leave it out.
        object.retain(|key, value| !(is_key(key, "Action") && value.as_str() == Some("")));
        let keys: Vec<String> =
            object.keys().filter(|key| is_key(key, "Permissions")).cloned().collect();
        taken.extend(keys.iter().filter_map(|key| object.remove_entry(key)));
    }
    let options = Options::new(Unknown::Refuse);
    from_value::<Permissions>(&Value::Object(taken), &options).map(|taken| taken.permissions)
}

/// Fields that would narrow an intention.
const NARROWING: [&str; 3] = ["JWT", "SourcePeer", "SourceSamenessGroup"];
/// Fields that say where a name is meant; there is one place so far.
const TENANCY: [&str; 4] = ["DestinationNS", "DestinationPartition", "SourceNS", "SourcePartition"];

/// One intention, as lists, matches and `exact` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionBody {
    /// Its id, for those that older clients made.
    #[serde(rename = "ID", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
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
    /// What is done with the calls; absent when permissions say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<IntentionAction>,
    /// What is done with the calls by their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<IntentionPermission>,
    /// Whether what would be refused is let through, and only counted and logged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Free key-value pairs, for those that older clients made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// From 9 to 5.
    pub precedence: u8,
    /// When an older client made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    /// When an older client last changed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub updated_at: String,
    /// When the entry that holds it was created.
    pub create_index: Index,
    /// When the entry that holds it last changed.
    pub modify_index: Index,
}

impl IntentionBody {
    /// Shows one source of an entry.
    pub fn new(entry: &ServiceIntentions, source: &IntentionSource) -> Self {
        Self {
            id: source.legacy_id.clone(),
            source_ns: "default".to_owned(),
            source_name: source.name.clone(),
            destination_ns: "default".to_owned(),
            destination_name: entry.name.clone(),
            source_type: ServiceIntentions::SOURCE_TYPE.to_owned(),
            action: source.action,
            permissions: source.permissions.clone(),
            dry_run: source.dry_run,
            description: source.description.clone(),
            meta: source.legacy_meta.clone(),
            precedence: source.precedence,
            created_at: source.legacy_create_time.clone(),
            updated_at: source.legacy_update_time.clone(),
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
    fn a_whole_intention_as_clients_send_it_is_taken() {
        let body = br#"{"ID":"","Description":"x","SourceNS":"default","SourceName":"web",
            "DestinationNS":"default","DestinationName":"db","SourceType":"consul",
            "Action":"allow","Meta":null,"Precedence":9,"CreatedAt":"0001-01-01T00:00:00Z",
            "UpdatedAt":"0001-01-01T00:00:00Z","CreateIndex":0,"ModifyIndex":0,
            "Permissions":null}"#;
        let upsert = decode_upsert(body).expect("an intention");
        assert_eq!(
            (upsert.action, upsert.description.as_str()),
            (Some(IntentionAction::Allow), "x")
        );
    }

    #[test]
    fn what_would_narrow_an_intention_is_refused() {
        let body = br#"{"SourceNS":"team","Action":"","permissions":[{"Action":"deny",
            "JWT":{"Providers":[{"Name":"x"}]},"HTTP":{"PathPrefux":"/"}}],"JWT":{"Providers":[1]},
            "SourceType":"other","Meta":{"a":"b"}}"#;
        let told = |body: &[u8]| {
            Fault::line(&decode_upsert(body).expect_err("an intention that is more than we do"))
        };
        assert_eq!(
            told(body),
            "Permissions[0].HTTP.PathPrefux: is not a field here; did you mean PathPrefix?; JWT: is \
             not supported yet; remove it; SourceNS: is not supported yet; remove it"
        );
        assert_eq!(
            told(br#"{"Action":"alow"}"#),
            "Action: is \"alow\", but must be one of \"allow\", \"deny\"; did you mean \
             \"allow\"?"
        );
        assert_eq!(
            told(br#"{"Action":"deny","SourceType":"other"}"#),
            "SourceType: must be \"consul\" or left out"
        );
        assert_eq!(
            told(br#"{"Action":"deny","Meta":{"a":"b"}}"#),
            "Meta: cannot be kept for one source; write it to the service-intentions entry"
        );
    }

    #[test]
    fn filters_know_every_field_of_an_intention_that_is_shown() {
        use weft_core::filter::INTENTION;
        let source = br#"{"Name":"web","Action":"deny","Description":"x","LegacyID":"x",
            "LegacyMeta":{"a":"b"}}"#;
        let source: IntentionSource =
            crate::json::from_slice(source, Unknown::Refuse).expect("a record");
        let entry = br#"{"Name":"db","Sources":[]}"#;
        let entry: ServiceIntentions =
            crate::json::from_slice(entry, Unknown::Refuse).expect("a record");
        let body = serde_json::to_value(IntentionBody::new(&entry, &source)).expect("text keys");
        let shown = body.as_object().expect("an object").keys();
        let shown: Vec<&String> = shown.filter(|key| !key.ends_with("Index")).collect();
        let known = INTENTION.fields.iter().map(|(path, _)| *path);
        let known: Vec<&str> = known.filter(|path| !path.contains('*')).collect();
        assert_eq!(shown, known);
    }

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
