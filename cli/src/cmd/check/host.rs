//! The host itself, whether or not Weft runs on it: system, clock, descriptors, name, address, disk.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use weft_core::name::NodeName;
use weft_runtime::net::{host_name, outward_address};

use super::finding::Finding;
use crate::cmd::capture::program;

/// Open files and sockets that a busy proxy needs: two for each connection.
const DESCRIPTORS_WANTED: u64 = 16_384;
/// Free bytes below which a server's log soon stops: it keeps 64 MB in reserve, and snapshots twice.
const FREE_BYTES_WANTED: u64 = 1 << 30;
/// The oldest kernel that is tried: that of Debian 10 and RHEL 8.
const KERNEL_WANTED: (u32, u32) = (4, 18);

/// What is said of a host, rather than left to be found out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// Its name in the catalog.
    pub(crate) name: Option<&'a str>,
    /// The address under which others reach it.
    pub(crate) address: Option<&'a str>,
}

/// Looks at what Weft needs of any host.
pub(crate) fn check(state: &Path, given: Given<'_>) -> Vec<Finding> {
    let (name, address) = (name(given.name), address(given.address, outward_address()));
    vec![kernel(), clock(), descriptors(), name, address, disk(state), capture()]
}

fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let ipv6 = if Path::new("/proc/net/if_inet6").exists() { "with" } else { "without" };
    let detail = format!("Linux {release} on {}, {ipv6} IPv6", std::env::consts::ARCH);
    match version(release) {
        None => Finding::unknown("kernel", "the system does not tell its release"),
        Some(found) if found < KERNEL_WANTED => {
            let (major, minor) = KERNEL_WANTED;
            Finding::poor("kernel", detail, format!("update to Linux {major}.{minor} or later"))
        }
        Some(_) => Finding::good("kernel", detail),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Asks what keeps the clock whether it is kept.
fn clock() -> Finding {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stderr(Stdio::null())
        .output();
    let answer = asked.ok().filter(|it| it.status.success());
    let answer = answer.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    match answer.as_deref() {
        Some("yes") => Finding::good("clock", "kept by NTP"),
        Some("no") => Finding::poor(
            "clock",
            "not kept by NTP: hosts whose clocks drift apart refuse each other's certificates",
            "timedatectl set-ntp true (or run chrony)",
        ),
        Some(_) | None => {
            Finding::unknown("clock", "this system does not tell whether NTP keeps its clock")
        }
    }
}

fn descriptors() -> Finding {
    let allowed = weft_runtime::descriptors::raise_limit();
    let detail = format!("{allowed} at once");
    match allowed < DESCRIPTORS_WANTED {
        false => Finding::good("open files", detail),
        true => Finding::poor(
            "open files",
            detail,
            "fine for trying out; raise `ulimit -Hn`. The units of the packages ask for 1048576",
        ),
    }
}

fn name(given: Option<&str>) -> Finding {
    let fix = "hostnamectl hostname NAME, or node_name in the configuration";
    match given.map_or_else(host_name, |given| Ok(given.to_owned())) {
        Err(error) => Finding::bad("host name", error.to_string(), fix),
        Ok(name) if name == "localhost" || name.starts_with("localhost.") => {
            Finding::bad("host name", format!("{name:?} is the name of every host"), fix)
        }
        Ok(name) => match NodeName::parse(&name) {
            Ok(name) => {
                Finding::good("host name", format!("{name}, which is its name in the catalog"))
            }
            Err(error) => Finding::bad("host name", format!("{name:?}: {error}"), fix),
        },
    }
}

fn address(given: Option<&str>, found: Option<IpAddr>) -> Finding {
    if let Some(given) = given {
        return Finding::good("address", format!("{given}, as was given"));
    }
    let fix = "give the address under which other hosts reach this one: --advertise-addr";
    match found {
        None => Finding::bad("address", "this host has no route to others", fix),
        Some(address) if address.is_loopback() => {
            Finding::bad("address", format!("{address} is reached by this host alone"), fix)
        }
        Some(address) => Finding::good(
            "address",
            format!(
                "{address}, under which others reach this host unless --advertise-addr says else"
            ),
        ),
    }
}

/// Looks at where state is to be kept, or at the folder above that is there already.
fn disk(state: &Path) -> Finding {
    let there = state.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(there) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            let fix = "make it, or name another folder: data_dir";
            return Finding::bad("disk", format!("{}: {error}", state.display()), fix);
        }
    };
    let detail = format!("{} MB free for {}", free >> 20, state.display());
    match free < FREE_BYTES_WANTED {
        true => Finding::poor("disk", detail, "free a gigabyte, or name another folder: data_dir"),
        false => Finding::good("disk", detail),
    }
}

/// What redirects connections of programs that know nothing of proxies; needed for that alone.
fn capture() -> Finding {
    match ["nft", "iptables"].into_iter().find(|name| program(name).is_some()) {
        Some(program) => {
            Finding::good("firewall tool", format!("{program}, for transparent capture"))
        }
        None => Finding::poor(
            "firewall tool",
            "neither nft nor iptables: programs reach the mesh only at the ports of their upstreams",
            "apt-get install nftables, if connections are to be captured",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels_are_compared_by_number() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("4.18.0-553.el8"), Some((4, 18)));
        assert_eq!(version("weft"), None);
    }

    #[test]
    fn an_address_of_this_host_alone_is_none() {
        assert!(address(None, None).is_bad());
        assert!(address(None, "127.0.0.1".parse().ok()).is_bad());
        assert!(!address(None, "10.0.0.7".parse().ok()).is_bad());
        assert!(!address(Some("10.0.0.8"), None).is_bad());
    }

    #[test]
    fn the_folder_need_not_be_there_yet() {
        let found = disk(Path::new("/no/such/folder"));
        assert!(!found.is_bad() && found.detail.ends_with("/no/such/folder"), "{found:?}");
    }
}
