//! What may be signed: whose identity a caller may ask for, and for how long.
//!
//! A certificate is built from what is decided here; of the request only the public key is used.

use std::time::Duration;

use crate::catalog::CatalogRegistration;
use crate::identity::{SpiffeId, Workload};
use crate::name::ServiceName;
use crate::time::Timestamp;

/// How far the start of a certificate lies back, for clocks that differ.
///
/// **Source**: Consul: the built-in CA signs from a minute ago.
pub const BACKDATED: Duration = Duration::from_secs(60);

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefusal {
    /// Only agents ask for the certificates of services.
    #[error("{caller} may not ask for the certificate of a service; only agents may")]
    NotAnAgent {
        /// Who asked.
        caller: SpiffeId,
    },
    /// The agent's node does not have the service.
    #[error(
        "node {node:?} has no instance of service {service:?} registered; register it there first"
    )]
    NotRegistered {
        /// The agent's node.
        node: String,
        /// The service asked for.
        service: ServiceName,
    },
    /// The identity, or who asks for it, was revoked.
    #[error("{id} was revoked; weft ca unrevoke takes that back")]
    Revoked {
        /// Who.
        id: SpiffeId,
    },
    /// The certificate above ends too soon.
    #[error("the signing certificate ends at {}; nothing is signed under it", parent_ends.rfc3339())]
    ParentEnds {
        /// When.
        parent_ends: Timestamp,
    },
}

/// Decides whether an agent may have a certificate for a service: its node must have an instance
/// of it, or a sidecar that speaks for it, registered in exactly the spelling asked for.
///
/// # Errors
/// [`CsrRefusal`] that names what is missing.
pub fn judge_service(
    caller: &SpiffeId,
    service: &ServiceName,
    node: Option<&CatalogRegistration>,
) -> Result<SpiffeId, CsrRefusal> {
    let name = match &caller.workload {
        Workload::Agent(name) => name,
        Workload::Server(_) | Workload::Service(_) => {
            return Err(CsrRefusal::NotAnAgent { caller: caller.clone() });
        }
    };
    let has_it = node.is_some_and(|node| {
        node.services.iter().any(|it| it.name == *service || it.mesh_door_of() == Some(service))
    });
    if !has_it {
        return Err(CsrRefusal::NotRegistered { node: name.to_string(), service: service.clone() });
    }
    Ok(SpiffeId::service(caller.trust_domain.clone(), caller.datacenter.clone(), service.clone()))
}

/// Decides from when to when a certificate is valid. It never outlives the one above it.
///
/// # Errors
/// [`CsrRefusal::ParentEnds`] when that leaves less than a tenth of the lifetime asked for.
pub fn validity(
    now: Timestamp,
    lifetime: Duration,
    parent_ends: Timestamp,
) -> Result<(Timestamp, Timestamp), CsrRefusal> {
    let ends = now.saturating_add(lifetime).min(parent_ends);
    if ends.since(now) < lifetime / 10 {
        return Err(CsrRefusal::ParentEnds { parent_ends });
    }
    Ok((now.saturating_sub(BACKDATED), ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_never_outlives_its_parent() {
        let (now, hour) = (Timestamp(1_000_000_000), Duration::from_secs(3600));
        let far = now.saturating_add(hour * 10);
        assert_eq!(
            validity(now, hour, far),
            Ok((Timestamp(999_940_000), Timestamp(1_003_600_000)))
        );
        let near = now.saturating_add(hour / 2);
        assert_eq!(validity(now, hour, near).map(|(_, ends)| ends), Ok(near));
        let least = now.saturating_add(hour / 10);
        assert_eq!(validity(now, hour, least).map(|(_, ends)| ends), Ok(least));
        let too_near = now.saturating_add(hour / 20);
        assert!(validity(now, hour, too_near).is_err());
        assert!(validity(now, hour, Timestamp(5)).is_err());
    }

    #[test]
    fn an_agent_gets_what_its_node_has_and_nothing_else() {
        let id = |path: &str| SpiffeId::parse(&format!("spiffe://a.mesh/{path}")).expect("an id");
        let agent = id("agent/client/dc/dc1/id/n1");
        let node: CatalogRegistration = serde_json::from_value(serde_json::json!({
            "node": { "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1" },
            "services": [
                { "ID": "web-1", "Service": "web" },
                { "ID": "x", "Service": "db-sidecar-proxy", "Kind": "connect-proxy",
                  "Proxy": { "DestinationServiceName": "db" } },
            ],
        }))
        .expect("a registration");
        let judge = |caller: &SpiffeId, service: &str, node| {
            judge_service(caller, &service.parse().expect("a name"), node)
        };
        for service in ["web", "db"] {
            let expected = id(&format!("ns/default/dc/dc1/svc/{service}"));
            assert_eq!(judge(&agent, service, Some(&node)), Ok(expected));
        }
        // The spelling counts: another one is another identity.
        for other in ["api", "Web", "DB"] {
            assert!(judge(&agent, other, Some(&node)).is_err(), "{other}");
        }
        assert!(judge(&agent, "web", None).is_err());
        for other in ["agent/server/dc/dc1/id/n1", "ns/default/dc/dc1/svc/web"] {
            let refusal = judge(&id(other), "web", Some(&node)).expect_err("not an agent");
            assert!(matches!(refusal, CsrRefusal::NotAnAgent { .. }));
        }
    }
}
