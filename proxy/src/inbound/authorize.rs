//! May this caller do that? Asked when a connection comes in and again for each request that is
//! judged by its content; asked anew of all that is under way when the workload changes.

use http::{HeaderValue, header};
use weft_core::config_entry::IntentionPrecedence;
use weft_core::intention::{Cause, Judge, Judgement, TokenWant};
use weft_core::name::ServiceName;

use super::under_way::Rules;
use crate::http::Refusal;
use crate::listen::{Caller, Live};
use crate::workload::Workload;

/// Judges a connection as a whole.
pub(super) fn judge_connection<'a>(workload: &'a Workload, caller: &Caller) -> Judgement<'a> {
    let port = workload.snapshot.inbound.local_app.port();
    workload.judge.evaluate(workload.judge.standing(&caller.service), &caller.call(port, None))
}

/// Cuts what is under way on a connection and no longer allowed; returns whether anything was cut.
pub(crate) fn judge_again(workload: &Workload, live: &Live) -> bool {
    let Some(caller) = live.caller() else { return false };
    let judge: &Judge = &workload.judge;
    let standing = judge.standing(&caller.service);
    if judge.is_by_content(standing) {
        let port = workload.snapshot.inbound.local_app.port();
        let rules = Rules { judge, standing, caller: &caller, port };
        let is_cut = live.under_way.cut_refused(&rules);
        if live.has_one_request() && !live.under_way.is_alone_allowed(&rules) {
            live.cut();
            return true;
        }
        is_cut
    } else if live.is_busy() && !judge_connection(workload, &caller).allowed {
        live.cut();
        true
    } else {
        false
    }
}

/// Explains a refusal to the caller: who asked for what, which rule refused, and what to do.
pub(super) fn refusal(
    judge: &Judge,
    judgement: &Judgement<'_>,
    caller: &Caller,
    service: &ServiceName,
) -> Refusal {
    let Caller { id: caller, service: name, .. } = caller;
    let why = judge.explain(judgement, name, service);
    if let Cause::NoToken(want) | Cause::NoTokenFor(_, want) = judgement.cause {
        let error = match want {
            TokenWant::Missing => "Bearer",
            TokenWant::Refused(_) => "Bearer error=\"invalid_token\"",
            // Another token of the same kind would not help: who it is is known.
            TokenWant::Claims => "",
        };
        if !error.is_empty() {
            let message = format!("{caller} must not call {service} like this. {why}.");
            return Refusal::new(401, "token-refused", message)
                .with_field(header::WWW_AUTHENTICATE, HeaderValue::from_static(error));
        }
    }
    let overrides = judge.set().precedence == IntentionPrecedence::DenyOverrides;
    let remedy = match judgement.by {
        Some(_) if overrides && matches!(judgement.cause, Cause::Action | Cause::Permission(_)) => {
            "To allow it, change that denial: no other intention can allow what it denies."
                .to_owned()
        }
        Some(by) if !by.permissions.is_empty() => {
            format!("To allow it, add a permission to the source {} there.", by.source)
        }
        Some(_) | None => format!(
            "To allow it, write a service-intentions entry for {service} with the source {name} \
             and the action allow."
        ),
    };
    Refusal::new(
        403,
        "intention-denied",
        format!("{caller} must not call {service}. {why}. {remedy}"),
    )
}
