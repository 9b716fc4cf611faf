//! Config entries: what operators write to shape traffic and authorisation.
//!
//! One file per kind, with the record and the checks that concern that entry alone. What
//! several entries mean together is compiled by `chain` and judged by `intention`.

mod access_logs;
mod api_gateway;
pub(crate) mod blank;
mod certificates;
mod collector;
mod destination_tls;
mod exported_services;
mod expose;
mod ext_authz;
mod failover;
mod fault;
mod findings;
mod forwarded_headers;
mod gateway_tls;
mod grpc_match;
mod header_changes;
mod header_match;
mod http_route;
mod ingress_gateway;
mod intention_jwt;
mod intention_permission;
mod jwt_provider;
mod kind;
mod leads;
mod load_balancer;
mod load_limits;
mod mesh;
mod mesh_transport;
mod mirror;
mod path_rewrite;
mod proxy_defaults;
mod rate_limits;
mod request_conditions;
mod resource_reference;
mod retry;
mod rollout;
mod rollout_status;
mod route_answer;
mod service_defaults;
mod service_intentions;
mod service_resolver;
mod service_router;
mod service_splitter;
mod standing;
mod sticky;
mod tcp_route;
mod terminating_gateway;
#[cfg(test)]
mod tests;
mod tracing;
mod upstream_config;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use access_logs::{AccessLogFilter, AccessLogType, AccessLogs};
pub use api_gateway::{ApiGateway, ApiListener, ApiListenerProtocol, ApiListenerTls};
pub use certificates::{FileSystemCertificate, InlineCertificate, SecretText};
pub use collector::{Collector, CollectorProtocol};
pub use destination_tls::{DestinationTls, DestinationTlsMode};
pub use exported_services::{ExportedService, ExportedServices, ServiceConsumer};
pub use expose::{
    Expose, ExposedPath, MeshGateway, MeshGatewayMode, MutualTlsMode, ProxyMode, TransparentProxy,
};
pub use ext_authz::{
    EnvoyExtension, ExtAuthzArguments, ExtAuthzBody, ExtAuthzConfig, ExtAuthzGrpc, ExtAuthzHeader,
    ExtAuthzHttp, ExtAuthzMatch, ExtAuthzRequest, ExtAuthzResponse, ExtAuthzService,
    ExtAuthzTarget,
};
pub use failover::{
    FailoverMode, FailoverPolicy, FailoverTarget, LocalityMode, PrioritizeByLocality,
    ResolverFailover,
};
pub use fault::{FaultAbort, FaultDelay, FaultRateLimit, RouteFault};
pub use forwarded_headers::{ClientCertDetails, ForwardClientCert, ForwardedHeaders};
pub use gateway_tls::{GatewaySds, GatewayTls, TlsDirection, TlsVersion};
pub use grpc_match::GrpcMatch;
pub(crate) use grpc_match::template_regex;
pub use header_changes::HeaderChanges;
pub use header_match::{HeaderMatch, QueryMatch};
pub use http_route::{
    HttpRoute, HttpRouteFilters, HttpRouteMatch, HttpRouteResponseFilters, HttpRouteRule,
    HttpRouteService, MatchHow, NamedMatch, PathMatch, TimeoutFilter, UrlRewrite,
};
pub use ingress_gateway::{
    IngressGateway, IngressLimits, IngressListener, IngressService, IngressServiceTls,
};
pub use intention_jwt::{IntentionJwt, IntentionJwtProvider, JwtClaim};
pub use intention_permission::{IntentionHttp, IntentionPermission};
pub use jwt_provider::{
    JwksCluster, JwksDiscovery, JwksPauses, JwksProviderInstance, JwksRetries, JwksTrust,
    JwksTrustedCa, JwtCache, JwtClaimHeader, JwtForwarding, JwtHeader, JwtKeySet, JwtLocalKeys,
    JwtLocation, JwtNamed, JwtProvider, JwtRemoteKeys,
};
pub use kind::{EntryKey, EntryKind, UnknownKind};
pub use load_balancer::{
    BalancePolicy, BalanceSubset, CookieConfig, HashField, HashPolicy, LeastRequestConfig,
    LoadBalancer, RingHashConfig, SlowStart,
};
pub use load_limits::{AdaptiveConcurrency, LoadLimits, RequestPriority};
pub use mesh::{
    EscapedSlashesAction, IntentionPrecedence, Mesh, MeshHttp, MeshHttpIncoming, MeshPeering,
    MeshTls, MeshTransparentProxy, RequestNormalization, UnderscoresAction,
};
pub use mesh_transport::{CongestionControl, HopTransport, MeshTransport};
pub use mirror::RouteMirror;
pub use path_rewrite::PathRewrite;
pub use proxy_defaults::ProxyDefaults;
pub use rate_limits::{
    InstanceRateLimits, RateLimitBucket, RateLimitKey, RateLimits, RouteRateLimit,
};
pub use resource_reference::ResourceReference;
pub use retry::RetryPolicy;
pub use rollout::{Rollout, RolloutGates, RolloutShare, RolloutStep, RolloutWebhook, WebhookTime};
pub use rollout_status::{RolloutMeasure, RolloutPhase, RolloutStatus};
pub use route_answer::{RouteRedirect, RouteResponse};
pub use service_defaults::{
    Protocol, ProxyProtocol, ServiceDefaults, ServiceDestination, UnknownProtocol,
};
pub use service_intentions::{
    IntentionAction, IntentionSource, ServiceIntentions, SourceName, precedence,
};
pub use service_resolver::{ResolverRedirect, ResolverSubset, ServiceResolver};
pub use service_router::{
    HttpMatch, RouteDestination, RouteMatch, ServiceRoute, ServiceRouter, TlsMatch,
};
pub use service_splitter::{ServiceSplit, ServiceSplitter, Weight};
pub use standing::{KindStanding, standing_table};
pub use sticky::{Sticky, StickyCookie};
pub use tcp_route::{TcpRoute, TcpRouteService};
pub use terminating_gateway::{LinkedService, TerminatingGateway};
pub use tracing::{TraceHeaders, Tracing};
pub use upstream_config::{
    BalanceConnections, PassiveHealthCheck, UpstreamConfig, UpstreamConfigs, UpstreamLimits,
};

