//! One run of one probe: what was found, in Consul's words.

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use weft_core::catalog::CheckStatus;
use weft_runtime::http::HttpClient;
use weft_runtime::net;

use crate::local::{CheckPlan, HttpProbe, Probe};

/// What applications see of us in their logs.
const NAME: HeaderValue = HeaderValue::from_static("Weft Health Check");
/// As Consul asks.
const ACCEPTED: HeaderValue = HeaderValue::from_static("text/plain, text/*, */*");

/// What one run found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: CheckStatus,
    pub(super) output: String,
}

/// Runs the probe once, within its time-out. Reports of applications are not awaited here.
pub(super) async fn run(plan: &CheckPlan) -> Option<Finding> {
    match &plan.probe {
        Probe::Http(request) => Some(http(plan, request).await),
        Probe::Tcp { address } => Some(tcp(plan, address).await),
        Probe::Ttl { .. } => None,
    }
}

async fn tcp(plan: &CheckPlan, address: &str) -> Finding {
    let connected =
        tokio::time::timeout(plan.timeout(), net::connect_host(address, plan.timeout()));
    let failure = match connected.await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no connection within {} ms", plan.timeout().as_millis())),
    };
    match failure {
        None => Finding {
            status: CheckStatus::Passing,
            output: format!("TCP connect {address}: Success"),
        },
        Some(failure) => Finding {
            status: CheckStatus::Critical,
            output: format!("TCP connect {address}: {failure}"),
        },
    }
}

async fn http(plan: &CheckPlan, request: &HttpProbe) -> Finding {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    headers.entry(USER_AGENT).or_insert(NAME);
    headers.entry(ACCEPT).or_insert(ACCEPTED);
    let url = request.url.to_string();
    let client = HttpClient::new(plan.timeout(), plan.output_bytes_max()).cutting_bodies();
    let body = Bytes::from(request.body.clone());
    match client.request(request.method.clone(), &url, headers, body).await {
        Ok(answer) => Finding {
            status: judge(answer.status),
            output: format!(
                "HTTP {} {url}: {} Output: {}",
                request.method,
                answer.status,
                answer.text()
            ),
        },
        Err(error) => Finding { status: CheckStatus::Critical, output: error.to_string() },
    }
}

/// **Source**: Consul: docs/services/usage/checks#http-checks. A redirect is no success: it is
/// not followed.
fn judge(status: StatusCode) -> CheckStatus {
    match status {
        status if status.is_success() => CheckStatus::Passing,
        StatusCode::TOO_MANY_REQUESTS => CheckStatus::Warning,
        _ => CheckStatus::Critical,
    }
}
