//! `/v1/agent/proxies`: the proxies of this host, and what each has in force.

use http::Response;
use weft_core::acl::Resource;
use weft_core::proxycfg::{Problem, Subject};
use weft_core::time::Timestamp;
use weft_proto::json::proxies::{ProxyBody, ProxyState, RefusedBody};
use weft_runtime::http::Body;

use super::answer::{self, ApiError};
use super::{Api, Call};
use crate::acl::Question;
use crate::proxycfg::{Proxy, ProxyStatus};

impl Api {
    pub(super) async fn proxies(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let shown = self.parts.proxies.all().into_iter().map(|proxy| {
            let service = self.parts.proxies.service_of(&proxy.id);
            // A proxy that names no service is nobody's but its own.
            let service = service.map_or_else(|| proxy.id.to_string(), |it| it.to_string());
            let body = shown(&proxy, &service);
            (Question::read(Resource::Service, &body.service), body)
        });
        let (seen, is_filtered) = self.seen(call.token.as_ref(), shown.collect()).await?;
        Ok(answer::list(&seen, call.query.has("pretty"), is_filtered))
    }
}

fn shown(proxy: &Proxy, service: &str) -> ProxyBody {
    let snapshot = proxy.snapshot().borrow().clone();
    let status = proxy.status();
    let newest = snapshot.as_ref().map(|snapshot| snapshot.version);
    let time = |at: Option<Timestamp>| at.map(Timestamp::rfc3339).unwrap_or_default();
    let program = status.program.as_ref();
    let shape = program.map(|it| if it.is_hosted { "host" } else { "sidecar" });
    let is_connected = status.connections > 0;
    ProxyBody {
        proxy_id: proxy.id.to_string(),
        service: service.to_owned(),
        state: state(&status, newest),
        shape: shape.unwrap_or_default().to_owned(),
        pid: program.and_then(|program| program.pid),
        version: program.map(|program| program.version.clone()).unwrap_or_default(),
        generation: program.map_or(0, |program| program.generation),
        connected_since: time(program.map(|_| status.connected_at)),
        last_seen: time(status.left_at.filter(|_| !is_connected)),
        configuration: newest.unwrap_or(0),
        acknowledged: status.acknowledged.unwrap_or(0),
        acknowledged_at: time(status.acknowledged_at),
        refused: status.refusal.map(|refusal| RefusedBody {
            version: refusal.version,
            reason: refusal.reason,
            at: refusal.at.rfc3339(),
        }),
        missing_listeners: status.missing_listeners,
        problems: status.problems.iter().map(problem).collect(),
        leaf_valid_before: time(snapshot.map(|snapshot| snapshot.leaf.valid_before)),
    }
}

fn state(status: &ProxyStatus, newest: Option<u64>) -> ProxyState {
    let refused = status.refusal.as_ref().map(|refusal| refusal.version);
    match (status.connections, newest) {
        (0, _) if status.program.is_none() => ProxyState::NeverConnected,
        (0, _) => ProxyState::Disconnected,
        (_, None) => ProxyState::Waiting,
        (_, Some(_)) if refused == newest => ProxyState::Refused,
        (_, Some(_)) if status.acknowledged != newest => ProxyState::Pending,
        (_, Some(_)) if status.missing_listeners.is_empty() => ProxyState::InForce,
        (_, Some(_)) => ProxyState::ListenersMissing,
    }
}

fn problem(problem: &Problem) -> String {
    match &problem.subject {
        Subject::Proxy => problem.reason.clone(),
        Subject::Upstream(upstream) => format!("upstream {upstream}: {}", problem.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxycfg::{Program, Refusal};

    #[test]
    fn a_word_says_how_a_proxy_stands() {
        let program = || {
            let version = "1".to_owned();
            Some(Program { version, pid: None, is_hosted: false, generation: 0 })
        };
        let refusal = |version| {
            let (reason, at) = ("bad".to_owned(), Timestamp(0));
            Some(Refusal { version, reason, at })
        };
        let connected =
            || ProxyStatus { connections: 1, program: program(), ..ProxyStatus::default() };
        let acked = |version| ProxyStatus { acknowledged: Some(version), ..connected() };
        for (status, newest, expected) in [
            (ProxyStatus::default(), Some(2), ProxyState::NeverConnected),
            (ProxyStatus { connections: 0, ..acked(2) }, Some(2), ProxyState::Disconnected),
            (connected(), None, ProxyState::Waiting),
            (connected(), Some(2), ProxyState::Pending),
            (acked(1), Some(2), ProxyState::Pending),
            (acked(2), Some(2), ProxyState::InForce),
            (
                ProxyStatus { missing_listeners: vec!["a".to_owned()], ..acked(2) },
                Some(2),
                ProxyState::ListenersMissing,
            ),
            (ProxyStatus { refusal: refusal(2), ..acked(1) }, Some(2), ProxyState::Refused),
            (ProxyStatus { refusal: refusal(2), ..acked(1) }, Some(3), ProxyState::Pending),
        ] {
            assert_eq!(state(&status, newest), expected, "{status:?} {newest:?}");
        }
    }
}
