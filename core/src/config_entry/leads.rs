//! To which services an entry sends the traffic of its own.

use super::ConfigEntry;
use crate::name::ServiceName;

impl ConfigEntry {
    /// Returns the service whose chain the entry shapes and every service that the entry names
    /// as a destination, in the order of its fields; `None` for kinds that shape no chain.
    ///
    /// Chains are checked by it, and so are rights: whoever sends traffic elsewhere must be
    /// allowed to know of the place. A field that is forgotten here is forgotten by both.
    pub fn leads_to(&self) -> Option<(&ServiceName, Vec<&ServiceName>)> {
        match self {
            Self::ServiceResolver(entry) => {
                let redirect = entry.redirect.iter().filter_map(|to| to.service.as_ref());
                let failover = entry.failover.values().flat_map(|failover| {
                    let targets = failover.targets.iter().filter_map(|to| to.service.as_ref());
                    failover.service.iter().chain(targets)
                });
                Some((&entry.name, redirect.chain(failover).collect()))
            }
            Self::ServiceRouter(entry) => {
                let destinations = entry.routes.iter().filter_map(|it| it.destination.as_ref());
                Some((&entry.name, destinations.filter_map(|to| to.service.as_ref()).collect()))
            }
            Self::Rollout(entry) => Some((&entry.name, Vec::new())),
            Self::ServiceSplitter(entry) => {
                let splits = entry.splits.iter();
                Some((&entry.name, splits.filter_map(|split| split.service.as_ref()).collect()))
            }
            Self::ApiGateway(_)
            | Self::ExportedServices(_)
            | Self::FileSystemCertificate(_)
            | Self::HttpRoute(_)
            | Self::IngressGateway(_)
            | Self::InlineCertificate(_)
            | Self::JwtProvider(_)
            | Self::Mesh(_)
            | Self::ProxyDefaults(_)
            | Self::ServiceDefaults(_)
            | Self::ServiceIntentions(_)
            | Self::TcpRoute(_)
            | Self::TerminatingGateway(_) => None,
        }
    }
}
