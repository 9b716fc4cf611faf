//! The proxy's configuration: what a file may say, and what it comes to once checked.
//!
//! What the proxy does with traffic is not here: that comes from the agent as snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::config_entry::AccessLogs;
use weft_core::limits::SOCKET_PATH_BYTES_MAX;
use weft_core::log_format::PLAIN_LOG_FORMAT;
use weft_core::name::InstanceId;
use weft_core::proxycfg::ProxySnapshot;
use weft_core::time::Span;
use weft_proto::text::{AuditConfig, AuditSection, Fault};
use weft_runtime::cores::{self, LimitedBy};
use weft_runtime::digest;

use crate::handover::HandOver;
use crate::limits::{Limits, LimitsSection};
use crate::observe::Dialect;

/// Where the admin interface listens when nothing else is said (DESIGN: ports).
const ADMIN_ADDR_DEFAULT: &str = "127.0.0.1:19000";
/// How long requests in flight may take to end when the proxy stops: as long as the usual
/// request timeout of a route.
const DRAIN_LIMIT_DEFAULT: Duration = Duration::from_secs(15);
/// How long the first configuration may take to come: longer than an agent needs that starts at
/// the same time, shorter than service managers wait (systemd: 90 s).
pub const START_LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// An agent that is asked on the same host answers in less.
const START_LIMIT_MIN: Duration = Duration::from_secs(1);
/// A running proxy from which this one takes over waits ten minutes for it.
const START_LIMIT_MAX: Duration = Duration::from_secs(540);
/// How long connections may go on once another process has taken over: a day, as a process that
/// only carries some connections costs little, and what they carry may not be begun again easily.
const REPLACED_LIMIT_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// More worker threads than this share nothing but memory traffic.
const WORKERS_MAX: usize = 256;

/// A configuration file; each field left out takes its default.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileConfig {
    /// The id of the service instance whose sidecar this is.
    pub sidecar_for: Option<String>,
    /// The id of the sidecar's own registration, instead of `sidecar_for`.
    pub proxy_id: Option<String>,
    /// Whether this is the proxy of all services of the host, instead of one.
    pub host: bool,
    /// The agent's unix socket for proxies.
    pub agent_socket: Option<String>,
    /// A file with a snapshot (JSON, or the binary envelope) to follow instead of an agent.
    pub snapshot_file: Option<String>,
    /// `ip:port` of the admin interface; port 0 takes any free one.
    pub admin_addr: Option<String>,
    /// Worker threads; one for each core by default.
    pub workers: Option<u32>,
    /// How long the first configuration may take to come before the start fails.
    pub start_limit: Option<Span>,
    /// How long requests in flight may take to end when the proxy stops.
    pub drain_limit: Option<Span>,
    /// How long the proxy still takes connections once it says that it is not ready any more.
    pub drain_delay: Option<Span>,
    /// The folder of the socket over which a new process takes over; without it none can.
    pub runtime_dir: Option<String>,
    /// Whether to take over from a running proxy of the same service, if there is one.
    pub take_over: bool,
    /// How long connections may go on once another process has taken over.
    pub replaced_limit: Option<Span>,
    /// `off`, `text` or `json` (on the standard output), whatever the agent says; else as it says.
    pub access_log: Option<String>,
    /// `istio` and `envoy`: further names in which it is counted who calls whom.
    pub metric_dialects: Vec<String>,
    /// What one caller may take.
    pub limits: LimitsSection,
    /// `auto` or `off`: whether requests and connections share connections to other proxies.
    pub mux: Option<String>,
    /// `auto` or `off`: whether QUIC is spoken with other proxies.
    pub quic: Option<String>,
    /// Where it is written down who was refused.
    pub audit: AuditSection,
    /// Which share of those who are let in is written down there too, 0 to 1; 0 when left out.
    pub audit_allowed_share: Option<f64>,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where snapshots come from.
    pub source: SnapshotSource,
    /// Where the admin interface listens.
    pub admin_addr: SocketAddr,
    /// Worker threads.
    pub workers: Workers,
    /// How long the first configuration may take to come before the start fails.
    pub start_limit: Duration,
    /// How long requests in flight may take to end when the proxy stops.
    pub drain_limit: Duration,
    /// How long the proxy still takes connections once it says that it is not ready any more.
    pub drain_delay: Duration,
    /// How listeners are passed on to a new process; `None` for not at all.
    pub hand_over: Option<HandOver>,
    /// What one caller may take.
    pub limits: Limits,
    /// Whether and how requests are logged; `None` as the agent says.
    pub access_log: Option<AccessLogSetting>,
    /// Names beside our own in which it is counted who calls whom.
    pub metric_dialects: BTreeSet<Dialect>,
    /// Whether connections to and from other proxies are shared.
    pub mux: Sharing,
    /// Whether QUIC is spoken with other proxies.
    pub quic: Sharing,
    /// Where it is written down who was refused, and which share of the others; `None` for
    /// nowhere.
    pub audit: Option<(AuditConfig, f64)>,
}

