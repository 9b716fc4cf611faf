//! How long certificates live, as operators say; what is not said has a default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::limits;
use crate::time::{Span, Timestamp};

/// How the CA signs, as operators say; what is not said is as servers are configured.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaSettings {
    /// How long leaf certificates are valid.
    #[serde(default)]
    pub leaf_lifetime: Option<Span>,
    /// How long the intermediates of servers are valid.
    #[serde(default)]
    pub intermediate_lifetime: Option<Span>,
    /// How long roots are valid that are made from now on.
    #[serde(default)]
    pub root_lifetime: Option<Span>,
    /// How many leaf certificates each server signs in a second at most; 0 for any number.
    #[serde(default)]
    pub signatures_per_second: Option<u32>,
    /// When the settings were first written.
    #[serde(default)]
    pub create_index: Index,
    /// When they last changed.
    #[serde(default)]
    pub modify_index: Index,
}

/// The lifetimes in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaTerms {
    /// Of leaf certificates.
    pub leaf: Duration,
    /// Of intermediates.
    pub intermediate: Duration,
    /// Of roots.
    pub root: Duration,
}

/// What is wrong with a lifetime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct TermsFault {
    /// The field as clients of Consul know it.
    pub field: &'static str,
    /// The reason, with the bound.
    pub reason: String,
}

impl CaSettings {
    /// Returns how many leaf certificates each server signs in a second at most; 0 for any number.
    pub fn signatures_per_second(&self) -> u32 {
        self.signatures_per_second.unwrap_or(limits::LEAF_SIGNATURES_PER_SECOND)
    }

    /// Returns the lifetimes in force, with that of leaves as servers are configured.
    pub fn terms(&self, leaf_default: Duration) -> CaTerms {
        let said = |span: Option<Span>, default| span.map_or(default, |span| span.0);
        CaTerms {
            leaf: said(self.leaf_lifetime, leaf_default),
            intermediate: said(self.intermediate_lifetime, limits::INTERMEDIATE_LIFETIME),
            root: said(self.root_lifetime, limits::ROOT_LIFETIME),
        }
    }
}

impl CaTerms {
    /// Returns how long certificates of agents and servers are valid: well below the intermediate.
    pub fn member(&self) -> Duration {
        limits::MEMBER_LIFETIME.min(self.intermediate / 3)
    }

    /// Returns how long a root is trusted after another one took its place.
    ///
    /// **Source**: Consul: docs/connect/ca (twice the lifetime of a leaf).
    pub fn overlap(&self) -> Duration {
        self.leaf.saturating_mul(2)
    }

    /// Checks that each certificate can outlive those below it.
    ///
    /// **Source**: Consul: docs/connect/ca/consul (root ≥ intermediate ≥ 3 × leaf).
    /// Differs: leaves may live for minutes.
    pub fn faults(&self) -> Vec<TermsFault> {
        let mut faults = Vec::new();
        let mut fault = |field, reason| faults.push(TermsFault { field, reason });
        let (leaf, intermediate, root) =
            (Span(self.leaf), Span(self.intermediate), Span(self.root));
        let (min, max) = (Span(limits::LEAF_LIFETIME_MIN), Span(limits::LEAF_LIFETIME_MAX));
        if self.leaf < min.0 || self.leaf > max.0 {
            fault("LeafCertTTL", format!("{leaf} must be from {min} to {max}"));
        }
        let least = Span(self.leaf.saturating_mul(3));
        if self.intermediate < least.0 {
            let reason = format!("{intermediate} must be at least {least}, 3 × LeafCertTTL");
            fault("IntermediateCertTTL", reason);
        }
        let longest = Span(limits::ROOT_LIFETIME_MAX);
        if self.root < self.intermediate {
            let reason = format!("{root} must be at least IntermediateCertTTL, {intermediate}");
            fault("RootCertTTL", reason);
        } else if self.root > longest.0 {
            fault("RootCertTTL", format!("{root} must be at most {longest}"));
        }
        faults
    }
}

