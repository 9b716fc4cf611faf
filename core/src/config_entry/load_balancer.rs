//! How one of several instances is chosen.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use crate::limits;
use crate::time::{Span, nanoseconds};

/// How one of several instances is chosen.
///
/// **Source**: Consul: docs/connect/config-entries/service-resolver#loadbalancer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LoadBalancer {
    /// The policy.
    #[serde(skip_serializing_if = "is_blank")]
    pub policy: BalancePolicy,
    /// Settings of `ring_hash`.
    #[serde(skip_serializing_if = "is_blank")]
    pub ring_hash_config: Option<RingHashConfig>,
    /// Settings of `least_request`.
    #[serde(skip_serializing_if = "is_blank")]
    pub least_request_config: Option<LeastRequestConfig>,
    /// What is hashed, for `ring_hash` and `maglev`.
    #[serde(skip_serializing_if = "is_blank")]
    pub hash_policies: Vec<HashPolicy>,
    /// How much more than its share an instance may have under way before its keys go to the next one,
    /// for `ring_hash` and `maglev`; 0 for any amount. Not in Consul; as Envoy's `hash_balance_factor`.
    ///
    /// **Units**: percent of the share, at least 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub hash_balance_factor: u32,
    /// How an instance that has come is led up to its share; at once when left out. Not in Consul; as Envoy's
    /// `SlowStartConfig`.
    #[serde(skip_serializing_if = "is_blank")]
    pub slow_start: Option<SlowStart>,
    /// How many of the instances one caller's proxy calls; all when left out. Not in Consul.
    #[serde(skip_serializing_if = "is_blank")]
    pub subset: Option<BalanceSubset>,
}

/// How an instance that has come is led up to its share.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SlowStart {
    /// Within which time.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub window: Span,
    /// How fast at first: its part of the share is that of the window that is over, to the power of 1 through
    /// this; 0 means 1000, which is evenly.
    ///
    /// **Units**: thousandths.
    #[serde(skip_serializing_if = "is_blank")]
    pub aggression: u32,
    /// The least part of its share; 0 means 10.
    ///
    /// **Units**: percent, 0 to 100.
    #[serde(skip_serializing_if = "is_blank")]
    pub min_weight_percent: u32,
}

/// How many of the instances one caller's proxy calls.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BalanceSubset {
    /// So many, at least 1.
    pub size: u32,
}

/// A policy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BalancePolicy {
    /// Of two at random, the one with less to do.
    LeastRequest,
    /// By a table of hashes.
    Maglev,
    /// At random.
    Random,
    /// By a ring of hashes.
    RingHash,
    /// In turn.
    RoundRobin,
    /// As the proxy thinks best.
    #[default]
    #[serde(rename = "")]
    Unset,
}

impl BalancePolicy {
    /// Whether it hashes something of the request.
    pub fn is_hash_based(self) -> bool {
        match self {
            Self::Maglev | Self::RingHash => true,
            Self::LeastRequest | Self::Random | Self::RoundRobin | Self::Unset => false,
        }
    }
}

/// Settings of `ring_hash`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RingHashConfig {
    /// Entries of the ring, at least.
    #[serde(skip_serializing_if = "is_blank")]
    pub minimum_ring_size: u64,
    /// Entries of the ring, at most.
    #[serde(skip_serializing_if = "is_blank")]
    pub maximum_ring_size: u64,
}

/// Settings of `least_request`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LeastRequestConfig {
    /// Instances that are looked at.
    #[serde(skip_serializing_if = "is_blank")]
    pub choice_count: u32,
}

/// What is hashed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HashPolicy {
    /// A part of the request; unset with `SourceIP`.
    #[serde(skip_serializing_if = "is_blank")]
    pub field: HashField,
    /// The name of the header, cookie or parameter.
    #[serde(skip_serializing_if = "is_blank")]
    pub field_value: String,
    /// The cookie that is made when there is none.
    #[serde(skip_serializing_if = "is_blank")]
    pub cookie_config: Option<CookieConfig>,
    /// Whether the caller's address is hashed.
    #[serde(rename = "SourceIP", skip_serializing_if = "is_blank")]
    pub source_ip: bool,
    /// Whether further policies are passed over once this one has found something.
    #[serde(skip_serializing_if = "is_blank")]
    pub terminal: bool,
}

