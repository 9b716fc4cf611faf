//! The `workload_api` section: SPIFFE's Workload API on a unix socket.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_core::attestation::{Entry, Selectors};
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_proto::text::Fault;

use super::resolve::{absolute, check_socket_path, take};

/// The `workload_api` section; nothing is served without it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadApiSection {
    /// The path of the unix socket. Everyone may connect to it: the entries say who gets what.
    pub socket: Option<String>,
    /// Which processes speak for which service.
    pub entry: Vec<WorkloadEntrySection>,
}

/// An `entry` of the section. A process must meet all that is given.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadEntrySection {
    /// The service whose certificate the processes get.
    pub service: Option<String>,
    /// Their user, by number.
    pub uid: Option<u32>,
    /// Their group, by number; further groups do not count.
    pub gid: Option<u32>,
    /// Their unit of the system's systemd, such as `web.service`.
    pub unit: Option<String>,
    /// Their control group or one above it, as in `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
    /// Their pod, by its UID as Kubernetes shows it.
    pub pod: Option<String>,
}

/// Where certificates are given to processes of this host, and to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadApiConfig {
    /// The unix socket.
    pub socket: PathBuf,
    /// Who speaks for what.
    pub entries: Vec<Entry>,
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(
    section: &WorkloadApiSection,
    faults: &mut Vec<Fault>,
) -> Option<WorkloadApiConfig> {
    let Some(socket) = section.socket.as_deref().filter(|path| !path.is_empty()) else {
        if !section.entry.is_empty() {
            let reason = "say where certificates are given, the path of a unix socket";
            faults.push(Fault::new("workload_api.socket", reason));
        }
        return None;
    };
    let socket = absolute(socket);
    check_socket_path("workload_api.socket", &socket, faults);
    let (count, max) = (section.entry.len(), limits::WORKLOAD_ENTRIES_MAX);
    if count == 0 {
        faults.push(Fault::new("workload_api.entry", "nobody gets a certificate without one"));
    }
    if count > max {
        faults.push(Fault::new("workload_api.entry", format!("{count} are more than {max}")));
    }
    let numbered = section.entry.iter().enumerate();
    let entries = numbered.filter_map(|(at, written)| entry(at, written, faults)).collect();
    Some(WorkloadApiConfig { socket, entries })
}

fn entry(at: usize, written: &WorkloadEntrySection, faults: &mut Vec<Fault>) -> Option<Entry> {
    let place = format!("workload_api.entry[{at}]");
    let service = written.service.as_deref().unwrap_or_default();
    let service = take(faults, &format!("{place}.service"), ServiceName::parse(service));
    let WorkloadEntrySection { service: _, uid, gid, unit, cgroup, pod } = written.clone();
    take(faults, &place, Entry::new(service?, Selectors { uid, gid, unit, cgroup, pod }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Option<WorkloadApiConfig>, Vec<String>) {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct File {
            workload_api: WorkloadApiSection,
        }
        let value = weft_proto::text::parse("agent.hcl", text).expect("HCL");
        let file: File =
            weft_proto::text::decode(&value, weft_proto::json::Unknown::Refuse).expect("fields");
        let mut faults = Vec::new();
        let config = resolve(&file.workload_api, &mut faults);
        (config, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn nothing_is_served_unless_it_is_asked_for() {
        assert_eq!(check(""), (None, Vec::new()));
        assert_eq!(check("workload_api {}"), (None, Vec::new()));
    }

    #[test]
    fn one_entry_or_several_are_blocks() {
        let one = "entry {\n service = \"web\"\n uid = 7\n unit = \"web.service\"\n }";
        let other = "entry {\n service = \"db\"\n gid = 8\n cgroup = \"/a/b\"\n }";
        for (entries, services) in
            [(one.to_owned(), vec!["web"]), (format!("{one}\n{other}"), vec!["web", "db"])]
        {
            let text = format!("workload_api {{\n socket = \"/run/w.sock\"\n {entries}\n}}");
            let (config, faults) = check(&text);
            assert_eq!(faults, [""; 0]);
            let config = config.expect("it is asked for");
            assert_eq!(config.socket, PathBuf::from("/run/w.sock"));
            let found: Vec<&str> = config.entries.iter().map(|it| it.service().as_str()).collect();
            assert_eq!(found, services);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        let long = "/x".repeat(60);
        for (text, fields) in [
            ("entry { service = \"web\" }", &["workload_api.socket"][..]),
            ("socket = \"/s\"", &["workload_api.entry"]),
            ("socket = \"/s\"\n entry { uid = 1 }", &["workload_api.entry[0].service"]),
            ("socket = \"/s\"\n entry { service = \"web\" }", &["workload_api.entry[0]"]),
            (
                "socket = \"/s\"\n entry {\n service = \"web\"\n unit = \"web\"\n }",
                &["workload_api.entry[0]"],
            ),
            (
                &format!("socket = \"{long}\"\n entry {{\n service = \"web\"\n uid = 1\n }}"),
                &["workload_api.socket"],
            ),
        ] {
            assert_eq!(check(&format!("workload_api {{\n{text}\n}}")).1, fields, "{text}");
        }
    }
}
