//! A lock has one holder at a time, keeps it for as long as it was promised, and stays closed for
//! the lock delay when the holder's session was ended under it.
//!
//! Who acquired it may count on it until they release it, end their session, or the TTL has passed
//! since they last asked for a renewal that was granted. If they did not release it, nobody else
//! gets it before the lock delay has passed too; servers measure that by their wall clocks, so
//! it is judged for as long as those are right.
//!
//! **Source**: Consul: docs/dynamic-app-config/sessions.

use std::collections::BTreeMap;

use weft_core::time::Timestamp;

use crate::history::{Act, LockCall, LockOutcome, Locks};

/// One session's hold of the lock.
struct Hold<'a> {
    acquired: &'a LockCall,
    /// Until here it is certainly its own.
    held_until: Timestamp,
    /// The same, whether or not it was released.
    session_until: Timestamp,
    /// Until here nobody else may have it, if wall clocks are right.
    closed_until: Timestamp,
}

/// `clocks_right_until` is when the first wall clock jumped.
pub(super) fn check(locks: &Locks, clocks_right_until: Timestamp) -> Vec<String> {
    let mut sessions: BTreeMap<&str, Vec<&LockCall>> = BTreeMap::new();
    for call in &locks.calls {
        sessions.entry(&call.session).or_default().push(call);
    }
    let holds: Vec<Hold<'_>> = sessions.values().filter_map(|calls| hold(calls)).collect();
    let mut breaches = Vec::new();
    for (at, one) in holds.iter().enumerate() {
        for other in &holds[at + 1..] {
            if !is_free_for(one, other, clocks_right_until)
                && !is_free_for(other, one, clocks_right_until)
            {
                let [one, other] = [one, other].map(|hold| whole(hold, &sessions));
                breaches
                    .push(format!("two had the lock, or its delay was cut short:\n{one}{other}"));
            }
        }
    }
    breaches.extend(holds.iter().flat_map(|hold| lost(hold, &sessions)));
    breaches.extend(locks.calls.iter().flat_map(|look| seen_elsewhere(look, &holds)));
    breaches.extend(fencing(locks));
    breaches
}

/// What the calls of one session say of its hold; it acquires and releases once.
fn hold<'a>(calls: &[&'a LockCall]) -> Option<Hold<'a>> {
    let done = |it: &&&LockCall| it.outcome == LockOutcome::Done;
    let (ttl_ms, delay_ms) = calls.iter().find_map(|it| match it.act {
        Act::Create { ttl_ms, delay_ms } => Some((ttl_ms, delay_ms)),
        _ => None,
    })?;
    let acquired = calls.iter().filter(done).find(|it| it.act == Act::Acquire).copied()?;
    let granted = calls
        .iter()
        .filter(done)
        .filter(|it| matches!(it.act, Act::Create { .. } | Act::Renew))
        .map(|it| it.called)
        .max()?;
    let first = |act: Act| {
        let asked = calls.iter().filter(|it| it.act == act).map(|it| it.called).min();
        asked.unwrap_or(Timestamp(u64::MAX))
    };
    let session_until = Timestamp(granted.0 + ttl_ms).min(first(Act::Destroy));
    let released = first(Act::Release);
    Some(Hold {
        acquired,
        held_until: session_until.min(released),
        session_until,
        closed_until: Timestamp(session_until.0.saturating_add(delay_ms)).min(released),
    })
}

/// Whether the second can have got the lock after the first.
fn is_free_for(first: &Hold<'_>, second: &Hold<'_>, clocks_right_until: Timestamp) -> bool {
    let got = second.acquired.returned;
    let until = if got < clocks_right_until { first.closed_until } else { first.held_until };
    first.acquired.called <= got && until <= got
}

/// Tells a hold with every call of its session.
fn whole(hold: &Hold<'_>, sessions: &BTreeMap<&str, Vec<&LockCall>>) -> String {
    let (held, closed) = (hold.held_until.0, hold.closed_until.0);
    let mut text = format!("    held until {held}, closed until {closed}:\n");
    for call in sessions.get(hold.acquired.session.as_str()).into_iter().flatten() {
        text.extend(["      ", &told(call), "\n"]);
    }
    text
}

/// A release that was declined although the session lives.
fn lost(hold: &Hold<'_>, sessions: &BTreeMap<&str, Vec<&LockCall>>) -> Option<String> {
    let calls = sessions.get(hold.acquired.session.as_str())?;
    let declined = calls.iter().find(|it| {
        it.act == Act::Release
            && it.outcome == LockOutcome::Declined
            && it.returned < hold.session_until
    })?;
    Some(format!("who had the lock could not release it: {}", told(declined)))
}

