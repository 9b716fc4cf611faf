//! Rules of the host's packet filter that lead what programs call to their proxy.
//!
//! [`CapturePlan`] says what is wanted; `nftables` and `iptables` write it as text for those tools.
//! Nothing is carried out here.

mod iptables;
mod nftables;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;

pub use iptables::{ours, removal, restore};
pub use nftables::{REMOVE, TABLE, ruleset};

use crate::limits::CAPTURE_LIST_MAX;

/// The port to which calls are led when nothing else is said.
///
/// **Source**: Consul: docs/connect/config-entries/service-defaults#outboundlistenerport.
pub const OUTBOUND_PORT: u16 = 15001;
/// The port of SSH, whose connections are left alone: whoever sets rules must be able to take them
/// back.
pub const SSH_PORT: u16 = 22;
/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Which family of addresses rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A user or group: a number or a name of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(String);

impl Account {
    /// Reads a number, or a name of letters, digits, `_`, `-` and `.`.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_empty() || text.len() > 32 || text.starts_with('-') {
            Err(format!("{text:?} is no number or name of a user or group"))
        } else if is_number && text.parse::<u32>().is_err() {
            Err(format!("{text} is above the highest number of a user or group"))
        } else if !text.chars().all(is_plain) {
            Err(format!("{text:?} has a character that names of users and groups do not have"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a control group below the root of the unified hierarchy, without slashes at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Reads a path such as `system.slice/shop.service`.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.trim_matches('/');
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '\'');
        let is_path = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !is_path || !path.chars().all(is_plain) {
            return Err(format!(
                "{text:?} is no path of a control group, such as system.slice/shop.service"
            ));
        }
        Ok(Self(path.to_owned()))
    }

    fn depth(&self) -> usize {
        self.0.split('/').count()
    }
}

/// Whose calls are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Those of processes in a control group.
    Cgroup(CgroupPath),
    /// Those of a group.
    Gid(Account),
    /// Those of a user.
    Uid(Account),
}

/// Whose calls are captured, and the port of the proxy that takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Whose; `None` for everybody's.
    pub whose: Option<Whose>,
    /// Where the proxy takes them, on loopback.
    pub port: u16,
}

/// How much of what programs call is captured.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every connection over TCP that is not left out.
    #[default]
    All,
    /// What goes to virtual addresses alone.
    VirtualOnly,
}

/// What is to be captured in one network namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CapturePlan {
    /// Whose calls; the first that fits counts.
    pub selected: Vec<Selected>,
    /// How much of them.
    pub reach: Reach,
    /// Who is never captured: the proxy above all, whose own connections would come back to it.
    pub left_out: Vec<Whose>,
    /// Marks of packets that are never captured.
    pub marks_left_out: Vec<u32>,
    /// Ports that are called directly.
    pub outbound_ports_left_out: Vec<u16>,
    /// Networks that are called directly.
    pub networks_left_out: Vec<IpNet>,
    /// Where the agent answers DNS; at most one address of each family. Empty: DNS is left alone.
    pub dns: Vec<SocketAddr>,
    /// The port where the proxy takes what others call; `None`: that is left alone.
    pub inbound_port: Option<u16>,
    /// Ports that others call directly.
    pub inbound_ports_left_out: Vec<u16>,
}

/// States why a plan cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidPlan {
    /// The flag.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl CapturePlan {
    /// Checks that the plan can be carried out, and that it does not lead the proxy to itself.
    ///
    /// # Errors
    /// All that is wrong; not empty.
    pub fn check(&self) -> Result<(), Vec<InvalidPlan>> {
        let mut faults = Vec::new();
        let mut add = |field, reason: &str| {
            faults.push(InvalidPlan { field, reason: reason.to_owned() });
        };
        let takes_all = self.selected.iter().any(|it| it.whose.is_none());
        if takes_all && self.left_out.is_empty() && self.marks_left_out.is_empty() {
            add(
                "--proxy-uid",
                "is missing: say as whom the proxy runs, or its own connections would be led back \
                 to it; or say whose calls are captured, with --uid, --gid or --cgroup",
            );
        }
        let out: BTreeSet<&Whose> = self.left_out.iter().collect();
        if self.selected.iter().filter_map(|it| it.whose.as_ref()).any(|it| out.contains(it)) {
            add("--uid", "the same user, group or control group is left out");
        }
        if self.selected.iter().any(|it| it.port == 0) || self.inbound_port == Some(0) {
            add("--outbound-port", "must be from 1 to 65535, as --inbound-port");
        }
        if self.dns.iter().any(|it| it.port() == 0 || it.ip().is_unspecified()) {
            add("--dns", "must be an address and port where the agent answers");
        }
        for family in [Family::V4, Family::V6] {
            if self.dns.iter().filter(|it| family.has(it.ip())).count() > 1 {
                add("--dns", "has two addresses of one family");
            }
        }
        if self.selected.is_empty() && self.inbound_port.is_none() {
            add("--uid", "nothing would be captured");
        }
        let lengths = [
            ("--uid", self.selected.len()),
            ("--exclude-uid", self.left_out.len() + self.marks_left_out.len()),
            ("--exclude-outbound-port", self.outbound_ports_left_out.len()),
            ("--exclude-outbound-cidr", self.networks_left_out.len()),
            ("--exclude-inbound-port", self.inbound_ports_left_out.len()),
        ];
        for (field, length) in lengths {
            if length > CAPTURE_LIST_MAX {
                add(field, &format!("{length} are more than the {CAPTURE_LIST_MAX} allowed"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn networks(&self, family: Family) -> Vec<String> {
        let of_family = self.networks_left_out.iter().filter(|it| family.has(it.addr()));
        of_family.map(|network| network.trunc().to_string()).collect()
    }

    fn dns_of(&self, family: Family) -> Option<SocketAddr> {
        self.dns.iter().copied().find(|it| family.has(it.ip()))
    }
}

impl Family {
    fn has(self, ip: std::net::IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    /// Returns the network of virtual addresses.
    fn virtual_net(self) -> &'static str {
        match self {
            Self::V4 => "240.0.0.0/4",
            Self::V6 => "fd57:4546:5400::/96",
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests;
