//! Replicas that have applied the same entries hold the same state, to the last byte.

/// Each server's name with the last index it has applied and its state, written down.
pub(crate) fn check(states: &[(String, u64, Vec<u8>)]) -> Vec<String> {
    let mut breaches = Vec::new();
    for pair in states.windows(2) {
        let [(one, at, state), (other, other_at, other_state)] = pair else { continue };
        if at != other_at {
            breaches.push(format!("{one} is at index {at}, {other} at {other_at}, long after"));
        } else if state != other_state {
            breaches.push(format!("{one} and {other} differ at index {at}"));
        }
    }
    breaches
}
