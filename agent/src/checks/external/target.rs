//! What is looked at from outside: a check's definition in the catalog, or a host itself.

use std::io::ErrorKind;
use std::time::Duration;

use weft_core::catalog::{CheckDefinition, CheckStatus, HealthCheckDefinition, Node};
use weft_core::health::CheckPolicy;
use weft_core::limits;
use weft_core::name::{CheckId, NodeName};
use weft_core::time::Span;
use weft_proto::text::Fault;
use weft_runtime::net;

use crate::checks::probe::{self, Finding, Tools};
use crate::config::ExternalChecks;
use crate::local::{CheckPlan, plan_of};

/// The check that says whether a host answers.
///
/// **Source**: Consul: its monitor of external services; programs know the check by this id.
const NODE_CHECK: &str = "externalNodeHealth";
/// How often a check without an interval runs.
const INTERVAL: Duration = Duration::from_secs(30);
/// What says in a node's metadata that the host itself is to be looked for, and at which port.
const PROBED: (&str, &str) = ("external-probe", "true");
const PORT: &str = "external-probe-port";
/// The port that is tried when none is named: that of echo, the oldest way to see whether somebody
/// is there. A refusal is as good an answer as any.
const PORT_DEFAULT: u16 = 7;
/// How long a host may take.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is looked at. Two that are equal are run alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// What a check says.
    Check(Box<HealthCheckDefinition>),
    /// The host itself.
    Node {
        /// An IP address, or a name.
        address: String,
        port: Option<u16>,
        interval: Duration,
    },
}

/// How a target is looked at, and what results come to.
pub(super) struct Plan {
    pub(super) probe: Looking,
    pub(super) policy: CheckPolicy,
}

/// How a target is looked at.
pub(super) enum Looking {
    /// As a check of this host would be.
    Check(Box<CheckPlan>),
    /// Not at all, for this reason.
    Impossible(String),
    /// By a connection to `host:port`, also a refused one.
    Node(String),
}

/// Returns the id of the check that says whether a host answers.
pub(super) fn node_check_id() -> CheckId {
    CheckId::parse(NODE_CHECK).expect("letters are a check id")
}

impl Target {
    /// Returns what a check says that is to be looked at; `None` when nothing from outside is. What
    /// others registered never runs a command here, nor asks this host's service manager.
    pub(super) fn of_check(definition: &HealthCheckDefinition) -> Option<Self> {
        let HealthCheckDefinition { http, tcp, udp, grpc, .. } = definition;
        let is_outside = [http, tcp, udp, grpc].into_iter().any(|address| !address.is_empty());
        is_outside.then(|| Self::Check(Box::new(definition.clone())))
    }

    /// Returns how a host is looked for; `None` when it is not marked for that.
    pub(super) fn of_node(node: &Node, interval: Duration) -> Option<Self> {
        let is_probed = node.meta.get(PROBED.0).is_some_and(|value| value == PROBED.1);
        let port = match node.meta.get(PORT) {
            None => Some(PORT_DEFAULT),
            Some(text) => text.parse().ok().filter(|port| *port > 0),
        };
        let address = node.address.clone();
        is_probed.then_some(Self::Node { address, port, interval })
    }

    /// Returns how it is run.
    pub(super) fn plan(
        &self,
        (node, id): &(NodeName, CheckId),
        is_eager: bool,
        settings: &ExternalChecks,
    ) -> Plan {
        let (probe, interval, deregister_after) = match self {
            Self::Check(told) => {
                let definition = definition_of(told, (node, id));
                let interval = definition.interval.map_or(INTERVAL, |span| span.0);
                let after = definition.deregister_critical_service_after.map(|span| span.0);
                let looking = match plan_of(&definition) {
                    Ok(plan) => Looking::Check(Box::new(plan)),
                    Err(faults) => Looking::Impossible(Fault::line(&faults)),
                };
                (looking, interval.max(limits::CHECK_INTERVAL_MIN), after)
            }
            Self::Node { address, port: Some(port), interval } => {
                let host = match address.contains(':') {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                };
                (Looking::Node(host), *interval, None)
            }
            Self::Node { port: None, interval, .. } => {
                let reason = format!("{PORT} in the node's metadata is no port");
                (Looking::Impossible(reason), *interval, None)
            }
        };
        let policy = CheckPolicy {
            // The runner knows how it stands.
            initial: CheckStatus::Critical,
            interval,
            success_before_passing: settings.passing_threshold,
            failures_before_warning: 0,
            failures_before_critical: settings.critical_threshold,
            deregister_after,
            output_bytes_max: limits::CHECK_OUTPUT_BYTES_MAX,
            is_eager,
        };
        Plan { probe, policy }
    }
}

/// The same, as a host's own check would say it.
fn definition_of(
    told: &HealthCheckDefinition,
    (node, id): (&NodeName, &CheckId),
) -> CheckDefinition {
    let span = |span: Span| (!span.0.is_zero()).then_some(span);
    CheckDefinition {
        check_id: id.to_string(),
        name: format!("{id} of {node}"),
        http: told.http.clone(),
        method: told.method.clone(),
        header: told.header.clone(),
        body: told.body.clone(),
        tcp: told.tcp.clone(),
        tcp_use_tls: told.tcp_use_tls,
        udp: told.udp.clone(),
        grpc: told.grpc.clone(),
        grpc_use_tls: told.grpc_use_tls,
        tls_server_name: told.tls_server_name.clone(),
        tls_skip_verify: told.tls_skip_verify,
        interval: Some(span(told.interval).unwrap_or(Span(INTERVAL))),
        timeout: span(told.timeout),
        deregister_critical_service_after: span(told.deregister_critical_service_after),
        ..CheckDefinition::default()
    }
}

impl Looking {
    /// Looks once.
    pub(super) async fn look(&self, tools: &Tools) -> Finding {
        match self {
            Self::Check(plan) => match probe::run(plan, tools).await {
                Some(finding) => finding,
                None => Finding::critical("this kind of check is not run from outside"),
            },
            Self::Impossible(reason) => Finding::critical(reason.clone()),
            Self::Node(address) => node(address).await,
        }
    }
}

/// A host that refuses a connection lives.
async fn node(address: &str) -> Finding {
    let tried =
        match tokio::time::timeout(NODE_TIMEOUT, net::connect_host(address, NODE_TIMEOUT)).await {
            Ok(tried) => tried.map(drop),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        };
    match tried {
        Ok(()) => Finding::passing("Node alive or reachable"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Finding::passing("Node alive or reachable")
        }
        Err(error) => Finding::critical(format!("Node not live or unreachable: {error}")),
    }
}
