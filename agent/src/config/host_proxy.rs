//! The `host_proxy` section: one proxy for all services of the host, and which process may be it.

use serde::{Deserialize, Serialize};
use weft_core::attestation::{Processes, Selectors};
use weft_proto::text::Fault;
use weft_runtime::net::own_uid;

use super::resolve::take;

/// The `host_proxy` section; without it each service has a proxy of its own.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostProxySection {
    /// Whether a proxy may serve all services of this host.
    pub enabled: bool,
    /// Its user, by number; the agent's own if nothing is said of the process.
    pub uid: Option<u32>,
    /// Its group, by number; further groups do not count.
    pub gid: Option<u32>,
    /// Its unit of the system's systemd, such as `weft-host-proxy.service`.
    pub unit: Option<String>,
    /// Its control group or one above it, as in `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
}

/// Checks the section; what is wrong is added to the faults.
pub(super) fn resolve(section: &HostProxySection, faults: &mut Vec<Fault>) -> Option<Processes> {
    let HostProxySection { enabled, uid, gid, unit, cgroup } = section.clone();
    let given = Selectors { uid, gid, unit, cgroup, pod: None };
    if !enabled {
        if given != Selectors::default() {
            let reason = "is false, but it is said which process is the host proxy";
            faults.push(Fault::new("host_proxy.enabled", reason));
        }
        return None;
    }
    let selectors = match given == Selectors::default() {
        true => Selectors { uid: Some(own_uid()), ..given },
        false => given,
    };
    take(faults, "host_proxy", Processes::new(selectors))
}

#[cfg(test)]
mod tests {
    use weft_core::attestation::{Caller, Cgroup};

    use super::*;

    fn check(section: &HostProxySection) -> (Option<Processes>, Vec<String>) {
        let mut faults = Vec::new();
        let found = resolve(section, &mut faults);
        (found, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn it_is_off_unless_asked_for_and_then_for_the_agents_own_user() {
        let off = HostProxySection::default();
        assert_eq!(check(&off), (None, Vec::new()));
        let on = HostProxySection { enabled: true, ..off.clone() };
        let own = Processes::new(Selectors { uid: Some(own_uid()), ..Selectors::default() });
        assert_eq!(check(&on), (own.ok(), Vec::new()));
        let unit = Some("weft-host-proxy.service".to_owned());
        let (of_unit, faults) = check(&HostProxySection { unit: unit.clone(), ..on.clone() });
        assert_eq!(faults, [""; 0]);
        let line = "0::/system.slice/weft-host-proxy.service";
        let cgroup = Cgroup::parse(line).expect("a group");
        let caller = Caller { uid: own_uid() + 1, gid: 1, pid: 1, cgroup };
        assert!(of_unit.expect("it is on").contain(&caller), "of any user");
        for (section, path) in [
            (HostProxySection { unit, ..off }, "host_proxy.enabled"),
            (HostProxySection { unit: Some("web".to_owned()), ..on }, "host_proxy"),
        ] {
            assert_eq!(check(&section), (None, vec![path.to_owned()]));
        }
    }
}
