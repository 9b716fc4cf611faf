//! Keeps web pages of others away from an API.
//!
//! A page can make a browser send requests to 127.0.0.1, and by DNS rebinding under its own
//! name. Both show: in the `Origin` header, and in a `Host` that is not one of ours.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Request, Uri, header};

/// The names under which an API may be called.
#[derive(Debug, Clone, Copy)]
pub enum OwnHosts<'a> {
    /// Any: the certificate of the door says whose it is, and a borrowed name does not fit it.
    Certified,
    /// Loopback names, IP addresses, and these (in lower case).
    Named {
        /// Names whose pages are this API's own as well.
        allowed: &'a [String],
        /// Names that lead to this host; what pages are there may be anybody's.
        of_host: &'a [String],
    },
}

/// States why a request may have been caused by a page of another site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignRequest {
    /// It was called by a name that is not one of ours.
    #[error(
        "{host:?} is not a name of this API; call it by an IP address or localhost, or add the \
         name to http.allowed_hosts"
    )]
    Host {
        /// The name.
        host: String,
    },
    /// Its `Host` header cannot be read.
    #[error("the Host header is malformed")]
    MalformedHost,
    /// It does not say which host it is for.
    #[error("the request has no Host header")]
    NoHost,
    /// A browser says that another site caused it.
    #[error("the request was caused by a page of another site")]
    Origin,
}

/// Refuses a request that a page of another site may have caused.
///
/// # Errors
/// [`ForeignRequest`] with what gave it away.
pub fn check_foreign<B>(request: &Request<B>, own: OwnHosts<'_>) -> Result<(), ForeignRequest> {
    let host = host(request.uri(), request.headers())?.ok_or(ForeignRequest::NoHost)?;
    let allowed_hosts = match own {
        OwnHosts::Certified => &[],
        OwnHosts::Named { allowed, of_host } if is_ours(host.host(), allowed, of_host) => allowed,
        OwnHosts::Named { .. } => {
            return Err(ForeignRequest::Host { host: host.host().to_owned() });
        }
    };
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        // Browsers name no origin with what a page merely loads, but say whose page it is.
        let site = request.headers().get("sec-fetch-site").map(http::HeaderValue::as_bytes);
        return match site {
            Some(b"cross-site" | b"same-site") => Err(ForeignRequest::Origin),
            Some(_) | None => Ok(()),
        };
    };
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    match origin.and_then(|uri| uri.authority().cloned()) {
        Some(origin) if is_same(&origin, &host, allowed_hosts) => Ok(()),
        Some(_) | None => Err(ForeignRequest::Origin),
    }
}

fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, ForeignRequest> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let Some(value) = headers.get(header::HOST) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    match parsed {
        Some(host) => Ok(Some(host)),
        None => Err(ForeignRequest::MalformedHost),
    }
}

fn is_ours(host: &str, allowed: &[String], of_host: &[String]) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok()
        || allowed.contains(&name)
        || of_host.contains(&name)
}

fn is_same(origin: &Authority, host: &Authority, allowed_hosts: &[String]) -> bool {
    origin.as_str().eq_ignore_ascii_case(host.as_str())
        || allowed_hosts.iter().any(|allowed| origin.host().eq_ignore_ascii_case(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origin: Option<&str>) -> bool {
        let mut request = Request::get("/v1/agent/self").body(()).expect("a request");
        if !host.is_empty() {
            request.headers_mut().insert(header::HOST, host.parse().expect("a value"));
        }
        if let Some(origin) = origin {
            request.headers_mut().insert(header::ORIGIN, origin.parse().expect("a value"));
        }
        let own = OwnHosts::Named {
            allowed: &["weft.example".to_owned()],
            of_host: &["host-1.node.mesh".to_owned()],
        };
        check_foreign(&request, own).is_ok()
    }

    #[test]
    fn a_door_with_a_certificate_has_any_name_but_one_origin() {
        for (origin, passes) in [
            (None, true),
            (Some("https://weft.internal:8501"), true),
            (Some("https://evil.example"), false),
            (Some("null"), false),
        ] {
            let mut request = Request::get("/v1/kv/a").body(()).expect("a request");
            let headers = request.headers_mut();
            headers.insert(header::HOST, "weft.internal:8501".parse().expect("a value"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a value"));
            }
            let checked = check_foreign(&request, OwnHosts::Certified);
            assert_eq!(checked.is_ok(), passes, "{origin:?}");
        }
    }

    #[test]
    fn only_our_own_names_are_answered() {
        for host in [
            "127.0.0.1:8500",
            "localhost",
            "LOCALHOST:8500",
            "[::1]:8500",
            "10.0.0.1",
            "weft.example:1",
            "Host-1.node.mesh.:8500",
        ] {
            assert!(passes(host, None), "{host} was refused");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8500",
            "host-2.node.mesh:8500",
        ] {
            assert!(!passes(host, None), "{host} was answered");
        }
        // Other pages of this host are no pages of this API.
        let other = Some("http://host-1.node.mesh:80");
        assert!(!passes("host-1.node.mesh:8500", other), "{other:?} was let in");
    }

    #[test]
    fn what_pages_of_other_sites_load_is_refused() {
        for (site, passes) in
            [("none", true), ("same-origin", true), ("same-site", false), ("cross-site", false)]
        {
            let request = Request::get("/v1/agent/self").header(header::HOST, "127.0.0.1:8500");
            let request = request.header("sec-fetch-site", site).body(()).expect("a request");
            let own = OwnHosts::Named { allowed: &[], of_host: &[] };
            assert_eq!(check_foreign(&request, own).is_ok(), passes, "{site}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = "127.0.0.1:8500";
        for origin in ["http://127.0.0.1:8500", "https://weft.example"] {
            assert!(passes(host, Some(origin)), "{origin} was refused");
        }
        for origin in ["http://evil.example", "null", "http://127.0.0.1:9999", "file://", ""] {
            assert!(!passes(host, Some(origin)), "{origin} was let in");
        }
    }
}
