//! Addresses that stand for services: a program calls one, and its proxy takes the call wherever the
//! service's chain leads. Who has which is kept by `state`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;

/// The tag under which mesh doors carry their service's virtual address.
///
/// **Source**: Consul: api-docs/catalog#taggedaddresses (`consul-virtual`).
pub const VIRTUAL_TAG: &str = "consul-virtual";

/// The address that stands for a service: one of `240.0.0.0/4`, which no network routes, and the one
/// of IPv6 that goes with it.
///
/// **Source**: Consul: docs/k8s/connect/transparent-proxy (virtual addresses). Differs: Consul counts
/// up; here the name says where the search for a free one begins, so that a service that comes back
/// has its address again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Ipv4Addr", into = "Ipv4Addr")]
pub struct VirtualIp(Ipv4Addr);

/// States that an address stands for no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not in 240.0.0.0/4")]
pub struct NotVirtual(Ipv4Addr);

/// The address that stands for no service: a proxy answers a captured call to it with who it is, so
/// that rules can be tried out.
pub const PROBE_IP: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);
/// The same of IPv6.
pub const PROBE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x4546, 0x5400, 0, 0, 0, 0xf000, 0);
/// The one before the first.
const BASE: u32 = 0xf000_0000;
/// How many there are: all of 240.0.0.0/4 but its first and the broadcast address.
const COUNT: u32 = 0x0fff_fffe;
/// What stands before the address of IPv4 in that of IPv6: a prefix of local addresses whose random
/// part is the name of the mesh.
///
/// **Source**: Spec: RFC 4193 §3.1.
const PREFIX: [u16; 6] = [0xfd57, 0x4546, 0x5400, 0, 0, 0];

impl VirtualIp {
    /// Returns the address where the search for a free one begins.
    pub fn preferred(service: &str) -> Self {
        // FNV-1a: stays the same over releases and machines.
        let hash = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        let place = (hash ^ (hash >> 32)) % u64::from(COUNT);
        Self::at(u32::try_from(place).unwrap_or_default())
    }

    /// Returns the one after it; after the last comes the first.
    #[must_use]
    pub fn next(self) -> Self {
        Self::at((u32::from(self.0) - BASE) % COUNT)
    }

    fn at(place: u32) -> Self {
        Self(Ipv4Addr::from(BASE + 1 + place))
    }

    /// Returns the address of IPv4.
    pub fn v4(self) -> Ipv4Addr {
        self.0
    }

    /// Returns the address of IPv6.
    pub fn v6(self) -> Ipv6Addr {
        let [a, b, c, d] = self.0.octets();
        let [p0, p1, p2, p3, p4, p5] = PREFIX;
        let low = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Ipv6Addr::new(p0, p1, p2, p3, p4, p5, low.0, low.1)
    }

    /// Reads either address; `None` for one that stands for no service.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Self::try_from(v4).ok(),
            IpAddr::V6(v6) => {
                if let Some(mapped) = v6.to_ipv4_mapped() {
                    return Self::try_from(mapped).ok();
                }
                let [.., high, low] = v6.segments();
                let v4 = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
                Self::try_from(v4).ok().filter(|it| it.v6() == v6)
            }
        }
    }
}

impl TryFrom<Ipv4Addr> for VirtualIp {
    type Error = NotVirtual;
    fn try_from(v4: Ipv4Addr) -> Result<Self, NotVirtual> {
        let number = u32::from(v4);
        if number > BASE && number < u32::MAX { Ok(Self(v4)) } else { Err(NotVirtual(v4)) }
    }
}

impl From<VirtualIp> for Ipv4Addr {
    fn from(ip: VirtualIp) -> Self {
        ip.0
    }
}

impl fmt::Display for VirtualIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a service whose calls are captured may call.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedUpstreams {
    /// **Shape**: by name without regard to case, each once; at most
    /// [`crate::limits::UPSTREAMS_PER_PROXY_MAX`].
    pub upstreams: Vec<CapturedUpstream>,
    /// How many more there are.
    #[serde(default)]
    pub left_out: usize,
    /// Whether calls to elsewhere are refused.
    #[serde(default)]
    pub destinations_only: bool,
}

/// A service and where it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedUpstream {
    /// The service.
    pub service: ServiceName,
    /// The address that stands for it.
    pub virtual_ip: VirtualIp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_their_network_and_lead_back_from_ipv6() {
        for name in ["web", "reviews", "a", "zz-9"] {
            let ip = VirtualIp::preferred(name);
            assert_eq!(ip, VirtualIp::preferred(&name.to_uppercase()));
            assert_eq!(VirtualIp::of(ip.v4().into()), Some(ip));
            assert_eq!(VirtualIp::of(ip.v6().into()), Some(ip));
            assert_eq!(VirtualIp::of(ip.v4().to_ipv6_mapped().into()), Some(ip));
        }
        for other in ["10.0.0.1", "240.0.0.0", "255.255.255.255", "::1", "fd00::f000:1"] {
            assert_eq!(VirtualIp::of(other.parse().expect("an address")), None, "{other}");
        }
    }

    #[test]
    fn after_the_last_comes_the_first() {
        let last = VirtualIp::try_from(Ipv4Addr::new(255, 255, 255, 254)).expect("in the network");
        assert_eq!(last.next().v4(), Ipv4Addr::new(240, 0, 0, 1));
        assert_eq!(last.next().next().v4(), Ipv4Addr::new(240, 0, 0, 2));
    }
}
