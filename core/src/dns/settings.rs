//! What an operator may choose about answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::catalog::Locality;
use crate::name::Datacenter;

/// The zone that is answered for, and how.
///
/// **Source**: Consul: docs/agent/config/config-files#dns_config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The zone; lower-case, without dots at its ends.
    pub domain: String,
    /// A second name of the same zone; same shape.
    pub alt_domain: Option<String>,
    /// The datacenter that a name means when it tells none.
    pub datacenter: Datacenter,
    /// The address given for `ns.<domain>`; `None` leaves NS answers without it.
    pub name_server: Option<IpAddr>,
    /// How long node answers may be kept.
    pub node_ttl: Duration,
    /// How long service answers may be kept: by service name, else by the longest prefix
    /// written `prefix*`, else zero.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether instances with a warning are left out, too.
    pub only_passing: bool,
    /// The times in the SOA record.
    pub soa: SoaTimers,
    /// Answers over UDP to a caller without EDNS.
    pub udp_answers_max: usize,
    /// A and AAAA records in any answer; `None` for no limit.
    pub a_records_max: Option<usize>,
    /// Whether metadata of nodes goes along with answers that name them.
    ///
    /// Differs: Consul's `enable_additional_node_meta_txt` is on by default, which fills small
    /// datagrams with what nobody asked for.
    pub has_meta_beside: bool,
    /// Whether a cut answer says so.
    pub truncation: Truncation,
    /// Where this agent is, when near instances are to come first.
    pub locality: Option<Locality>,
}

/// Whether an answer that was cut has the TC bit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// The TC bit tells the caller to ask again over TCP.
    ///
    /// Differs: Consul's `enable_truncate` is off by default, which hides instances.
    #[default]
    Flagged,
    /// The caller is left with what fits.
    Silent,
}

/// The times in the SOA record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoaTimers {
    /// How often a secondary would look for changes.
    pub refresh: Duration,
    /// How soon it would try again.
    pub retry: Duration,
    /// When it would give up.
    pub expire: Duration,
    /// How long a negative answer may be kept (RFC 2308 §4).
    pub min_ttl: Duration,
}

impl Default for SoaTimers {
    /// Consul's defaults; nothing negative is kept, as a service may appear at any moment.
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(3600),
            retry: Duration::from_secs(600),
            expire: Duration::from_secs(86_400),
            min_ttl: Duration::ZERO,
        }
    }
}

impl Settings {
    /// Makes the default settings of a datacenter's zone.
    pub fn new(domain: &str, alt_domain: Option<&str>, datacenter: Datacenter) -> Self {
        let zone = |text: &str| text.trim_matches('.').to_ascii_lowercase();
        Self {
            domain: zone(domain),
            alt_domain: alt_domain.map(zone).filter(|alt| !alt.is_empty()),
            datacenter,
            name_server: None,
            node_ttl: Duration::ZERO,
            service_ttl: BTreeMap::new(),
            only_passing: false,
            soa: SoaTimers::default(),
            // Consul's default of `udp_answer_limit`: some load is spread and 512 bytes hold it.
            udp_answers_max: 3,
            a_records_max: None,
            has_meta_beside: false,
            truncation: Truncation::default(),
            locality: None,
        }
    }

    /// Returns the zone in which a lower-case name lies, with the labels before it.
    pub(super) fn split_zone<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a str)> {
        std::iter::once(self.domain.as_str()).chain(self.alt_domain.as_deref()).find_map(|zone| {
            let before = name.strip_suffix(zone)?;
            if before.is_empty() {
                return Some(("", zone));
            }
            before.strip_suffix('.').map(|labels| (labels, zone))
        })
    }

    /// Returns how long an answer about a service may be kept.
    pub fn ttl_of_service(&self, service: &str) -> Duration {
        let by_prefix = || {
            self.service_ttl
                .iter()
                .filter_map(|(pattern, ttl)| Some((pattern.strip_suffix('*')?, ttl)))
                .filter(|(prefix, _)| service.starts_with(prefix))
                .max_by_key(|(prefix, _)| prefix.len())
                .map(|(_, ttl)| *ttl)
        };
        self.service_ttl.get(service).copied().or_else(by_prefix).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_wins_over_the_longest_prefix() {
        let dc = Datacenter::parse("dc1").expect("a datacenter");
        let mut settings = Settings::new("mesh.", None, dc);
        for (pattern, seconds) in [("web", 1), ("web*", 2), ("we*", 3), ("*", 4)] {
            settings.service_ttl.insert(pattern.into(), Duration::from_secs(seconds));
        }
        for (service, seconds) in [("web", 1), ("web-2", 2), ("wet", 3), ("db", 4)] {
            assert_eq!(settings.ttl_of_service(service).as_secs(), seconds, "{service}");
        }
    }
}