/// A part of a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashField {
    /// A cookie.
    Cookie,
    /// A header.
    Header,
    /// A query parameter.
    QueryParameter,
    /// None of them.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// A cookie that is made when there is none.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CookieConfig {
    /// Whether it ends with the browser.
    #[serde(skip_serializing_if = "is_blank")]
    pub session: bool,
    /// For how long it holds.
    #[serde(rename = "TTL", skip_serializing_if = "is_blank", serialize_with = "nanoseconds")]
    pub ttl: Span,
    /// For which path.
    #[serde(skip_serializing_if = "is_blank")]
    pub path: String,
}

impl LoadBalancer {
    pub(super) fn check(&self, findings: &mut Findings) {
        let field = |name: &str| format!("LoadBalancer.{name}");
        if self.ring_hash_config.is_some() && self.policy != BalancePolicy::RingHash {
            findings.add(field("RingHashConfig"), "goes with the Policy ring_hash");
        }
        if let Some(ring) = &self.ring_hash_config
            && ring.maximum_ring_size != 0
            && ring.minimum_ring_size > ring.maximum_ring_size
        {
            let name = field("RingHashConfig.MaximumRingSize");
            findings.add(name, "is less than MinimumRingSize");
        }
        if self.least_request_config.is_some() && self.policy != BalancePolicy::LeastRequest {
            findings.add(field("LeastRequestConfig"), "goes with the Policy least_request");
        }
        if !self.hash_policies.is_empty() && !self.policy.is_hash_based() {
            findings.add(field("HashPolicies"), "goes with the Policy ring_hash or maglev");
        }
        let factor = self.hash_balance_factor;
        if factor != 0 && !self.policy.is_hash_based() {
            findings.add(field("HashBalanceFactor"), "goes with the Policy ring_hash or maglev");
        }
        if (1..100).contains(&factor) {
            findings.add(field("HashBalanceFactor"), "must be a percentage of 100 or more, or 0");
        }
        if let Some(slow) = &self.slow_start {
            slow.check((&field("SlowStart"), self.policy), findings);
        }
        if self.subset.as_ref().is_some_and(|subset| subset.size == 0) {
            findings.add(field("Subset.Size"), "must be 1 or more");
        }
        if self.subset.is_some() && self.policy.is_hash_based() {
            let reason =
                "goes with no Policy that hashes: callers would not agree on who has a key";
            findings.add(field("Subset"), reason);
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&field("HashPolicies"), self.hash_policies.len(), max);
        for (at, policy) in self.hash_policies.iter().enumerate() {
            policy.check(&field(&format!("HashPolicies[{at}]")), findings);
        }
    }
}

impl SlowStart {
    fn check(&self, (field, policy): (&str, BalancePolicy), findings: &mut Findings) {
        if self.window == Span::default() {
            findings.add(format!("{field}.Window"), "must say how long it takes");
        }
        findings.timeout(&format!("{field}.Window"), self.window.0);
        if self.min_weight_percent > 100 {
            let name = format!("{field}.MinWeightPercent");
            findings.add(name, "must be a percentage, 0 to 100");
        }
        if policy.is_hash_based() {
            findings.add(field, "goes with no Policy that hashes: who has a key has all of it");
        }
    }
}

impl HashPolicy {
    fn check(&self, field: &str, findings: &mut Findings) {
        let named = self.field != HashField::Unset;
        if named == self.source_ip {
            findings.add(field, "write exactly one of Field and SourceIP");
        }
        if named && self.field_value.is_empty() {
            findings.add(format!("{field}.FieldValue"), "must name what is hashed");
        }
        if !named && !self.field_value.is_empty() {
            findings.add(format!("{field}.FieldValue"), "goes with a Field");
        }
        let Some(cookie) = &self.cookie_config else { return };
        if self.field != HashField::Cookie {
            findings.add(format!("{field}.CookieConfig"), "goes with the Field cookie");
        }
        if cookie.session && cookie.ttl != Span::default() {
            findings.add(format!("{field}.CookieConfig.TTL"), "must be left out with Session");
        }
        findings.timeout(&format!("{field}.CookieConfig.TTL"), cookie.ttl.0);
        findings.token(&format!("{field}.FieldValue"), &self.field_value);
        if !cookie.path.is_empty() {
            findings.cookie_path(&format!("{field}.CookieConfig.Path"), &cookie.path);
        }
    }
}