/// How many worker threads there are, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workers {
    /// From 1 to 256.
    pub count: usize,
    /// In words.
    pub reason: &'static str,
}

/// Where snapshots come from.
#[derive(Debug, Clone)]
pub enum SnapshotSource {
    /// An agent, over its unix socket.
    Agent {
        /// The socket.
        socket: PathBuf,
        /// Whose proxy this is.
        workload: WorkloadId,
    },
    /// A file, read once.
    File(PathBuf),
    /// Given by the program that embeds the proxy; for tests and measurements.
    Given(tokio::sync::watch::Receiver<Arc<ProxySnapshot>>),
    /// The same for a host proxy, by the ids of the proxies' registrations.
    GivenMany(tokio::sync::watch::Receiver<Snapshots>),
    /// An agent, over its unix socket, for all services of the host.
    Host {
        /// The socket.
        socket: PathBuf,
    },
}

/// Snapshots by the ids of the proxies' registrations.
pub type Snapshots = BTreeMap<InstanceId, Arc<ProxySnapshot>>;

impl SnapshotSource {
    /// Whether it has the snapshots of many services.
    pub(crate) fn is_of_host(&self) -> bool {
        match self {
            Self::GivenMany(_) | Self::Host { .. } => true,
            Self::Agent { .. } | Self::File(_) | Self::Given(_) => false,
        }
    }
}

/// Whose proxy this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadId {
    /// The sidecar with this id of its own.
    Proxy(String),
    /// The sidecar of the instance with this id.
    SidecarFor(String),
}

/// Over what other proxies are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hops {
    pub(crate) mux: Sharing,
    pub(crate) quic: Sharing,
}

/// Whether many requests and connections share a connection between two proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// With whoever speaks it.
    Auto,
    /// With nobody.
    Off,
}

/// What is said on the host about access logs, whatever the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogSetting {
    /// One JSON object a line, on the standard output.
    Json,
    /// None.
    Off,
    /// One line for people, on the standard output.
    Text,
}

impl AccessLogSetting {
    /// Returns what is written instead of what the agent says.
    pub(crate) fn instead(self) -> Option<AccessLogs> {
        let text_format = match self {
            Self::Json => String::new(),
            Self::Off => return None,
            Self::Text => PLAIN_LOG_FORMAT.to_owned(),
        };
        Some(AccessLogs { enabled: true, text_format, ..AccessLogs::default() })
    }
}

