//! One run of one probe: what was found, in Consul's words.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, StatusCode};
use weft_core::catalog::CheckStatus;
use weft_runtime::http::HttpClient;
use weft_runtime::net;
use weft_runtime::tls::rustls::ClientConfig;
use weft_runtime::tls::{OutsideTrust, TlsError, client_config_outside};

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

/// The TLS configurations of probes, made when they are first needed: once in the life of an
/// agent, so that the reading of the system's authorities is no burden.
#[derive(Default)]
pub(super) struct ProbeTls {
    anyone: OnceLock<Arc<ClientConfig>>,
    system: OnceLock<Arc<ClientConfig>>,
}

impl ProbeTls {
    fn config(&self, skip_verify: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let (cell, trust) = match skip_verify {
            true => (&self.anyone, OutsideTrust::Anyone),
            false => (&self.system, OutsideTrust::System),
        };
        match cell.get() {
            Some(config) => Ok(config.clone()),
            None => {
                let made = Arc::new(client_config_outside(&trust)?);
                Ok(cell.get_or_init(|| made).clone())
            }
        }
    }
}

/// Runs the probe once, within its time-out. Reports of applications are not awaited here.
pub(super) async fn run(plan: &CheckPlan, tls: &ProbeTls) -> Option<Finding> {
    match &plan.probe {
        Probe::Http(request) => Some(http(plan, request, tls).await),
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

async fn http(plan: &CheckPlan, request: &HttpProbe, tls: &ProbeTls) -> Finding {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name, value.clone());
    }
    headers.entry(USER_AGENT).or_insert(NAME);
    headers.entry(ACCEPT).or_insert(ACCEPTED);
    let url = request.url.to_string();
    let client = HttpClient::new(plan.timeout(), plan.output_bytes_max()).cutting_bodies();
    let client = match url.starts_with("https:") {
        false => client,
        true => match tls.config(request.tls_skip_verify) {
            Ok(config) => client.with_tls(config),
            Err(error) => {
                return Finding { status: CheckStatus::Critical, output: error.to_string() };
            }
        },
    };
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
