//! Templated policies: rules that every cluster has, with a name to be filled in.
//!
//! **Source**: Consul: docs/security/acl/acl-templated-policies (the templates and their rules).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Access, Resource, Rules};
use crate::name::Datacenter;

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Template {
    /// A gateway from outside, by its service name.
    #[serde(rename = "builtin/api-gateway")]
    ApiGateway,
    /// A DNS server that answers for everything.
    #[serde(rename = "builtin/dns")]
    Dns,
    /// A node's agent, by node name.
    #[serde(rename = "builtin/node")]
    Node,
    /// A Nomad client.
    #[serde(rename = "builtin/nomad-client")]
    NomadClient,
    /// A Nomad server.
    #[serde(rename = "builtin/nomad-server")]
    NomadServer,
    /// A service and its sidecar, by service name.
    #[serde(rename = "builtin/service")]
    Service,
    /// A workload of the v2 catalog, by name.
    #[serde(rename = "builtin/workload-identity")]
    WorkloadIdentity,
}

/// States that a text names no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a template; there are {1}")]
pub struct UnknownTemplate(String, String);

impl Template {
    /// Every template, in the order of their names.
    pub const ALL: [Self; 7] = [
        Self::ApiGateway,
        Self::Dns,
        Self::Node,
        Self::NomadClient,
        Self::NomadServer,
        Self::Service,
        Self::WorkloadIdentity,
    ];

    /// Returns the name of the public API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiGateway => "builtin/api-gateway",
            Self::Dns => "builtin/dns",
            Self::Node => "builtin/node",
            Self::NomadClient => "builtin/nomad-client",
            Self::NomadServer => "builtin/nomad-server",
            Self::Service => "builtin/service",
            Self::WorkloadIdentity => "builtin/workload-identity",
        }
    }

    /// Returns what it is for, in a sentence.
    pub fn description(self) -> &'static str {
        match self {
            Self::ApiGateway => "Gives an API gateway the rights to route from outside",
            Self::Dns => "Gives a DNS server the rights to answer for every name",
            Self::Node => "Gives an agent the rights on its own node",
            Self::NomadClient => "Gives a Nomad client the rights to register its services",
            Self::NomadServer => "Gives a Nomad server the rights to register and make tokens",
            Self::Service => "Gives a service and its sidecar the rights to register and discover",
            Self::WorkloadIdentity => "Grants nothing; kept for the name's sake",
        }
    }

    /// Whether a name must be filled in.
    pub fn needs_name(self) -> bool {
        match self {
            Self::ApiGateway
            | Self::Node
            | Self::NomadClient
            | Self::Service
            | Self::WorkloadIdentity => true,
            Self::Dns | Self::NomadServer => false,
        }
    }

    /// Returns the rules with the name filled in; those without one pass it over.
    ///
    /// Differs: what Consul grants to a workload identity is for its second catalog, which is
    /// not here, so that template grants nothing.
    pub fn rules(self, name: &str) -> Rules {
        use Access::{Read, Write};
        let none = Rules::default();
        let catalog = || {
            let nodes = Rules::default().prefix(Resource::Node, "", Read);
            nodes.prefix(Resource::Service, "", Read)
        };
        match self {
            Self::ApiGateway => {
                catalog().whole(Resource::Mesh, Read).exact(Resource::Service, name, Write)
            }
            Self::Dns => catalog().prefix(Resource::Query, "", Read),
            Self::Node => {
                none.exact(Resource::Node, name, Write).prefix(Resource::Service, "", Read)
            }
            Self::NomadClient => none
                .exact(Resource::Agent, name, Read)
                .exact(Resource::Node, name, Write)
                .prefix(Resource::Service, "", Write),
            Self::NomadServer => none
                .whole(Resource::Acl, Write)
                .prefix(Resource::Agent, "", Read)
                .prefix(Resource::Node, "", Read)
                .prefix(Resource::Service, "", Write),
            Self::Service => catalog().exact(Resource::Service, name, Write).exact(
                Resource::Service,
                &format!("{name}-sidecar-proxy"),
                Write,
            ),
            Self::WorkloadIdentity => none,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Template {
    type Err = UnknownTemplate;
    fn from_str(text: &str) -> Result<Self, UnknownTemplate> {
        let all = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|template| template.as_str() == text)
            .ok_or_else(|| UnknownTemplate(text.to_owned(), all()))
    }
}

/// A template that is granted, with its name filled in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TemplatedPolicy {
    /// The template.
    pub template_name: Template,
    /// What is filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_variables: Option<TemplateVariables>,
    /// Where it holds; empty means everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<Datacenter>,
}

/// What is filled into a template.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TemplateVariables {
    /// The name of the service, node or workload.
    #[serde(default)]
    pub name: String,
}

impl TemplatedPolicy {
    /// Returns the name that is filled in; empty when there is none.
    pub fn name(&self) -> &str {
        self.template_variables.as_ref().map_or("", |variables| &variables.name)
    }

    /// Returns the rules.
    pub fn rules(&self) -> Rules {
        self.template_name.rules(self.name())
    }
}
