//! The server's configuration: what a file can say, and what it comes to.

mod acl;
mod bounds;
mod http;
mod storage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::config_entry::IntentionAction;
use weft_core::lease::LeaseTimes;
use weft_core::limits;
use weft_core::name::{Datacenter, NodeName};
use weft_core::time::Span;
use weft_proto::join_token::JoinToken;
use weft_proto::text::{AuditConfig, AuditSection, Fault, HttpsSection};

pub use acl::{AclConfig, AclSection, AclTokensSection};
pub use bounds::{Limits, LimitsSection};
pub use http::{HttpConfig, HttpSection};
pub use storage::{StorageConfig, StorageSection};

/// What a configuration file can say; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileConfig {
    /// Where the server keeps its state. Needed.
    pub data_dir: Option<PathBuf>,
    /// The name of this host; the system's host name when left out.
    pub node_name: Option<String>,
    /// The datacenter; `dc1` when left out. Fixed once the cluster exists.
    pub datacenter: Option<String>,
    /// Where the RPC door listens, `ip:port`; `0.0.0.0:8300` when left out.
    pub bind_addr: Option<String>,
    /// Where others reach the RPC door, `host:port`; the bound address when left out.
    pub advertise_addr: Option<String>,
    /// How long certificates of services live; 24 h when left out, at least a minute.
    pub leaf_lifetime: Option<Span>,
    /// What is done with a call that no intention speaks of: `allow` or `deny`; `deny` when left
    /// out.
    pub default_intention_policy: Option<String>,
    /// Where metrics are served over plain HTTP, `ip:port` on loopback; nowhere when left out.
    pub telemetry_addr: Option<String>,
    /// Who may do what over the HTTP API.
    pub acl: AclSection,
    /// The HTTP API without TLS, for callers on this host.
    pub http: HttpSection,
    /// The HTTP API with TLS.
    pub https: HttpsSection,
    /// Where writes and refusals of the API are written down.
    pub audit: AuditSection,
    /// Within this time after its death a host leaves the answers, 3s to 10m; 10 s when left out.
    pub node_lease: Option<Span>,
    /// How long a host that failed stays in the catalog, an hour or more; 72 h when left out.
    pub reconnect_timeout: Option<Span>,
    /// Bounds.
    pub limits: LimitsSection,
    /// Log and snapshots.
    pub storage: StorageSection,
    /// Whether this server only reads: it has no vote for good, and serves stale reads and
    /// watches; `false` when left out.
    pub read_replica: bool,
    /// A join token for the role of a server: joins that cluster instead of founding one.
    pub join: Option<String>,
    /// A file with such a token, instead of `join`.
    pub join_token_file: Option<PathBuf>,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the server keeps its state.
    pub data_dir: PathBuf,
    /// The name of this host.
    pub node_name: NodeName,
    /// The datacenter; `None` means that of the cluster, and dc1 for a new one.
    pub datacenter: Option<Datacenter>,
    /// Where the RPC door listens; port 0 takes a free one.
    pub bind_addr: SocketAddr,
    /// Where others reach it; `None` means the bound address.
    pub advertise_addr: Option<String>,
    /// How long certificates of services live.
    pub leaf_lifetime: Duration,
    /// What is done with a call that no intention speaks of.
    pub default_intention: IntentionAction,
    /// Where metrics are served.
    pub telemetry_addr: Option<SocketAddr>,
    /// Who may do what over the HTTP API.
    pub acl: AclConfig,
    /// The doors of the HTTP API.
    pub http: HttpConfig,
    /// Where writes and refusals of the API are written down; `None` for nowhere.
    pub audit: Option<AuditConfig>,
    /// When hosts count as failed.
    pub lease: LeaseTimes,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// Log and snapshots.
    pub storage: StorageConfig,
    /// Whether this server only reads.
    pub read_replica: bool,
    /// The cluster to join, when this server has none yet.
    pub join: Option<JoinToken>,
}

