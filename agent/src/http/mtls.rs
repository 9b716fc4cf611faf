//! `/v1/agent/mtls`: which services of this host take connections without mutual TLS, and from
//! whom they came.

use http::Response;
use weft_core::acl::Resource;
use weft_proto::json::mtls::{MtlsBody, MtlsSource};
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call};
use crate::acl::Question;
use crate::proxycfg::{Plaintext, Proxy};

impl Api {
    pub(super) async fn mtls(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let shown = self.parts.proxies.all().into_iter().filter_map(|proxy| {
            let body = shown(&proxy)?;
            Some((Question::read(Resource::Service, &body.service), body))
        });
        let token = call.token.clone();
        let (seen, _) = self.seen(token.as_ref(), shown.collect()).await?;
        let body = serde_json::to_value(seen).map_err(|error| {
            ApiError::Unavailable(format!("the answer cannot be written: {error}"))
        })?;
        Ok(answer::json(&body, call.query.has("pretty")))
    }
}

/// What there is to say of a sidecar; `None` until it has a configuration.
fn shown(proxy: &Proxy) -> Option<MtlsBody> {
    let snapshot = proxy.snapshot().borrow().clone()?;
    let status = proxy.status();
    let Plaintext { since, sources } = match status.plaintext {
        Some(plaintext) => plaintext,
        None => Plaintext { since: Default::default(), sources: Vec::new() },
    };
    let is_counted = since.0 > 0;
    let sources = sources.into_iter().map(|it| MtlsSource {
        source: it.source,
        connections: it.connections,
        last_seen: it.last.rfc3339(),
        last_seen_ms: it.last.0,
    });
    Some(MtlsBody {
        proxy_id: proxy.id.to_string(),
        service: snapshot.service.to_string(),
        mode: if snapshot.inbound.takes_plaintext { "permissive" } else { "strict" }.to_owned(),
        is_connected: status.connections > 0,
        counted_since: if is_counted { since.rfc3339() } else { String::new() },
        counted_since_ms: since.0,
        sources: sources.collect(),
    })
}