/// Decides whether an intermediate, or a certificate of a server itself, is made anew: past half of
/// its life, from a clock that was set back since, or valid for longer than is wanted now.
pub fn is_renewal_due(
    (valid_after, valid_before): (Timestamp, Timestamp),
    wanted: Duration,
    now: Timestamp,
) -> bool {
    // What lies before its making is no part of its life.
    let whole = valid_before.since(valid_after.saturating_add(super::csr::BACKDATED));
    now < valid_after
        || valid_before.since(now) <= whole / 2
        // Certificates count in whole seconds.
        || whole > wanted.saturating_add(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn each_certificate_must_be_able_to_outlive_those_below() {
        let check = |leaf: u64, intermediate: u64, root: u64| -> Vec<&'static str> {
            let terms = CaTerms {
                leaf: Duration::from_secs(leaf),
                intermediate: Duration::from_secs(intermediate),
                root: Duration::from_secs(root),
            };
            terms.faults().iter().map(|fault| fault.field).collect()
        };
        let (hour, year) = (3600, 365 * 24 * 3600);
        assert_eq!(check(24 * hour, year, 10 * year), [""; 0]);
        assert_eq!(check(60, 180, 180), [""; 0]);
        assert_eq!(check(year, 3 * year, 100 * year), [""; 0], "the longest");
        assert_eq!(check(59, 180, 180), ["LeafCertTTL"]);
        assert_eq!(check(60, 179, 180), ["IntermediateCertTTL"]);
        assert_eq!(check(60, 180, 179), ["RootCertTTL"]);
        assert_eq!(check(60, 180, 101 * year), ["RootCertTTL"]);
        assert_eq!(check(year + 1, 1, 0), ["LeafCertTTL", "IntermediateCertTTL", "RootCertTTL"]);
    }

    #[test]
    fn what_is_not_said_has_a_default_and_members_end_well_before_the_intermediate() {
        let settings = CaSettings::default();
        let terms = settings.terms(MINUTE * 60);
        assert_eq!((terms.leaf, terms.root), (MINUTE * 60, limits::ROOT_LIFETIME));
        assert_eq!(terms.member(), limits::MEMBER_LIFETIME);
        assert_eq!(terms.overlap(), MINUTE * 120);
        assert_eq!(settings.signatures_per_second(), limits::LEAF_SIGNATURES_PER_SECOND);
        let any = CaSettings { signatures_per_second: Some(0), ..settings.clone() };
        assert_eq!(any.signatures_per_second(), 0);
        let short = CaSettings {
            leaf_lifetime: Some(Span(MINUTE)),
            intermediate_lifetime: Some(Span(MINUTE * 3)),
            ..settings
        };
        assert_eq!(short.terms(MINUTE * 60).member(), MINUTE);
    }

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life_or_when_it_should_be_shorter() {
        let start = Timestamp(1_000_000_000);
        let dates = (start.saturating_sub(MINUTE), start.saturating_add(MINUTE * 9));
        let is_due = |wanted, at: Duration| is_renewal_due(dates, wanted, start.saturating_add(at));
        assert!(!is_due(MINUTE * 9, Duration::ZERO));
        assert!(!is_due(MINUTE * 9, MINUTE * 4));
        assert!(is_due(MINUTE * 9, MINUTE * 5));
        assert!(is_due(MINUTE * 3, Duration::ZERO), "it lives longer than is wanted now");
        let second = Duration::from_secs(1);
        assert!(!is_due(MINUTE * 9 - second, Duration::ZERO), "by what dates are rounded to");
        assert!(is_due(MINUTE * 9 - second * 2, Duration::ZERO));
        assert!(!is_renewal_due(dates, MINUTE * 9, dates.0), "it has just begun");
        assert!(!is_due(MINUTE * 90, Duration::ZERO), "it is shorter, which harms nobody");
        assert!(is_renewal_due(dates, MINUTE * 9, start.saturating_sub(MINUTE * 2)));
    }
}
