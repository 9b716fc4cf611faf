//! Keeps web pages of others away from an API on loopback.
//!
//! A page can make a browser send requests to 127.0.0.1, and by DNS rebinding under its own
//! name. Both show: in the `Origin` header, and in a `Host` that is not one of ours.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Request, Uri, header};

use super::answer::ApiError;

/// Refuses a request that a page of another site may have caused.
///
/// # Errors
/// [`ApiError::Foreign`] with what gave it away.
pub(super) fn check<B>(request: &Request<B>, allowed_hosts: &[String]) -> Result<(), ApiError> {
    let Some(host) = host(request.uri(), request.headers())? else {
        return Err(ApiError::Foreign("the request has no Host header".to_owned()));
    };
    if !is_ours(host.host(), allowed_hosts) {
        return Err(ApiError::Foreign(format!(
            "{:?} is not a name of this agent; call it by an IP address or localhost, or add the \
             name to http.allowed_hosts",
            host.host()
        )));
    }
    match request.headers().get(header::ORIGIN) {
        None => Ok(()),
        Some(origin) => {
            let same = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
            let same = same.and_then(|uri| uri.authority().cloned());
            match same {
                Some(origin) if is_same(&origin, &host, allowed_hosts) => Ok(()),
                Some(_) | None => Err(ApiError::Foreign(
                    "the request was caused by a page of another site".to_owned(),
                )),
            }
        }
    }
}

fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, ApiError> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let Some(value) = headers.get(header::HOST) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    match parsed {
        Some(host) => Ok(Some(host)),
        None => Err(ApiError::Foreign("the Host header is malformed".to_owned())),
    }
}

fn is_ours(host: &str, allowed_hosts: &[String]) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok()
        || allowed_hosts.contains(&name)
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
        check(&request, &["weft.example".to_owned()]).is_ok()
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
        ] {
            assert!(passes(host, None), "{host} was refused");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8500"] {
            assert!(!passes(host, None), "{host} was answered");
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
