//! SPIFFE IDs: parse, format, compare. Certificates that carry them are elsewhere.
//!
//! IDs are compared as parsed and never normalised into each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::{Datacenter, InvalidName, NodeName, ServiceName, TrustDomain};

/// Who a certificate speaks for.
///
/// **Source**: Spec: SPIFFE-ID §2; the service form is Consul's
/// (Consul: docs/connect/ca#spiffe-id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    /// The mesh that vouches for the identity.
    pub trust_domain: TrustDomain,
    /// The datacenter in which it lives.
    pub datacenter: Datacenter,
    /// What it is.
    pub workload: Workload,
}

/// What a SPIFFE ID stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// An agent: `/agent/client/dc/<dc>/id/<node>`.
    Agent(NodeName),
    /// A server: `/agent/server/dc/<dc>/id/<node>`.
    Server(NodeName),
    /// A service: `/ns/default/dc/<dc>/svc/<service>`.
    Service(ServiceName),
}

/// States why a URI is not an identity of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// The URI does not have one of the three forms.
    #[error("SPIFFE ID {uri:?} has none of the forms that a mesh issues")]
    Form {
        /// The URI, cut to a printable length.
        uri: String,
    },
    /// One of its parts is not a valid name.
    #[error("SPIFFE ID {uri:?} has an invalid part")]
    Part {
        /// The URI.
        uri: String,
        /// What is wrong with the part.
        #[source]
        source: InvalidName,
    },
}

impl SpiffeId {
    /// Makes the identity of a service.
    pub fn service(trust_domain: TrustDomain, datacenter: Datacenter, name: ServiceName) -> Self {
        Self { trust_domain, datacenter, workload: Workload::Service(name) }
    }

    /// Makes the identity of an agent.
    pub fn agent(trust_domain: TrustDomain, datacenter: Datacenter, node: NodeName) -> Self {
        Self { trust_domain, datacenter, workload: Workload::Agent(node) }
    }

    /// Makes the identity of a server.
    pub fn server(trust_domain: TrustDomain, datacenter: Datacenter, node: NodeName) -> Self {
        Self { trust_domain, datacenter, workload: Workload::Server(node) }
    }

    /// Parses a URI.
    ///
    /// # Errors
    /// [`InvalidSpiffeId`] when the URI has another scheme, port, query, fragment, percent
    /// escape or path form, or a part outside its character set.
    pub fn parse(uri: &str) -> Result<Self, InvalidSpiffeId> {
        let shown: String = uri.chars().take(256).collect();
        let form = || InvalidSpiffeId::Form { uri: shown.clone() };
        if uri.len() > limits::SPIFFE_ID_BYTES_MAX {
            return Err(form());
        }
        let (domain, path) =
            uri.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).ok_or_else(form)?;
        let part = |source| InvalidSpiffeId::Part { uri: shown.clone(), source };
        let trust_domain = TrustDomain::parse(domain).map_err(part)?;
        let segments: Vec<&str> = path.splitn(8, '/').collect();
        let (dc, workload) = match segments[..] {
            ["ns", "default", "dc", dc, "svc", name] => {
                (dc, Workload::Service(ServiceName::parse(name).map_err(part)?))
            }
            ["agent", "client", "dc", dc, "id", node] => {
                (dc, Workload::Agent(NodeName::parse(node).map_err(part)?))
            }
            ["agent", "server", "dc", dc, "id", node] => {
                (dc, Workload::Server(NodeName::parse(node).map_err(part)?))
            }
            _ => return Err(form()),
        };
        let datacenter = Datacenter::parse(dc).map_err(part)?;
        Ok(Self { trust_domain, datacenter, workload })
    }

    /// Returns the service that the identity stands for, if it is a service's.
    pub fn service_name(&self) -> Option<&ServiceName> {
        match &self.workload {
            Workload::Service(name) => Some(name),
            Workload::Agent(_) | Workload::Server(_) => None,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, datacenter, workload } = self;
        match workload {
            Workload::Agent(node) => {
                write!(f, "spiffe://{trust_domain}/agent/client/dc/{datacenter}/id/{node}")
            }
            Workload::Server(node) => {
                write!(f, "spiffe://{trust_domain}/agent/server/dc/{datacenter}/id/{node}")
            }
            Workload::Service(name) => {
                write!(f, "spiffe://{trust_domain}/ns/default/dc/{datacenter}/svc/{name}")
            }
        }
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;
    fn from_str(uri: &str) -> Result<Self, InvalidSpiffeId> {
        Self::parse(uri)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = InvalidSpiffeId;
    fn try_from(uri: String) -> Result<Self, InvalidSpiffeId> {
        Self::parse(&uri)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_survives_a_round_trip() {
        for uri in [
            "spiffe://a1.mesh/ns/default/dc/dc1/svc/web",
            "spiffe://a1.mesh/agent/client/dc/dc1/id/host-1",
            "spiffe://a1.mesh/agent/server/dc/dc1/id/host-1",
        ] {
            assert_eq!(SpiffeId::parse(uri).expect(uri).to_string(), uri);
        }
    }

    #[test]
    fn what_is_not_exactly_a_form_is_refused() {
        for uri in [
            "spiffe://a1.mesh",
            "spiffe://a1.mesh/",
            "spiffe://A1.mesh/ns/default/dc/dc1/svc/web",
            "spiffe://a1.mesh:8080/ns/default/dc/dc1/svc/web",
            "spiffe://u@a1.mesh/ns/default/dc/dc1/svc/web",
            "spiffe://a1.mesh/ns/default/dc/dc1/svc/web/",
            "spiffe://a1.mesh/ns/default/dc/dc1/svc/web?x",
            "spiffe://a1.mesh/ns/default/dc/dc1/svc/we%62",
            "spiffe://a1.mesh/ns/default/dc/dc1/svc/..",
            "spiffe://a1.mesh/ns/other/dc/dc1/svc/web",
            "SPIFFE://a1.mesh/ns/default/dc/dc1/svc/web",
            "https://a1.mesh/ns/default/dc/dc1/svc/web",
        ] {
            assert!(SpiffeId::parse(uri).is_err(), "{uri} was accepted");
        }
    }
}
