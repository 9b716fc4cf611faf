//! `/v1/agent/{self,host,version,members,leave}`: the agent itself and its neighbours.
//!
//! **Source**: Consul: api-docs/agent.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};
use tracing::info;
use weft_core::acl::Resource;
use weft_core::catalog::HealthCheck;
use weft_core::catalog::SERF_HEALTH;
use weft_core::filter::MEMBER;
use weft_core::name::NodeName;
use weft_runtime::http::{Body, collect, empty};

use super::answer::{self, ApiError};
use super::{Api, Call, done, host};
use crate::acl::Question;
use crate::config::TokenText;

/// The release of Consul whose API is spoken: clients look here before they use newer calls.
const API_VERSION: &str = "1.22.0";
/// Weft's own release.
const WEFT_VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long the list of nodes is waited for when it was never asked for before.
pub(super) const NODES_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the list of critical checks that is read to tell who is away.
const CRITICAL_BYTES_MAX: usize = 16 << 20;

impl Api {
    pub(super) fn self_page(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let membership = self.parts.servers.membership();
        let config = &self.parts.config;
        let local = self.parts.local.current();
        let shown = json!({
            "Config": {
                "Datacenter": membership.datacenter,
                "PrimaryDatacenter": membership.datacenter,
                "NodeName": membership.node,
                "NodeID": membership.node_id,
                "Revision": "",
                "Server": false,
                "Version": API_VERSION,
                "BuildDate": "",
            },
            "DebugConfig": {
                "AdvertiseAddrLAN": config.advertise_addr.to_string(),
                "BindAddr": config.bind_addr.to_string(),
                "DNSDomain": format!("{}.", config.dns.domain),
                "DNSAltDomain": config.dns.alt_domain,
                "NodeName": membership.node,
                "SessionTTLMin": "0s",
            },
            "Coord": null,
            "Member": member(&membership.node, &config.advertise_addr.to_string(), true),
            "Meta": config.node_meta,
            "Stats": {
                "agent": {
                    "checks": local.checks.len().to_string(),
                    "services": local.services.len().to_string(),
                },
                "weft": { "version": WEFT_VERSION },
            },
            "Weft": {
                "Version": WEFT_VERSION,
                "ClusterID": membership.cluster_id,
                "TrustDomain": membership.trust_domain,
                "ProxySocket": config.proxy_socket,
                "DnsAddr": self.parts.dns_addr.map(|addr| addr.to_string()),
                "DnsDomain": config.dns.domain,
                "Servers": self.parts.servers.list(),
                "ServerConnected": self.parts.views.is_connected(),
                "ClockAheadMs": self.parts.servers.clock_ahead_ms(),
                "CertificateValidBefore": self.parts.servers.valid_before().rfc3339(),
            },
        });
        Ok(answer::json(&shown, call.query.has("pretty")))
    }

    pub(super) fn version(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let shown = json!({
            "SHA": "",
            "BuildDate": "",
            "HumanVersion": API_VERSION,
            "FIPS": "",
            "Weft": WEFT_VERSION,
        });
        Ok(answer::json(&shown, call.query.has("pretty")))
    }

    pub(super) fn host(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        Ok(answer::json(&host::shown(), call.query.has("pretty")))
    }

    /// Answers the nodes of the cluster; without a server, those last known.
    pub(super) async fn members(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let filter = call.query.filter(&MEMBER)?;
        let mut view = self.parts.views.nodes();
        let nodes = view.first(NODES_LIMIT).await.value;
        let Some(nodes) = nodes else {
            return Err(ApiError::Unavailable(
                "the nodes of the cluster are not known: no server has answered yet".to_owned(),
            ));
        };
        let away = self.nodes_away().await;
        let asked = |name: &NodeName| Question::read(Resource::Node, name.as_str());
        let all = nodes.iter().map(|node| (asked(&node.name), node)).collect();
        let (seen, is_filtered) = self.seen(call.token.as_ref(), all).await?;
        let shown: Vec<Value> = seen
            .into_iter()
            .map(|node| member(&node.name, &node.address, !away.contains(node.name.as_str())))
            .filter(|member| filter.as_ref().is_none_or(|filter| filter.matches(member)))
            .collect();
        let mut response = answer::list(&shown, call.query.has("pretty"), is_filtered);
        self.mark_age(response.headers_mut());
        Ok(response)
    }

    /// The nodes whose agents do not answer; none when no server can tell.
    pub(super) async fn nodes_away(&self) -> BTreeSet<String> {
        let mut request = Request::get("/v1/health/state/critical?stale");
        if let Some(value) = self.parts.acl.agent_token().and_then(|token| token.header()) {
            request = request.header(TokenText::HEADER, value);
        }
        let request = request.body(empty());
        let Ok(request) = request else { return BTreeSet::new() };
        let Ok(response) = self.parts.servers.forward(request).await else {
            return BTreeSet::new();
        };
        let Ok(body) = collect(response.into_body(), CRITICAL_BYTES_MAX).await else {
            return BTreeSet::new();
        };
        let critical: Vec<HealthCheck> = serde_json::from_slice(&body).unwrap_or_default();
        let leases = critical.into_iter().filter(|check| check.id.as_str() == SERF_HEALTH);
        leases.map(|check| check.node.to_string()).collect()
    }

    /// Takes this host out of the catalog and ends the agent.
    pub(super) async fn leave(&self) -> Result<Response<Body>, ApiError> {
        crate::sync::leave(&self.parts.servers).await.map_err(ApiError::Unavailable)?;
        info!("left the cluster on request");
        let tasks = self.parts.tasks.clone();
        self.parts.tasks.spawn("leave", async move { tasks.cancel() });
        Ok(done())
    }
}

/// A member in the form that clients know from gossip.
fn member(name: &weft_core::name::NodeName, address: &str, is_alive: bool) -> Value {
    json!({
        "Name": name,
        "Addr": address,
        "Port": 0,
        "Tags": { "role": "node", "id": "", "build": API_VERSION },
        // 1 is alive, 4 is failed, as in Serf.
        "Status": if is_alive { 1 } else { 4 },
        "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2,
        "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
    })
}