use crate::index::Index;
use crate::name::InvalidName;

/// Writes the enum of all entries, and what is the same for each kind.
macro_rules! config_entries {
    ($($(#[$doc:meta])* $kind:ident as $as:ident $as_doc:literal;)*) => {
        /// Any config entry.
        ///
        /// **Source**: Consul: docs/connect/config-entries. `Kind` is the tag in the public JSON.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "Kind", rename_all = "kebab-case")]
        pub enum ConfigEntry {
            $($(#[$doc])* $kind($kind),)*
        }

        impl ConfigEntry {
    /// Returns whether proxies take connections without mutual TLS, where an entry speaks of that.
    pub fn mutual_tls_mode(&self) -> MutualTlsMode {
        let of_service = self.as_service_defaults().map(|entry| entry.mutual_tls_mode);
        let of_all = self.as_proxy_defaults().map(|entry| entry.mutual_tls_mode);
        of_service.or(of_all).unwrap_or_default()
    }

            /// Checks what concerns the entry alone and brings it into the form that is stored:
            /// words in their usual case, sources by precedence, defaults that were written out
            /// left out.
            ///
            /// # Errors
            /// Everything found wrong, by field.
            pub fn normalise(self) -> Result<Self, Vec<InvalidEntry>> {
                Ok(match self {
                    $(Self::$kind(entry) => Self::$kind(entry.normalise()?),)*
                })
            }

            /// Returns the entry's kind.
            pub fn kind(&self) -> EntryKind {
                match self {
                    $(Self::$kind(_) => EntryKind::$kind,)*
                }
            }

            /// Returns the entry's name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind(entry) => entry.name.as_ref(),)*
                }
            }

            /// Returns when the entry was created and last changed.
            pub fn indexes(&self) -> (Index, Index) {
                match self {
                    $(Self::$kind(entry) => (entry.create_index, entry.modify_index),)*
                }
            }

            /// Returns the entry with the given indexes.
            pub fn with_indexes(mut self, create: Index, modify: Index) -> Self {
                let (create_index, modify_index) = match &mut self {
                    $(Self::$kind(entry) => (&mut entry.create_index, &mut entry.modify_index),)*
                };
                (*create_index, *modify_index) = (create, modify);
                self
            }

            $(
                #[doc = $as_doc]
                pub fn $as(&self) -> Option<&$kind> {
                    if let Self::$kind(entry) = self { Some(entry) } else { None }
                }
            )*
        }
    };
}

config_entries! {
    /// Where requests from outside come in.
    ApiGateway as as_api_gateway "Returns the entry if it is an API gateway.";
    /// What other clusters may see.
    ExportedServices as as_exported_services "Returns the entry if it is a list of exported services.";
    /// A certificate in files on a gateway's host.
    FileSystemCertificate as as_file_system_certificate "Returns the entry if it is a certificate in files.";
    /// Which requests of an API gateway go where.
    HttpRoute as as_http_route "Returns the entry if it is a route of requests.";
    /// Services that are reached from outside.
    IngressGateway as as_ingress_gateway "Returns the entry if it is an ingress gateway.";
    /// A certificate that the servers keep.
    InlineCertificate as as_inline_certificate "Returns the entry if it is a certificate.";
    /// Who issues the tokens that requests carry.
    JwtProvider as as_jwt_provider "Returns the entry if it is an issuer of tokens.";
    /// Settings of the whole mesh.
    Mesh as as_mesh "Returns the entry if it is settings of the mesh.";
    /// Defaults of all proxies.
    ProxyDefaults as as_proxy_defaults "Returns the entry if it is defaults of all proxies.";
    /// How a new version of a service takes over.
    Rollout as as_rollout "Returns the entry if it is a rollout.";
    /// Defaults of one service.
    ServiceDefaults as as_service_defaults "Returns the entry if it is defaults of a service.";
    /// Who may call one service.
    ServiceIntentions as as_service_intentions "Returns the entry if it is intentions.";
    /// What the instances of one service are, and where else to look for it.
    ServiceResolver as as_service_resolver "Returns the entry if it is a resolver.";
    /// Where requests to one service go by their content.
    ServiceRouter as as_service_router "Returns the entry if it is a router.";
    /// Where requests to one service go by weight.
    ServiceSplitter as as_service_splitter "Returns the entry if it is a splitter.";
    /// To which service connections of an API gateway go.
    TcpRoute as as_tcp_route "Returns the entry if it is a route of connections.";
    /// Services outside the mesh, reached through a gateway.
    TerminatingGateway as as_terminating_gateway "Returns the entry if it is a terminating gateway.";
}

/// States what is wrong with one config entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// A field has a value that it must not have.
    #[error("{field}: {reason}")]
    Field {
        /// The field's path, e.g. `Splits[0].Weight`.
        field: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// The entry's name is not a name.
    #[error("Name: {0}")]
    Name(#[from] InvalidName),
}

impl InvalidEntry {
    /// Makes an error about one field.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }
}

impl ConfigEntry {
    /// Returns what the entry is found by.
    pub fn key(&self) -> EntryKey {
        EntryKey { kind: self.kind(), name: self.name().into() }
    }

    /// Returns the entry as it may be shown: without the key of a certificate.
    pub fn shown(self: &Arc<Self>) -> Arc<Self> {
        match self.as_inline_certificate() {
            Some(entry) => {
                let private_key = SecretText::default();
                let entry = InlineCertificate { private_key, ..entry.clone() };
                Arc::new(Self::InlineCertificate(entry))
            }
            None => self.clone(),
        }
    }
}
