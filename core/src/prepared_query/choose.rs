//! Which instances a query means.

use super::QueryService;
use crate::catalog::{CheckStatus, ServiceInstance, aggregate_status};

/// Leaves those instances that the question asks for, in their order.
///
/// **Source**: Consul: api-docs/query#create-prepared-query: critical ones never, those with a
/// warning unless `OnlyPassing`; checks in `IgnoreCheckIDs` do not count; a tag with `!` must
/// not be there.
pub fn choose(question: &QueryService, instances: &mut Vec<ServiceInstance>) {
    let worst = if question.only_passing { CheckStatus::Passing } else { CheckStatus::Warning };
    instances.retain(|instance| {
        let counts = |id: &str| !question.ignore_check_ids.iter().any(|ignored| ignored == id);
        let checks = instance.checks.iter().filter(|check| counts(check.id.as_str()));
        aggregate_status(checks.map(|check| check.status)) <= worst
            && has_tags(&question.tags, &instance.service.tags)
            && question
                .node_meta
                .iter()
                .all(|(key, value)| instance.node.meta.get(key) == Some(value))
            && question
                .service_meta
                .iter()
                .all(|(key, value)| instance.service.meta.get(key) == Some(value))
    });
}

/// Tags are compared without regard to case, as in DNS.
fn has_tags(wanted: &[String], tags: &[String]) -> bool {
    let has = |wanted: &str| tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted));
    wanted.iter().all(|wanted| match wanted.strip_prefix('!') {
        Some(unwanted) => !has(unwanted),
        None => has(wanted),
    })
}
