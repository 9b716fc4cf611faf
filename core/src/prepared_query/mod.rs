//! Prepared queries: a question about a service under a name, and how it is answered.
//!
//! Where they are kept is `state`'s affair, near instances and other datacenters the server's.

mod choose;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use choose::choose;
pub use template::{QueryTemplate, TemplateKind};

use crate::config_entry::SecretText;
use crate::index::Index;
use crate::limits;
use crate::time::Span;

/// A question about a service, under a name.
///
/// **Source**: Consul: api-docs/query.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PreparedQuery {
    /// A UUID.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it is asked by; of a template, how the names begin for which it is.
    pub name: String,
    /// The session with which it ends; empty for none.
    pub session: String,
    /// The token with whose rights it is answered; empty for the asker's own.
    pub token: SecretText,
    /// How it is made for a name, unless it is for one name alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<QueryTemplate>,
    /// The question.
    pub service: QueryService,
    /// How long DNS may keep the answer.
    #[serde(rename = "DNS")]
    pub dns: QueryDns,
    /// When the query was created.
    pub create_index: Index,
    /// When the query last changed.
    pub modify_index: Index,
}

/// Which instances of which service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryService {
    /// The service.
    pub service: String,
    /// Where else to look when there is none.
    pub failover: QueryFailover,
    /// Whether instances with a warning are left out.
    pub only_passing: bool,
    /// Checks that do not count.
    #[serde(rename = "IgnoreCheckIDs")]
    pub ignore_check_ids: Vec<String>,
    /// To which node the answer is ordered: a name, `_agent` or `_ip`; empty for none.
    pub near: String,
    /// Labels that instances must have, or with `!` before them must not.
    pub tags: Vec<String>,
    /// Metadata that their nodes must have.
    pub node_meta: BTreeMap<String, String>,
    /// Metadata that they must have.
    pub service_meta: BTreeMap<String, String>,
    /// Whether the sidecars and native instances that speak for it are meant.
    pub connect: bool,
}

/// Where else to look.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryFailover {
    /// So many datacenters, the nearest first.
    pub nearest_n: u32,
    /// Datacenters, in this order, after the nearest.
    pub datacenters: Vec<String>,
    /// Datacenters and peerings, in this order, instead of `datacenters`.
    pub targets: Vec<QueryTarget>,
}

/// One other place: a datacenter or a peering.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryTarget {
    /// A peering.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// A datacenter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub datacenter: String,
}

/// How long DNS may keep the answer.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct QueryDns {
    /// As a text such as `10s`; empty for the default.
    #[serde(rename = "TTL")]
    pub ttl: String,
}

/// States what is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct QueryFault {
    /// The field's path.
    pub field: String,
    /// Why, and what to write instead.
    pub reason: String,
}

impl PreparedQuery {
    /// What stands for a token in an answer to those who may not see it.
    pub const TOKEN_HIDDEN: &str = "<hidden>";

    /// Whether it is for more than one name.
    pub fn is_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether rules about names speak of it.
    pub fn is_named(&self) -> bool {
        !self.name.is_empty() || self.is_template()
    }

    /// Checks what concerns the query alone and brings it into the form that is stored.
    ///
    /// # Errors
    /// Everything found wrong, by field.
    pub fn normalise(mut self) -> Result<Self, Vec<QueryFault>> {
        let mut faults = Vec::new();
        let mut fault = |field: &str, reason: String| {
            faults.push(QueryFault { field: field.to_owned(), reason });
        };
        self.template = self.template.filter(|template| template.kind != TemplateKind::Unset);
        if let Some(template) = &self.template
            && let Err(reason) = template.check()
        {
            fault("Template.Regexp", reason);
        }
        if self.name.is_empty() && self.session.is_empty() && !self.is_template() {
            fault("Name", "must be given, or a Session with which the query ends".to_owned());
        }
        let service = &self.service;
        if service.service.is_empty() {
            fault("Service.Service", "must name a service".to_owned());
        }
        let failover = &service.failover;
        if !failover.datacenters.is_empty() && !failover.targets.is_empty() {
            fault("Service.Failover", "write one of Datacenters and Targets, not both".to_owned());
        }
        for (at, target) in failover.targets.iter().enumerate() {
            if target.peer.is_empty() == target.datacenter.is_empty() {
                let field = format!("Service.Failover.Targets[{at}]");
                fault(&field, "write exactly one of Peer and Datacenter".to_owned());
            }
        }
        for (field, count) in [
            ("Service.Tags", service.tags.len()),
            ("Service.IgnoreCheckIDs", service.ignore_check_ids.len()),
            ("Service.NodeMeta", service.node_meta.len()),
            ("Service.ServiceMeta", service.service_meta.len()),
            ("Service.Failover.Datacenters", failover.datacenters.len()),
            ("Service.Failover.Targets", failover.targets.len()),
        ] {
            let max = limits::META_PAIRS_MAX;
            if count > max {
                fault(field, format!("has {count} items, more than the {max} allowed"));
            }
        }
        if !self.dns.ttl.is_empty() && self.dns.ttl.parse::<Span>().is_err() {
            fault("DNS.TTL", format!("{:?} is not a duration such as \"10s\"", self.dns.ttl));
        }
        for text in self.texts() {
            let max = limits::QUERY_TEXT_BYTES_MAX;
            if text.len() > max {
                let reason = format!("has {} bytes, more than the {max} allowed", text.len());
                fault("Service", reason);
                break;
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// The texts of the query, which a template fills in.
    fn texts(&self) -> impl Iterator<Item = &String> {
        let service = &self.service;
        let lists = service
            .tags
            .iter()
            .chain(&service.ignore_check_ids)
            .chain(service.node_meta.iter().flat_map(|(key, value)| [key, value]))
            .chain(service.service_meta.iter().flat_map(|(key, value)| [key, value]))
            .chain(&service.failover.datacenters);
        [&self.name, &self.session, &service.service, &service.near].into_iter().chain(lists)
    }
}
