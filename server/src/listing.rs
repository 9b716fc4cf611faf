//! What a snapshot holds, record by record, for people and scripts. Secrets stay out: each kind of
//! record says here which of its fields are shown, or which are not.

use serde::Serialize;
use serde_json::{Value, json};
use weft_core::kv::KvEntry;
use weft_core::state::State;
use weft_core::time::Timestamp;
use weft_proto::json::join_token::JoinTokenBody;

use crate::raft::{NotASnapshot, read_snapshot};

/// What stands in the place of what is not shown.
const HIDDEN: &str = "<hidden>";
/// Fields whose values are secrets, or sealed secrets, wherever they stand.
const SECRET_FIELDS: [&str; 9] = [
    "bearertoken",
    "clientsecret",
    "password",
    "privatekey",
    "sealedkey",
    "secret",
    "secretid",
    "serviceaccountjwt",
    "token",
];

/// Whether the values of keys are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Only how long they are: people keep secrets in them.
    Hidden,
    /// In base64, as the API shows them.
    Shown,
}

/// Lists the records of a snapshot, each with the kind that it is of.
///
/// **Shape**: kinds in a fixed order, records in that of their names.
///
/// # Errors
/// [`NotASnapshot`] when any byte is not what was written.
pub fn list_snapshot(bytes: &[u8], values: Values) -> Result<Vec<Value>, NotASnapshot> {
    let state = read_snapshot(bytes)?;
    let mut lines = Vec::new();
    let mut add = |kind: &str, record: Value| {
        lines.push(json!({ "Type": kind, "Record": without_secrets(record) }));
    };
    if let Some(cluster) = state.cluster() {
        add("Cluster", shown(cluster));
    }
    for node in state.nodes().1 {
        add("Node", shown(&*node));
        let Some(all) = state.node(&node.name) else { continue };
        for service in &all.services {
            add("Service", with_node(shown(service), node.name.as_str()));
        }
        for check in &all.checks {
            add("Check", shown(check));
        }
    }
    state.entries(None).1.iter().for_each(|entry| add("ConfigEntry", shown(&**entry)));
    state.kv().list("").1.iter().for_each(|entry| add("KV", key(entry, values)));
    state.sessions().list().for_each(|session| add("Session", shown(&**session)));
    list_acl(&state, &mut add);
    state.prepared_queries().1.iter().for_each(|query| add("PreparedQuery", shown(&**query)));
    state.events().list().for_each(|event| add("Event", shown(&**event)));
    state.coordinates().list().for_each(|coordinate| add("Coordinate", shown(&**coordinate)));
    state.roots().1.iter().for_each(|root| add("CARoot", shown(&**root)));
    if let Some(settings) = state.ca_settings() {
        add("CAConfig", shown(settings));
    }
    state.revocations().values().for_each(|it| add("Revocation", shown(it)));
    // Judged at the epoch: what had expired when is told by its time.
    let tokens = state.join_tokens().map(|token| JoinTokenBody::of(token, Timestamp(0)));
    tokens.for_each(|token| add("JoinToken", shown(&token)));
    add("Autopilot", shown(state.autopilot()));
    Ok(lines)
}

fn list_acl(state: &State, add: &mut impl FnMut(&str, Value)) {
    let acl = state.acl();
    // All there are, those included that have expired.
    acl.tokens(Timestamp(0)).iter().for_each(|token| add("ACLToken", shown(&**token)));
    acl.policies().iter().for_each(|policy| add("ACLPolicy", shown(&**policy)));
    acl.roles().iter().for_each(|role| add("ACLRole", shown(&**role)));
    acl.auth_methods().iter().for_each(|method| add("ACLAuthMethod", shown(&**method)));
    acl.binding_rules(None).iter().for_each(|rule| add("ACLBindingRule", shown(&**rule)));
}

fn key(entry: &KvEntry, values: Values) -> Value {
    let mut record = shown(entry);
    let length = entry.value.len();
    if let (Values::Hidden, Some(fields)) = (values, record.as_object_mut()) {
        let name = |wanted: &str, fields: &serde_json::Map<String, Value>| {
            fields.keys().find(|name| name.eq_ignore_ascii_case(wanted)).cloned()
        };
        if let Some(name) = name("value", fields) {
            fields.remove(&name);
        }
        fields.insert("ValueBytes".to_owned(), length.into());
    }
    record
}

fn with_node(mut record: Value, node: &str) -> Value {
    if let Some(fields) = record.as_object_mut() {
        fields.insert("Node".to_owned(), node.into());
    }
    record
}

/// Records that cannot be shown as JSON would be a fault of ours; the listing goes on.
fn shown(record: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(record).unwrap_or_else(|error| json!({ "Error": error.to_string() }))
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_secrets).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let is_empty = value.is_null() || value == "";
                    let value = match is_secret(&name) && !is_empty {
                        true => HIDDEN.into(),
                        false => without_secrets(value),
                    };
                    (name, value)
                })
                .collect(),
        ),
        plain => plain,
    }
}

fn is_secret(field: &str) -> bool {
    let plain: String = field.chars().filter(|c| *c != '_').collect();
    SECRET_FIELDS.contains(&plain.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_at_any_depth_and_whatever_their_spelling() {
        let record = json!({
            "Name": "k8s", "secret": [1, 2], "Token": "", "sealed_key": [7],
            "Config": { "ServiceAccountJWT": "x", "Host": "h", "List": [{ "PrivateKey": "y" }] },
        });
        let shown = without_secrets(record);
        let expected = json!({
            "Name": "k8s", "secret": HIDDEN, "Token": "", "sealed_key": HIDDEN,
            "Config": { "ServiceAccountJWT": HIDDEN, "Host": "h",
                "List": [{ "PrivateKey": HIDDEN }] },
        });
        assert_eq!(shown, expected);
    }
}
