//! The compiled form of a discovery chain. What is alive behind its targets is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config_entry::blank::is_blank;
use crate::config_entry::{
    EntryKey, HeaderChanges, HopTransport, HttpMatch, LoadBalancer, LocalityMode, PathRewrite,
    Protocol, RetryPolicy, RouteFault, RouteMirror, RouteRedirect, RouteResponse,
    ServiceDestination, Sticky, Weight,
};
use crate::identity::SpiffeId;
use crate::name::{Datacenter, ServiceName};

/// Where a request ends: `[subset.]service.default.default.dc`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetId(Box<str>);

impl TargetId {
    /// Makes the id of a service's subset (empty for none) in a datacenter.
    ///
    /// **Source**: Consul's `DiscoveryTarget.ID`.
    pub fn new(service: &ServiceName, subset: &str, datacenter: &Datacenter) -> Self {
        if subset.is_empty() {
            Self(format!("{service}.default.default.{datacenter}").into())
        } else {
            Self(format!("{subset}.{service}.default.default.{datacenter}").into())
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a proxy follows for calls to one service.
///
/// **Shape**: `start` and every `next` name a node in `nodes`; nodes form no cycle; every
/// resolver's target is in `targets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CompiledChain {
    /// The service called.
    pub service_name: ServiceName,
    /// The datacenter in which the chain was compiled.
    pub datacenter: Datacenter,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Where to begin.
    pub start_node: String,
    /// The nodes by name, `router:web`, `splitter:web`, `resolver:v1.web.default.default.dc1`.
    pub nodes: BTreeMap<String, ChainNode>,
    /// Where requests may end.
    pub targets: BTreeMap<TargetId, Target>,
    /// The rollouts that are under way along it: proxies are asked what they measure of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<ChainRollout>,
    /// Every entry that was looked up, also those that are absent: when one of them changes,
    /// the chain is compiled anew.
    pub reads: BTreeSet<EntryKey>,
}

/// Two versions of a service, of which one is to take the place of the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChainRollout {
    /// The service.
    pub service: ServiceName,
    /// The target that serves now.
    pub stable: TargetId,
    /// The target that is to take over.
    pub canary: TargetId,
}

/// One step of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum ChainNode {
    /// Ends at a target.
    Resolver(ResolverNode),
    /// Chooses by content.
    Router(RouterNode),
    /// Chooses by weight.
    Splitter(SplitterNode),
}

/// Ends at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResolverNode {
    /// The target.
    pub target: TargetId,
    /// Where to go when no instance of the target is healthy, in this order.
    #[serde(default)]
    pub failover: Vec<TargetId>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the head of an answer.
    pub request_timeout: Duration,
}

/// Chooses by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RouterNode {
    /// Tried in order; the last one takes everything.
    pub routes: Vec<ChainRoute>,
}

/// One route of a router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChainRoute {
    /// What it takes.
    #[serde(rename = "Match")]
    pub matches: HttpMatch,
    /// Server names of which a connection over TLS must have asked for one; empty for any.
    #[serde(rename = "SNI", default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<String>,
    /// What is done with the request on the way.
    pub action: RouteAction,
    /// The node that it leads to.
    pub next_node: String,
    /// The resolver that copies of its requests lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_node: Option<String>,
}

/// What a route does with a request on the way.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RouteAction {
    /// What the matched path prefix (or exact path) is replaced by.
    pub prefix_rewrite: Option<String>,
    /// What becomes of parts of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_rewrite: Option<PathRewrite>,
    /// The host that the service is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_rewrite: Option<String>,
    /// Where the caller is sent, in place of any node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RouteRedirect>,
    /// What the caller gets, in place of any node's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<RouteResponse>,
    /// What goes wrong on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<RouteFault>,
    /// Where copies of requests go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<RouteMirror>,
    /// How long to wait for the head of an answer; `None` means the resolver's.
    pub request_timeout: Option<Duration>,
    /// How long nothing may move on a request before it is ended; `None` means the proxy's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Changes to requests.
    #[serde(skip_serializing_if = "is_blank")]
    pub request_headers: HeaderChanges,
    /// Changes to answers.
    #[serde(skip_serializing_if = "is_blank")]
    pub response_headers: HeaderChanges,
    /// How long to wait for the head of an answer to one attempt; `None` means as long as to all.
    #[serde(skip_serializing_if = "is_blank")]
    pub per_try_timeout: Option<Duration>,
    /// When and how often a request is tried again.
    #[serde(skip_serializing_if = "is_blank")]
    pub retries: RetryPolicy,
}

/// Chooses by weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SplitterNode {
    /// The legs; their weights add up to [`Weight::FULL`].
    pub splits: Vec<ChainSplit>,
    /// By what the same leg is found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// One leg of a splitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChainSplit {
    /// Its share.
    pub weight: Weight,
    /// The node that it leads to.
    pub next_node: String,
    /// Changes to requests, in the order of the splitters that they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderChanges>,
    /// Changes to answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<HeaderChanges>,
}

/// Where requests may end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Target {
    /// The target's id.
    #[serde(rename = "ID")]
    pub id: TargetId,
    /// The service whose instances are meant.
    pub service: ServiceName,
    /// The subset of them; empty for all.
    #[serde(default)]
    pub service_subset: String,
    /// Their datacenter.
    pub datacenter: Datacenter,
    /// Which instances, as a filter expression over `Service` and `Node`; empty means all.
    #[serde(default)]
    pub filter: String,
    /// Whether instances with a warning are left out.
    #[serde(default)]
    pub only_passing: bool,
    /// The server name shown in TLS: `[subset.]service.default.dc.internal.<trust-domain>`.
    #[serde(rename = "SNI")]
    pub sni: String,
    /// Who must answer there.
    #[serde(rename = "SpiffeID")]
    pub spiffe_id: SpiffeId,
    /// Where it is, if it is outside the mesh; then no instance of the catalog is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<ServiceDestination>,
    /// How one of its instances is chosen; `None` as the proxy thinks best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<Box<LoadBalancer>>,
    /// Whether near instances come first.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub locality: LocalityMode,
    /// Over what its proxies are reached.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub transport: HopTransport,
}
