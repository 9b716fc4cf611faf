//! Waiting for a condition: the only place in tests that sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks: short against any wait, long against a look's cost.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `condition` gives a value, and returns it.
///
/// # Panics
/// When the limit passes; the message holds the last reason that the condition gave.
pub fn eventually<T>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) if start.elapsed() >= limit => {
                panic!("not within {limit:?}: {what}; last state: {state}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Looks again and again for as long as `time`; the condition must hold each time.
///
/// # Panics
/// As soon as the condition does not hold.
pub fn consistently(time: Duration, what: &str, mut condition: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Err(state) = condition() {
            panic!("did not stay so for {time:?}: {what}; state: {state}");
        }
        thread::sleep(PAUSE);
    }
}
