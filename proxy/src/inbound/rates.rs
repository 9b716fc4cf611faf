//! How many requests and connections of callers are let through: tokens are taken here, and it is counted
//! and told who gets none. What takes which is [`weft_core::traffic::limit`]'s affair.

use http::header::{self, HeaderName, HeaderValue};
use tracing::debug;
use weft_core::canonical_path::{CanonicalPath, UnclearPath};
use weft_core::name::ServiceName;
use weft_core::traffic::RequestView;
use weft_core::traffic::limit::{Admission, Asker, Exceeded};
use weft_runtime::clock;

use crate::http::Refusal;
use crate::listen::{Caller, Local, Worker};
use crate::observe::RateResult;

/// **Source**: gRPC: status codes.
const RESOURCE_EXHAUSTED: u8 = 8;

/// Takes tokens for a request, or says that there are none.
pub(super) fn meter<R: RequestView + ?Sized>(
    (worker, local): (&Worker, &Local),
    caller: &Caller,
    (request, path): (&R, Result<&CanonicalPath, UnclearPath>),
) -> Result<(), Refusal> {
    let Some(limiter) = &local.workload.limiter else { return Ok(()) };
    let path = path.map_or_else(|_| request.path(), CanonicalPath::as_bytes);
    let dice = &mut worker.random.borrow_mut();
    let admission = limiter.admit(asker(caller), (request, path), (clock::instant(), dice));
    match counted(caller, admission) {
        Some(exceeded) => Err(refusal(&exceeded, &local.workload.snapshot.service)),
        None => Ok(()),
    }
}

/// Takes tokens for a connection that carries bytes; whether there were any.
pub(super) fn may_open((worker, local): (&Worker, &Local), caller: &Caller) -> bool {
    let Some(limiter) = &local.workload.limiter else { return true };
    let dice = &mut worker.random.borrow_mut();
    let admission = limiter.admit_connection(asker(caller), (clock::instant(), dice));
    let exceeded = counted(caller, admission);
    if let Some(exceeded) = exceeded {
        debug!(caller = %caller.id, bucket = exceeded.name, "connection refused by its rate");
    }
    exceeded.is_none()
}

fn asker(caller: &Caller) -> Asker<'_> {
    Asker { identity: &caller.id, address: caller.address() }
}

/// Counts what became of a request or connection; returns what refuses it.
fn counted<'a>(caller: &Caller, admission: Admission<'a>) -> Option<Exceeded<'a>> {
    let (result, exceeded) = match admission {
        Admission::Unmetered => return None,
        Admission::Within => (RateResult::Within, None),
        Admission::Shadowed(_) => (RateResult::Shadowed, None),
        Admission::Refused(exceeded) => (RateResult::Limited, Some(exceeded)),
    };
    caller.flow.metered(result);
    exceeded
}

/// **Source**: Spec: RFC 6585 §4; draft-ietf-httpapi-ratelimit-headers-10; Envoy: rate limit filters.
fn refusal(exceeded: &Exceeded<'_>, service: &ServiceName) -> Refusal {
    let (name, seconds) = (exceeded.name, exceeded.retry_after());
    let message = format!(
        "{service} takes no more requests of this kind now: the rate limit {name} is reached; ask again \
         in {seconds} s"
    );
    let mut refusal = Refusal::new(exceeded.status, "rate-limited", message)
        .with_field(header::RETRY_AFTER, HeaderValue::from(seconds));
    refusal.grpc_status = Some(RESOURCE_EXHAUSTED);
    let texts = [
        ("ratelimit-policy", exceeded.policy()),
        ("ratelimit", exceeded.standing()),
        ("x-ratelimit-limit", exceeded.rate.max.to_string()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", seconds.to_string()),
        // Who tries again at once makes it worse.
        ("x-envoy-ratelimited", "true".to_owned()),
    ];
    for (name, text) in texts {
        // The name of a bucket is a token, so this cannot fail.
        if let Ok(value) = HeaderValue::try_from(text) {
            refusal = refusal.with_field(HeaderName::from_static(name), value);
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use weft_core::config_entry::{RateLimitBucket, RateLimits};
    use weft_core::time::Span;
    use weft_core::traffic::Mix64;
    use weft_core::traffic::limit::Limiter;

    use super::*;

    #[test]
    fn threads_together_get_no_token_more() {
        let bucket = RateLimitBucket {
            name: "all".to_owned(),
            max_tokens: 1_000,
            fill_interval: Span::seconds(3_600),
            ..RateLimitBucket::default()
        };
        let limits = RateLimits { buckets: vec![bucket], ..RateLimits::default() };
        let now = clock::instant();
        let limiter = Limiter::new(&limits, None, (7, now)).expect("no expressions");
        let identity =
            "spiffe://mesh.weft/ns/default/dc/dc1/svc/shop".parse().expect("an identity");
        let take = |seed: u64| {
            let (mut dice, later) = (Mix64::new(seed), now + Duration::from_millis(seed));
            let asker = Asker { identity: &identity, address: None };
            let got =
                |_: &u32| limiter.admit_connection(asker, (later, &mut dice)) == Admission::Within;
            (0..2_000).filter(got).count()
        };
        let passed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || take(seed))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it counts")).sum()
        });
        assert_eq!(passed, 1_000);
    }
}