impl Config {
    /// Checks a file's content and fills in what it leaves out.
    ///
    /// # Errors
    /// All faults at once.
    pub fn resolve(file: FileConfig) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |path: &str, reason: String| {
            faults.push(Fault { path: path.to_owned(), reason });
        };
        let source = source(&file, &mut fault);
        let admin = file.admin_addr.as_deref().unwrap_or(ADMIN_ADDR_DEFAULT);
        let admin_addr = match admin.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Some(address),
            Ok(_) => {
                let why = "is not on loopback: it shows whom this service calls, to anyone";
                fault("admin_addr", format!("{admin} {why}"));
                None
            }
            Err(_) => {
                fault("admin_addr", format!("{admin:?} is not an address; write ip:port"));
                None
            }
        };
        let workers = workers(file.workers, &mut fault);
        let access_log = access_log(file.access_log.as_deref(), &mut fault);
        let mut sharing = |path: &str, word: &Option<String>| match word.as_deref() {
            None | Some("auto") => Sharing::Auto,
            Some("off") => Sharing::Off,
            Some(other) => {
                fault(path, format!("{other:?} is not auto or off"));
                Sharing::Off
            }
        };
        let (mux, quic) = (sharing("mux", &file.mux), sharing("quic", &file.quic));
        let metric_dialects = dialects(&file.metric_dialects, &mut faults);
        let limits = file.limits.resolve(&mut faults);
        let audit = audit(&file, &mut faults);
        let drain_limit = file.drain_limit.map_or(DRAIN_LIMIT_DEFAULT, |limit| limit.0);
        let drain_delay = file.drain_delay.map_or(Duration::ZERO, |delay| delay.0);
        let start_limit = file.start_limit.map_or(START_LIMIT_DEFAULT, |limit| limit.0);
        if !(START_LIMIT_MIN..=START_LIMIT_MAX).contains(&start_limit) {
            let reason = format!("{start_limit:?} is not from 1s to 9m");
            faults.push(Fault::new("start_limit", reason));
        }
        let hand_over = match &source {
            Some(source) => hand_over(&file, source, &mut faults),
            None => None,
        };
        match (source, admin_addr, faults.is_empty()) {
            (Some(source), Some(admin_addr), true) => Ok(Self {
                source,
                admin_addr,
                workers,
                start_limit,
                drain_limit,
                drain_delay,
                hand_over,
                limits,
                access_log,
                metric_dialects,
                mux,
                quic,
                audit,
            }),
            _ => Err(faults),
        }
    }
}

fn workers(asked: Option<u32>, fault: &mut impl FnMut(&str, String)) -> Workers {
    let workers = match asked {
        None => {
            let cores = cores::usable();
            let reason = match cores.limited_by {
                LimitedBy::Affinity => "one for each core that this process may use",
                LimitedBy::Cgroup => "one for each core that the control group allows, rounded up",
            };
            Workers { count: cores.count.min(WORKERS_MAX), reason }
        }
        Some(count) => Workers { count: count as usize, reason: "as configured" },
    };
    if !(1..=WORKERS_MAX).contains(&workers.count) {
        fault("workers", format!("{} is not from 1 to {WORKERS_MAX}", workers.count));
    }
    workers
}

fn access_log(
    word: Option<&str>,
    fault: &mut impl FnMut(&str, String),
) -> Option<AccessLogSetting> {
    match word {
        None => None,
        Some("off") => Some(AccessLogSetting::Off),
        Some("json") => Some(AccessLogSetting::Json),
        Some("text") => Some(AccessLogSetting::Text),
        Some(other) => {
            fault("access_log", format!("{other:?} is not off, text or json"));
            None
        }
    }
}

fn dialects(words: &[String], faults: &mut Vec<Fault>) -> BTreeSet<Dialect> {
    let mut dialects = BTreeSet::new();
    for word in words {
        match word.as_str() {
            "envoy" => drop(dialects.insert(Dialect::Envoy)),
            "istio" => drop(dialects.insert(Dialect::Istio)),
            other => {
                let reason = format!("{other:?} is neither istio nor envoy");
                faults.push(Fault::new("metric_dialects", reason));
            }
        }
    }
    dialects
}

