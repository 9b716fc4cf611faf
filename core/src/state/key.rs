//! What records are found by: names in lower case, so that each is found in any spelling.
//!
//! A key finds records and nothing more. Who somebody is and what they may do is judged by names
//! as they are registered (`identity`, `intention`, `ca::csr`): `Web` and `web` are found
//! together, and are two identities none of which has the other's rights.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize};

use crate::index::Index;
use crate::name::{NodeName, ServiceName};

/// The name of a service in lower case.
///
/// **Source**: Consul: the catalog's indexes by service name are in lower case, and DNS asks in
/// lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ServiceName")]
pub struct ServiceKey(Arc<str>);

impl From<&ServiceName> for ServiceKey {
    fn from(name: &ServiceName) -> Self {
        Self(name.as_str().to_ascii_lowercase().into())
    }
}

impl From<ServiceName> for ServiceKey {
    fn from(name: ServiceName) -> Self {
        Self::from(&name)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// The name of a node in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeKey(Arc<str>);

impl From<&NodeName> for NodeKey {
    fn from(name: &NodeName) -> Self {
        Self(name.as_str().to_ascii_lowercase().into())
    }
}

/// Reads rows by service. Snapshots from before names were folded have one row for each
/// spelling: the newest counts.
pub(super) fn newest_by_service<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OrdMap<ServiceKey, Index>, D::Error> {
    let spelled = OrdMap::<ServiceName, Index>::deserialize(deserializer)?;
    let mut rows = OrdMap::<ServiceKey, Index>::new();
    for (name, index) in &spelled {
        let row = rows.entry(ServiceKey::from(name)).or_default();
        *row = (*row).max(*index);
    }
    Ok(rows)
}