impl Config {
    /// Checks what files and flags say, and fills in the rest.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn resolve(file: FileConfig) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let data_dir = file.data_dir.filter(|dir| !dir.as_os_str().is_empty());
        if data_dir.is_none() {
            faults.push(Fault::new("data_dir", "say where the server keeps its state"));
        }
        let node_name = file.node_name.or_else(host_name).unwrap_or_default();
        let node_name = checked("node_name", NodeName::parse(&node_name), &mut faults);
        let datacenter = file
            .datacenter
            .and_then(|name| checked("datacenter", Datacenter::parse(&name), &mut faults));
        let bind_addr = file.bind_addr.as_deref().unwrap_or("0.0.0.0:8300");
        let bind_addr = socket_addr("bind_addr", bind_addr, &mut faults);
        if let Some(address) = &file.advertise_addr
            && !is_host_port(address)
        {
            faults.push(Fault::new("advertise_addr", "write host:port, such as 10.0.0.1:8300"));
        }
        if file.advertise_addr.is_none() && bind_addr.is_some_and(|at| at.ip().is_unspecified()) {
            let reason = "write host:port under which others reach this server: bind_addr \
                          listens on every address";
            faults.push(Fault::new("advertise_addr", reason));
        }
        let leaf_lifetime = file.leaf_lifetime.map_or(limits::LEAF_LIFETIME_DEFAULT, |it| it.0);
        let lease = lease(file.node_lease, file.reconnect_timeout, &mut faults);
        if leaf_lifetime < limits::LEAF_LIFETIME_MIN {
            let least = Span(limits::LEAF_LIFETIME_MIN);
            faults.push(Fault::new("leaf_lifetime", format!("write {least} or more")));
        }
        let default_intention = match file.default_intention_policy.as_deref() {
            None | Some("deny") => IntentionAction::Deny,
            Some("allow") => IntentionAction::Allow,
            Some(other) => {
                let reason = format!("{other:?} is neither allow nor deny");
                faults.push(Fault::new("default_intention_policy", reason));
                IntentionAction::Deny
            }
        };
        let telemetry_addr = telemetry_addr(file.telemetry_addr, &mut faults);
        let acl = acl::resolve(file.acl, &mut faults);
        let http = http::resolve(file.http, file.https, &file.limits, &mut faults);
        let audit = file.audit.resolve(&mut faults);
        let limits = file.limits.resolve(&mut faults);
        let storage = storage::resolve(&file.storage, &mut faults);
        let join = join_token(file.join, file.join_token_file, &mut faults);
        match (data_dir, node_name, bind_addr) {
            (Some(data_dir), Some(node_name), Some(bind_addr)) if faults.is_empty() => Ok(Self {
                data_dir,
                node_name,
                datacenter,
                bind_addr,
                advertise_addr: file.advertise_addr,
                leaf_lifetime,
                lease,
                default_intention,
                telemetry_addr,
                acl,
                read_replica: file.read_replica,
                http,
                audit,
                limits,
                storage,
                join,
            }),
            _ => Err(faults),
        }
    }
}

fn checked<T, E: std::fmt::Display>(
    field: &str,
    parsed: Result<T, E>,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    parsed.map_err(|error| faults.push(Fault::new(field, error.to_string()))).ok()
}

fn telemetry_addr(text: Option<String>, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
    let address = text.and_then(|text| socket_addr("telemetry_addr", &text, faults));
    if address.is_some_and(|at| !at.ip().is_loopback()) {
        let reason = "metrics are served without TLS; use a loopback address";
        faults.push(Fault::new("telemetry_addr", reason));
    }
    address
}