/// Names the socket after the source, so that the proxies of a host do not meet, and a proxy
/// finds the one before.
fn hand_over(
    file: &FileConfig,
    source: &SnapshotSource,
    faults: &mut Vec<Fault>,
) -> Option<HandOver> {
    let Some(folder) = &file.runtime_dir else {
        if file.take_over {
            faults.push(Fault::new("take_over", "needs a runtime_dir".to_owned()));
        }
        return None;
    };
    let of = match source {
        SnapshotSource::Agent { socket, workload } => format!("{workload:?} {}", socket.display()),
        SnapshotSource::File(path) => format!("file {}", path.display()),
        SnapshotSource::Host { socket } => format!("host {}", socket.display()),
        SnapshotSource::Given(_) | SnapshotSource::GivenMany(_) => return None,
    };
    let digest = digest::of_bytes(of.as_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let socket = PathBuf::from(folder).join(format!("proxy-{name}.sock"));
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let reason = format!("is so long that {} is no path of a socket", socket.display());
        faults.push(Fault::new("runtime_dir", reason));
    }
    let limit = file.replaced_limit.map_or(REPLACED_LIMIT_DEFAULT, |limit| limit.0);
    Some(HandOver { socket, takes_over: file.take_over, limit })
}

fn audit(file: &FileConfig, faults: &mut Vec<Fault>) -> Option<(AuditConfig, f64)> {
    let audit = file.audit.resolve(faults);
    let share = file.audit_allowed_share.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&share) {
        let reason = format!("{share} is not from 0 to 1");
        faults.push(Fault::new("audit_allowed_share", reason));
    }
    if audit.as_ref().is_some_and(|audit| audit.is_enforced) {
        let reason = "a proxy does not wait for a disk; write best-effort";
        faults.push(Fault::new("audit.delivery_guarantee", reason));
    }
    Some((audit?, share))
}

fn source(file: &FileConfig, fault: &mut impl FnMut(&str, String)) -> Option<SnapshotSource> {
    let workload = match (&file.sidecar_for, &file.proxy_id) {
        (Some(id), None) => Some(WorkloadId::SidecarFor(id.clone())),
        (None, Some(id)) => Some(WorkloadId::Proxy(id.clone())),
        (None, None) => None,
        (Some(_), Some(_)) => {
            fault("proxy_id", "give sidecar_for or proxy_id, not both".to_owned());
            return None;
        }
    };
    if file.host && workload.is_some() {
        let named = if file.proxy_id.is_some() { "proxy_id" } else { "sidecar_for" };
        fault("host", format!("is for all services of the host; leave {named} out"));
        return None;
    }
    let is_named = file.host || workload.is_some();
    match (&file.snapshot_file, workload, &file.agent_socket) {
        (Some(path), None, None) if !is_named => Some(SnapshotSource::File(path.into())),
        (Some(_), _, _) => {
            fault("snapshot_file", "stands instead of an agent, not beside it".to_owned());
            None
        }
        (None, None, Some(socket)) if file.host => {
            Some(SnapshotSource::Host { socket: socket.into() })
        }
        (None, Some(workload), Some(socket)) => {
            Some(SnapshotSource::Agent { socket: socket.into(), workload })
        }
        (None, _, None) if is_named => {
            fault("agent_socket", "name the agent's unix socket for proxies".to_owned());
            None
        }
        (None, _, _) => {
            let reason = "name the service instance whose sidecar this is, or say host = true";
            fault("sidecar_for", reason.to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_stand_and_all_faults_are_told() {
        let file = FileConfig {
            sidecar_for: Some("web".into()),
            agent_socket: Some("/run/weft/proxy.sock".into()),
            ..FileConfig::default()
        };
        let config = Config::resolve(file).expect("a configuration");
        assert_eq!(config.admin_addr.to_string(), ADMIN_ADDR_DEFAULT);
        assert_eq!(config.access_log, None);
        let open = FileConfig {
            snapshot_file: Some("snapshot".into()),
            admin_addr: Some("0.0.0.0:19000".into()),
            ..FileConfig::default()
        };
        let faults = Config::resolve(open).expect_err("a fault");
        assert!(faults[0].reason.contains("loopback"), "{faults:?}");
        let file = FileConfig {
            admin_addr: Some("here".into()),
            workers: Some(0),
            access_log: Some("xml".into()),
            mux: Some("on".into()),
            quic: Some("h3".into()),
            ..FileConfig::default()
        };
        let faults = Config::resolve(file).expect_err("six faults");
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["sidecar_for", "admin_addr", "workers", "access_log", "mux", "quic"]);
    }
}
