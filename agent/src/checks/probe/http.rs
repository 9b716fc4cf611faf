//! The http check.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use weft_core::catalog::CheckStatus;
use weft_runtime::http::{HttpClient, HttpResponse};

use super::tls::{ProbeTls, Protocol};
use super::{Finding, through, within};
use crate::local::{CheckPlan, HttpProbe, is_probeable};

/// What applications see of us in their logs.
const NAME: HeaderValue = HeaderValue::from_static("Weft Health Check");
/// As Consul asks.
const ACCEPTED: HeaderValue = HeaderValue::from_static("text/plain, text/*, */*");
/// Redirects followed in one run, where they are; browsers follow twenty, Consul ten.
const REDIRECTS_MAX: usize = 10;

/// A request on its way.
struct Step {
    method: Method,
    url: Uri,
    headers: HeaderMap,
    body: Bytes,
}

pub(super) async fn run(plan: &CheckPlan, request: &HttpProbe, tls: &ProbeTls) -> Finding {
    within(plan.timeout(), Box::pin(follow(plan, request, tls))).await
}

async fn follow(plan: &CheckPlan, request: &HttpProbe, tls: &ProbeTls) -> Finding {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    headers.entry(USER_AGENT).or_insert(NAME);
    headers.entry(ACCEPT).or_insert(ACCEPTED);
    let (method, url) = (request.method.clone(), request.url.clone());
    let mut step = Step { method, url, headers, body: Bytes::from(request.body.clone()) };
    for _ in 0..=REDIRECTS_MAX {
        let answer = match call(plan, request, &step, tls).await {
            Ok(answer) => answer,
            Err(reason) => return Finding::critical(reason),
        };
        let next = request.follows_redirects.then(|| redirected(&step, &answer)).flatten();
        match next {
            Some(next) => step = next,
            None => return judged(plan, request, &answer),
        }
    }
    Finding::critical(format!("{} redirects more than {REDIRECTS_MAX} times", request.url))
}

async fn call(
    plan: &CheckPlan,
    request: &HttpProbe,
    step: &Step,
    tls: &ProbeTls,
) -> Result<HttpResponse, String> {
    let mut client = HttpClient::new(plan.timeout(), plan.output_bytes_max()).cutting_bodies();
    if step.url.scheme_str() == Some("https") {
        let config = tls.config(request.tls.skip_verify, Protocol::Any);
        client = client.with_tls(config.map_err(|error| error.to_string())?);
    }
    if !request.tls.server_name.is_empty() {
        client = client.with_server_name(&request.tls.server_name);
    }
    let (method, mut headers) = (step.method.clone(), step.headers.clone());
    // Elsewhere a door of the proxy leads nowhere.
    let door = plan.through.filter(|_| step.url.authority() == request.url.authority());
    let url = match (door, step.url.authority()) {
        (Some(door), Some(authority)) => {
            let host = HeaderValue::from_str(authority.as_str());
            headers.entry(HOST).or_insert(host.map_err(|error| error.to_string())?);
            let target = step.url.path_and_query().map_or("/", |target| target.as_str());
            format!("http://{door}{target}")
        }
        _ => step.url.to_string(),
    };
    let answer = client.request(method, &url, headers, step.body.clone()).await;
    answer.map_err(|error| match door {
        Some(door) => format!("through {door}: {error}"),
        None => error.to_string(),
    })
}

/// Where an answer sends us; what was meant for one host alone is not told to another.
///
/// **Source**: Spec: RFC 9110 §15.4; 307 and 308 keep method and body.
fn redirected(step: &Step, answer: &HttpResponse) -> Option<Step> {
    let keeps_method = match answer.status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => false,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        _ => return None,
    };
    let url = target(&step.url, answer.headers.get(LOCATION)?.to_str().ok()?)?;
    let mut headers = step.headers.clone();
    if url.authority() != step.url.authority() {
        for name in [AUTHORIZATION, COOKIE, HOST] {
            headers.remove(name);
        }
        headers.remove("x-consul-token");
    }
    let (method, body) = match keeps_method {
        true => (step.method.clone(), step.body.clone()),
        false if step.method == Method::HEAD => (Method::HEAD, Bytes::new()),
        false => (Method::GET, Bytes::new()),
    };
    Some(Step { method, url, headers, body })
}

/// Resolves a location against the URL that named it; `None` when it cannot be called.
fn target(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let absolute = |text: String| text.parse::<Uri>().ok().filter(is_probeable);
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    if location.contains("://") {
        absolute(location.to_owned())
    } else if let Some(rest) = location.strip_prefix("//") {
        absolute(format!("{scheme}://{rest}"))
    } else if location.starts_with('/') {
        absolute(format!("{scheme}://{authority}{location}"))
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        absolute(format!("{scheme}://{authority}{folder}/{location}"))
    }
}

/// **Source**: Consul: docs/services/usage/checks#http-checks.
/// Differs: a redirect is no success, and is not followed unless the check says so.
fn judged(plan: &CheckPlan, request: &HttpProbe, answer: &HttpResponse) -> Finding {
    let status = match answer.status {
        status if status.is_success() => CheckStatus::Passing,
        StatusCode::TOO_MANY_REQUESTS => CheckStatus::Warning,
        _ => CheckStatus::Critical,
    };
    let HttpProbe { method, url, .. } = request;
    let through = through(plan);
    let (status_code, text) = (answer.status, answer.text());
    let output = format!("HTTP {method} {url}{through}: {status_code} Output: {text}");
    Finding { status, output }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_and_only_urls_are_followed() {
        let from: Uri = "http://a:1/x/y?z".parse().expect("a URL");
        for (location, resolved) in [
            ("/b", Some("http://a:1/b")),
            ("b?c#d", Some("http://a:1/x/b?c")),
            ("https://b/", Some("https://b/")),
            ("//b:2/c", Some("http://b:2/c")),
            ("file:///etc/passwd", None),
            ("gopher://b/", None),
        ] {
            let target = target(&from, location).map(|url| url.to_string());
            assert_eq!(target.as_deref(), resolved, "{location}");
        }
    }
}