fn socket_addr(field: &str, text: &str, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
    let parsed = text.parse().map_err(|_| format!("{text:?} is not ip:port"));
    checked(field, parsed, faults)
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn join_token(
    text: Option<String>,
    path: Option<PathBuf>,
    faults: &mut Vec<Fault>,
) -> Option<JoinToken> {
    let (field, text) = match (text, path) {
        (None, None) => return None,
        (Some(text), None) => ("join", text),
        (None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(text) => ("join_token_file", text),
            Err(error) => {
                let reason = format!("cannot read {path:?}: {error}");
                faults.push(Fault::new("join_token_file", reason));
                return None;
            }
        },
        (Some(_), Some(_)) => {
            faults.push(Fault::new("join", "say either join or join_token_file, not both"));
            return None;
        }
    };
    checked(field, text.parse::<JoinToken>(), faults)
}

/// A failed host that is forgotten sooner than this would take its registrations with it over a
/// short repair.
const RECONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(3600);

fn lease(whole: Option<Span>, reap: Option<Span>, faults: &mut Vec<Fault>) -> LeaseTimes {
    let whole = whole.map_or(LeaseTimes::WHOLE_DEFAULT, |span| span.0);
    let (least, most) = (LeaseTimes::WHOLE_MIN, LeaseTimes::WHOLE_MAX);
    if !(least..=most).contains(&whole) {
        let reason = format!("write {} to {}", Span(least), Span(most));
        faults.push(Fault::new("node_lease", reason));
    }
    let reap = reap.map_or(LeaseTimes::REAP_DEFAULT, |span| span.0);
    if reap < RECONNECT_TIMEOUT_MIN {
        let reason = format!("write {} or more", Span(RECONNECT_TIMEOUT_MIN));
        faults.push(Fault::new("reconnect_timeout", reason));
    }
    LeaseTimes::new(whole, reap)
}

/// The system's name without its domain.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    name.trim().split('.').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> FileConfig {
        FileConfig {
            data_dir: Some("/var/lib/weft".into()),
            node_name: Some("s1".to_owned()),
            bind_addr: Some("127.0.0.1:0".to_owned()),
            ..FileConfig::default()
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = Config::resolve(good()).expect("enough");
        assert_eq!(config.datacenter, None);
        assert_eq!(config.default_intention, IntentionAction::Deny);
        assert_eq!(config.leaf_lifetime, Duration::from_secs(24 * 3600));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let file = FileConfig {
            data_dir: None,
            node_name: Some("a b".to_owned()),
            datacenter: Some("DC1".to_owned()),
            bind_addr: Some("localhost".to_owned()),
            advertise_addr: Some("nowhere".to_owned()),
            leaf_lifetime: Some(Span::seconds(5)),
            default_intention_policy: Some("maybe".to_owned()),
            telemetry_addr: Some("0.0.0.0:9102".to_owned()),
            acl: AclSection {
                default_policy: Some("maybe".to_owned()),
                tokens: AclTokensSection { initial_management_file: Some("/none".into()) },
                ..AclSection::default()
            },
            read_replica: false,
            http: HttpSection { addr: Some("0.0.0.0:8500".to_owned()), ..Default::default() },
            https: HttpsSection::default(),
            audit: AuditSection::default(),
            node_lease: Some(Span::seconds(1)),
            reconnect_timeout: Some(Span::seconds(60)),
            limits: LimitsSection {
                kv_max_value_size: Some(0),
                session_ttl_min: Some(Span::seconds(0)),
                txn_max_ops: Some(0),
                txn_max_req_len: Some(0),
                ..LimitsSection::default()
            },
            storage: StorageSection { snapshot_entries: Some(1), ..StorageSection::default() },
            join: Some("abc".to_owned()),
            join_token_file: None,
        };
        let faults = Config::resolve(file).expect_err("every field is wrong");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "data_dir",
                "node_name",
                "datacenter",
                "bind_addr",
                "advertise_addr",
                "node_lease",
                "reconnect_timeout",
                "leaf_lifetime",
                "default_intention_policy",
                "telemetry_addr",
                "acl.default_policy",
                "acl.tokens.initial_management_file",
                "http.addr",
                "limits.kv_max_value_size",
                "limits.session_ttl_min",
                "limits.txn_max_ops",
                "limits.txn_max_req_len",
                "storage.snapshot_entries",
                "join",
            ]
        );
    }

    #[test]
    fn a_server_on_every_address_must_say_where_it_is_reached() {
        let file = FileConfig { bind_addr: None, ..good() };
        let faults = Config::resolve(file).expect_err("no advertise address");
        assert_eq!(faults[0].path, "advertise_addr");
    }
}
