//! Where registers are kept, and how either store is spoken to.

use http::StatusCode;
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind};
use weft_core::state::State;
use weft_proto::json::kv::KvPair;

use crate::client::Reply;
use crate::history::Place;

/// A store of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Each register is a config entry.
    Entries,
    /// Each register is a key.
    Kv,
}

impl Store {
    /// Returns where an object is: the names of those that are config entries begin with `r`.
    pub(crate) fn of(object: &str) -> Self {
        if object.starts_with('r') { Self::Entries } else { Self::Kv }
    }

    /// Returns what a cell holds in a state.
    pub(crate) fn held(self, state: &State, place: &Place) -> Option<u64> {
        match self {
            Self::Entries => {
                let key = EntryKey::new(EntryKind::ServiceDefaults, &name(place));
                let ConfigEntry::ServiceDefaults(entry) = &**state.entry(&key)? else {
                    return None;
                };
                entry.meta.get("value")?.parse().ok()
            }
            Self::Kv => {
                let entry = state.kv().get(&name(place)).1?;
                std::str::from_utf8(&entry.value).ok()?.parse().ok()
            }
        }
    }

    /// Returns the path of a cell with a query.
    pub(crate) fn path(self, place: &Place, query: &str) -> String {
        match self {
            Self::Entries => format!("/v1/config/service-defaults/{}{query}", name(place)),
            Self::Kv => format!("/v1/kv/{}{query}", name(place)),
        }
    }

    /// Returns the path of writes of a cell with a query, and the body for a value.
    pub(crate) fn write(self, place: &Place, query: &str, value: u64) -> (String, String) {
        match self {
            Self::Entries => (format!("/v1/config{query}"), entry(&name(place), value)),
            Self::Kv => (self.path(place, query), value.to_string()),
        }
    }

    /// Returns the cell in an answer, with its modify index; `None` when the answer tells
    /// nothing.
    pub(crate) fn cell(self, reply: &Reply) -> Option<Option<(u64, u64)>> {
        match reply.status {
            StatusCode::NOT_FOUND => Some(None),
            StatusCode::OK => match self {
                Self::Entries => {
                    let body: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
                    let value = body["Meta"]["value"].as_str()?.parse().ok()?;
                    Some(Some((value, body["ModifyIndex"].as_u64()?)))
                }
                Self::Kv => {
                    let pairs: Vec<KvPair> = serde_json::from_slice(&reply.body).ok()?;
                    Some(Some(told(pairs.first()?)?))
                }
            },
            _ => None,
        }
    }
}

/// Returns the value of a key with its modify index.
pub(crate) fn told(pair: &KvPair) -> Option<(u64, u64)> {
    Some((std::str::from_utf8(&pair.value).ok()?.parse().ok()?, pair.modify_index))
}

/// Returns the name under which its store has a cell.
pub(crate) fn name(place: &Place) -> String {
    match place.cell {
        0 => place.object.clone(),
        cell => format!("{}/{cell}", place.object),
    }
}

fn entry(name: &str, value: u64) -> String {
    let meta = serde_json::json!({ "value": value.to_string() });
    serde_json::json!({ "Kind": "service-defaults", "Name": name, "Meta": meta }).to_string()
}
