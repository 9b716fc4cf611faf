//! What is known of somebody who logs in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::acl::AuthConfig;

/// Somebody whose credential was checked.
///
/// **Shape**: `variables` fill in names; `fields` is what selectors look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    fields: Value,
    variables: BTreeMap<String, String>,
}

impl Subject {
    /// Returns the holder of a service account's token.
    ///
    /// **Source**: Consul: docs/security/acl/auth-methods/kubernetes#trusted-identity-attributes.
    pub fn kubernetes(namespace: &str, name: &str, uid: &str) -> Self {
        let known = [("namespace", namespace), ("name", name), ("uid", uid)];
        let fields: Map<String, Value> =
            known.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let variable =
            |(key, value): &(&str, &str)| (format!("serviceaccount.{key}"), (*value).to_owned());
        Self {
            fields: Value::Object(Map::from_iter([(
                "serviceaccount".to_owned(),
                Value::Object(fields),
            )])),
            variables: known.iter().map(variable).collect(),
        }
    }

    /// Returns the holder of a JSON web token: texts under `value`, lists under `list`.
    ///
    /// **Source**: Consul: docs/security/acl/auth-methods/jwt#trusted-identity-attributes.
    pub fn jwt(values: BTreeMap<String, String>, lists: BTreeMap<String, Vec<String>>) -> Self {
        let variables =
            values.iter().map(|(key, value)| (format!("value.{key}"), value.clone())).collect();
        let values: Map<String, Value> =
            values.into_iter().map(|(key, value)| (key, value.into())).collect();
        let lists: Map<String, Value> =
            lists.into_iter().map(|(key, list)| (key, list.into())).collect();
        let fields = Map::from_iter([
            ("value".to_owned(), values.into()),
            ("list".to_owned(), lists.into()),
        ]);
        Self { fields: Value::Object(fields), variables }
    }

    /// Returns what selectors look at.
    pub(super) fn fields(&self) -> &Value {
        &self.fields
    }

    /// Returns the text of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// What a method can say of somebody, before anybody came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    /// What may stand in `${…}`.
    pub(super) names: BTreeSet<String>,
    /// What a selector may look at.
    pub(super) selectors: BTreeSet<String>,
}

impl Variables {
    /// Returns what logins by a method are known by.
    pub fn of(config: &AuthConfig) -> Self {
        match config {
            AuthConfig::Kubernetes(_) => {
                let names: BTreeSet<String> = ["name", "namespace", "uid"]
                    .map(|field| format!("serviceaccount.{field}"))
                    .into();
                Self { selectors: names.clone(), names }
            }
            AuthConfig::Jwt(config) => {
                let names: BTreeSet<String> =
                    config.claims.values().map(|name| format!("value.{name}")).collect();
                let lists = config.list_claims.values().map(|name| format!("list.{name}"));
                Self { selectors: names.iter().cloned().chain(lists).collect(), names }
            }
        }
    }
}
