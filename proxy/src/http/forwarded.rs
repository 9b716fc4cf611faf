//! `x-forwarded-…`: what a request that comes from outside the mesh may say of its way, and what is
//! said where nobody did.

use std::net::IpAddr;

use weft_core::limits;
use weft_core::traffic::RequestView;

use super::edits::Edits;

/// Of a caller without TLS.
pub(crate) const PROTO_HTTP: &[u8] = b"x-forwarded-proto: http\r\n";
/// Of a caller with a certificate that has no proxy of ours.
pub(crate) const PROTO_HTTPS: &[u8] = b"x-forwarded-proto: https\r\n";

/// Fields that the caller's proxy may add: those of traces, of where a request came from, of its time and
/// of its route.
pub(crate) const MADE_FIELDS_MAX: usize = 10 + limits::CONDITIONS_PER_ROUTE_MAX;

/// What proxies tell of who calls, beside [`FOR`]: taken from a caller that is not known.
const SAID_BY_PROXIES: [&str; 6] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
];
/// Through whom a request came, the nearest last.
const FOR: &str = "x-forwarded-for";

/// Changes what a request from outside the mesh says of its way: of its caller's words as many
/// entries are left as there are trusted proxies, and where it came from is added.
pub(crate) fn from_outside<R: RequestView + ?Sized>(
    request: &R,
    (remote, is_tls): (Option<IpAddr>, bool),
    trusted_hops: u32,
    edits: &mut Edits,
) {
    let hops = usize::try_from(trusted_hops).unwrap_or(usize::MAX);
    let mut entries: Vec<Vec<u8>> = Vec::new();
    request.each_header(FOR, &mut |value| {
        let parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        entries.extend(parts.filter(|part| !part.is_empty()).map(<[u8]>::to_vec));
    });
    let mut value = entries.split_off(entries.len().saturating_sub(hops));
    value.extend(remote.map(|ip| ip.to_canonical().to_string().into_bytes()));
    edits.remove(FOR);
    if !value.is_empty() {
        edits.append(FOR, &value.join(&b", "[..]));
    }
    if hops == 0 {
        SAID_BY_PROXIES.iter().for_each(|name| edits.remove(name));
    }
    // Else a proxy that is trusted may know better that its caller had no TLS.
    if hops == 0 || is_tls {
        edits.set("x-forwarded-proto", if is_tls { b"https" } else { b"http" });
    }
}