/// A read that shows another holder than the one who has it from its call to its answer.
fn seen_elsewhere(look: &LockCall, holds: &[Hold<'_>]) -> Option<String> {
    let LockOutcome::Seen { holder, .. } = &look.outcome else { return None };
    let hold = holds
        .iter()
        .find(|hold| hold.acquired.returned < look.called && look.returned < hold.held_until)?;
    let is_right = holder.as_ref() == Some(&hold.acquired.session);
    (!is_right).then(|| format!("{} has the lock: {}", hold.acquired.session, told(look)))
}

/// A lock index stands for one holder, and never falls.
fn fencing(locks: &Locks) -> Vec<String> {
    let mut by_write: BTreeMap<u64, (u64, &Option<String>)> = BTreeMap::new();
    let mut breaches = Vec::new();
    for look in &locks.calls {
        let LockOutcome::Seen { holder, lock_index, modify_index } = &look.outcome else {
            continue;
        };
        let before = by_write.insert(*modify_index, (*lock_index, holder));
        if before.is_some_and(|before| before != (*lock_index, holder)) {
            breaches.push(format!("index {modify_index} showed another lock: {}", told(look)));
        }
    }
    let mut holders: BTreeMap<u64, &String> = BTreeMap::new();
    let mut newest = 0;
    for (modify_index, (lock_index, holder)) in by_write {
        if lock_index < newest {
            breaches.push(format!("the lock index fell to {lock_index} at index {modify_index}"));
        }
        newest = lock_index;
        let Some(holder) = holder else { continue };
        let before = *holders.entry(lock_index).or_insert(holder);
        if before != holder {
            breaches.push(format!("lock index {lock_index} was {before}'s and {holder}'s"));
        }
    }
    breaches
}

fn told(call: &LockCall) -> String {
    let LockCall { client, server, session, act, called, returned, outcome } = call;
    let (called, returned) = (called.0, returned.0);
    format!(
        "{called}..{returned} client {client} at s{}: {act:?} by {session} -> {outcome:?}",
        server + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Timestamp = Timestamp(u64::MAX);

    fn call(session: &str, act: Act, at: u64, outcome: LockOutcome) -> LockCall {
        let (session, called) = (session.to_owned(), Timestamp(at));
        let returned = Timestamp(at + 1);
        LockCall { client: 0, server: 0, session, act, called, returned, outcome }
    }

    /// A session from 0 with a TTL of 100 and a delay of 50, that acquires the lock.
    fn holder(session: &str, at: u64) -> [LockCall; 2] {
        let create = Act::Create { ttl_ms: 100, delay_ms: 50 };
        [
            call(session, create, 0, LockOutcome::Done),
            call(session, Act::Acquire, at, LockOutcome::Done),
        ]
    }

    fn breaches(calls: &[&[LockCall]], clocks_right_until: Timestamp) -> usize {
        check(&Locks { calls: calls.concat() }, clocks_right_until).len()
    }

    #[test]
    fn two_holders_at_a_time_are_found() {
        assert_eq!(breaches(&[&holder("a", 10), &holder("b", 99)], NEVER), 1);
        let release = call("a", Act::Release, 20, LockOutcome::Done);
        assert_eq!(breaches(&[&holder("a", 10), &[release], &holder("b", 30)], NEVER), 0);
    }

    #[test]
    fn the_delay_counts_where_the_session_ended_and_clocks_are_right() {
        let ended = call("a", Act::Destroy, 20, LockOutcome::Done);
        let (a, ended) = (holder("a", 10), [ended]);
        assert_eq!(breaches(&[&a, &ended, &holder("b", 30)], NEVER), 1);
        assert_eq!(breaches(&[&a, &ended, &holder("b", 30)], Timestamp(25)), 0);
        assert_eq!(breaches(&[&a, &ended, &holder("b", 70)], NEVER), 0);
        // Ended by its TTL.
        assert_eq!(breaches(&[&a, &holder("b", 120)], NEVER), 1);
        assert_eq!(breaches(&[&a, &holder("b", 150)], NEVER), 0);
        let renewed = call("a", Act::Renew, 90, LockOutcome::Done);
        assert_eq!(breaches(&[&a, &[renewed], &holder("b", 150)], NEVER), 1);
    }

    #[test]
    fn a_lock_lost_while_its_session_lives_is_found() {
        let declined = call("a", Act::Release, 20, LockOutcome::Declined);
        assert_eq!(breaches(&[&holder("a", 10), &[declined]], NEVER), 1);
        let seen = |holder: Option<&str>, lock_index, modify_index| LockOutcome::Seen {
            holder: holder.map(str::to_owned),
            lock_index,
            modify_index,
        };
        let look = |at, outcome| call("", Act::Look, at, outcome);
        let a = holder("a", 10);
        assert_eq!(breaches(&[&a, &[look(20, seen(None, 1, 5))]], NEVER), 1);
        assert_eq!(breaches(&[&a, &[look(20, seen(Some("a"), 1, 5))]], NEVER), 0);
        let other = [look(300, seen(Some("a"), 1, 5)), look(400, seen(Some("b"), 1, 9))];
        assert_eq!(breaches(&[&other], NEVER), 1);
    }
}
