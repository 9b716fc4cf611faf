//! `service-splitter`: where requests to one service go by weight.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::blank::is_blank;
use super::findings::Findings;
use super::{HeaderChanges, InvalidEntry, Sticky};
use crate::index::Index;
use crate::limits;
use crate::log_format::HeaderSide;
use crate::name::ServiceName;

/// A share of requests.
///
/// **Units**: hundredths of a percent, 0 to 10 000; a number of percent in the public JSON.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// All requests.
    pub const FULL: Self = Self(10_000);

    /// Makes a weight from hundredths of a percent, `None` above 10 000.
    pub const fn from_hundredths(hundredths: u32) -> Option<Self> {
        if hundredths <= 10_000 { Some(Self(hundredths)) } else { None }
    }

    /// Returns hundredths of a percent.
    pub const fn hundredths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 100.0)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u32(self.0 / 100)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        let hundredths = (percent * 100.0).round();
        if !(0.0..=10_000.0).contains(&hundredths) || (hundredths - percent * 100.0).abs() > 1e-3 {
            return Err(de::Error::custom(format!(
                "{percent} is not a weight; write 0 to 100 with at most two decimals"
            )));
        }
        Ok(Self(hundredths as u32))
    }
}

/// Where requests to one service go by weight.
///
/// **Shape**: the weights add up to 100.
/// **Source**: Consul: docs/connect/config-entries/service-splitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSplitter {
    /// The service.
    pub name: ServiceName,
    /// The legs, at least one.
    #[serde(default)]
    pub splits: Vec<ServiceSplit>,
    /// By what the same leg is found again. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Free key-value pairs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// When the entry was created.
    #[serde(default)]
    pub create_index: Index,
    /// When the entry last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// One leg of a splitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSplit {
    /// Its share.
    pub weight: Weight,
    /// Another service; `None` means the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// A subset; empty means the default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_subset: String,
    /// Changes to requests.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub request_headers: Option<HeaderChanges>,
    /// Changes to answers.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub response_headers: Option<HeaderChanges>,
}

impl ServiceSplitter {
    pub(super) fn normalise(mut self) -> Result<Self, Vec<InvalidEntry>> {
        let mut findings = Findings::default();
        findings.count("Splits", self.splits.len(), limits::SPLITS_PER_SPLITTER_MAX);
        let total: u64 = self.splits.iter().map(|split| u64::from(split.weight.0)).sum();
        if total != u64::from(Weight::FULL.0) {
            let total = total as f64 / 100.0;
            findings.add("Splits", format!("the weights add up to {total}, not to 100"));
        }
        let mut first: BTreeMap<(Option<&ServiceName>, &str), usize> = BTreeMap::new();
        for (at, split) in self.splits.iter().enumerate() {
            let service = split.service.as_ref().filter(|service| **service != self.name);
            if let Some(earlier) = first.insert((service, &split.service_subset), at) {
                let reason = format!("leads to the same place as Splits[{earlier}]");
                findings.add(format!("Splits[{at}]"), reason);
            }
        }
        for (at, split) in self.splits.iter().enumerate() {
            for (side, name, changes) in [
                (HeaderSide::Request, "RequestHeaders", &split.request_headers),
                (HeaderSide::Answer, "ResponseHeaders", &split.response_headers),
            ] {
                if let Some(changes) = changes {
                    changes.check(side, &format!("Splits[{at}].{name}"), &mut findings);
                }
            }
        }
        for split in &mut self.splits {
            split.service = split.service.take().filter(|service| *service != self.name);
        }
        if let Some(sticky) = &self.sticky {
            sticky.check("Sticky", &mut findings);
        }
        findings.meta(&self.meta);
        findings.result(self)
    }
}
