//! Questions that only servers can answer, asked over their HTTP API: prepared queries, ingress
//! gateways, who has an address. What they said is used again for a short while, and for long
//! while none answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use tracing::debug;
use weft_core::catalog::ServiceInstance;
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_core::time::Span;
use weft_runtime::clock;
use weft_runtime::http::{collect, empty};

use crate::config::TokenText;
use crate::servers::Servers;

/// How long an answer is as good as new: many callers of one name cost one question a second.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long an answer is used while no server gives another.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    Ingress(ServiceName),
    Owners(IpAddr),
    Query(String),
}

/// What a server found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// There is nothing of that name.
    Nothing,
    /// These, in their order.
    Instances {
        service: String,
        instances: Arc<Vec<ServiceInstance>>,
        /// How long the answer may be kept, if that was said.
        ttl: Option<Duration>,
    },
}

/// Asks servers; clones share what they said.
#[derive(Clone)]
pub(super) struct Remote {
    servers: Option<Servers>,
    said: Arc<Mutex<BTreeMap<Ask, (Found, Instant)>>>,
}

/// The answer to a prepared query.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Executed {
    service: String,
    #[serde(default)]
    nodes: Vec<ServiceInstance>,
    #[serde(default, rename = "DNS")]
    dns: ExecutedDns,
}

#[derive(Default, Deserialize)]
struct ExecutedDns {
    #[serde(default, rename = "TTL")]
    ttl: String,
}

impl Remote {
    /// Makes one that asks those servers; none in tests.
    pub(super) fn new(servers: Option<Servers>) -> Self {
        Self { servers, said: Arc::default() }
    }

    /// Asks, with the rights of a token; `None` when no server ever said anything.
    pub(super) async fn find(&self, ask: Ask, token: Option<TokenText>) -> Option<Found> {
        let now = clock::instant();
        let known = self.said.lock().get(&ask).cloned();
        if let Some((found, at)) = &known
            && now.saturating_duration_since(*at) < FRESH
        {
            return Some(found.clone());
        }
        let asked = tokio::time::timeout(LIMIT, self.ask(&ask, token)).await;
        match asked.map_err(|_| "no server answers in time".to_owned()).and_then(|said| said) {
            Ok(found) => {
                let mut said = self.said.lock();
                if said.len() >= limits::DNS_ASKED_ANSWERS_MAX && !said.contains_key(&ask) {
                    said.retain(|_, (_, at)| now.saturating_duration_since(*at) < FRESH);
                    while said.len() >= limits::DNS_ASKED_ANSWERS_MAX {
                        said.pop_first();
                    }
                }
                said.insert(ask, (found.clone(), now));
                Some(found)
            }
            Err(reason) => {
                debug!(?ask, reason, "a DNS question got no answer from a server");
                let (found, at) = known?;
                (now.saturating_duration_since(at) < STALE_MAX).then_some(found)
            }
        }
    }

    async fn ask(&self, ask: &Ask, token: Option<TokenText>) -> Result<Found, String> {
        let servers = self.servers.as_ref().ok_or("there are no servers")?;
        let path = match ask {
            Ask::Ingress(name) => format!("/v1/health/ingress/{name}?stale"),
            Ask::Owners(address) => format!("/v1/internal/service-owners/{address}?stale"),
            Ask::Query(name) => format!("/v1/query/{name}/execute?stale"),
        };
        let mut request = Request::get(path);
        if let Some(value) = token.as_ref().and_then(TokenText::header) {
            request = request.header(TokenText::HEADER, value);
        }
        let request = request.body(empty()).map_err(|error| error.to_string())?;
        let answer = servers.forward(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body =
            collect(body, limits::VIEW_BYTES_MAX).await.map_err(|error| error.to_string())?;
        match head.status {
            StatusCode::OK => read(ask, &body),
            // A name that may not be read is not told from one that is not there.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(Found::Nothing),
            other => Err(format!("a server answers {other}")),
        }
    }
}

fn read(ask: &Ask, body: &Bytes) -> Result<Found, String> {
    let unreadable = |error: serde_json::Error| format!("a server's answer is unreadable: {error}");
    match ask {
        Ask::Ingress(name) => {
            let instances: Vec<ServiceInstance> =
                serde_json::from_slice(body).map_err(unreadable)?;
            let service = name.to_string();
            Ok(Found::Instances { service, instances: Arc::new(instances), ttl: None })
        }
        Ask::Owners(_) => {
            let instances = serde_json::from_slice(body).map_err(unreadable)?;
            Ok(Found::Instances {
                service: String::new(),
                instances: Arc::new(instances),
                ttl: None,
            })
        }
        Ask::Query(_) => {
            let executed: Executed = serde_json::from_slice(body).map_err(unreadable)?;
            let ttl = executed.dns.ttl.parse::<Span>().ok().map(|span| span.0);
            let instances = Arc::new(executed.nodes);
            Ok(Found::Instances { service: executed.service, instances, ttl })
        }
    }
}
