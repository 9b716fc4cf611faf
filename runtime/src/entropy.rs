//! Randomness of the operating system; the only place that asks for it.
//!
//! Decisions take a generator as an argument, so that a test can seed it.

use rand::SeedableRng;
use rand::TryRngCore;
use rand::rngs::{OsRng, StdRng};

/// Fills the bytes with randomness fit for keys and secrets.
///
/// # Panics
/// When the operating system has none to give, which Linux does only before its first boot
/// phase is over; nothing secure can be done then.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(feature = "sim")]
    if let Some(world) = crate::world::current() {
        return world.fill(bytes);
    }
    OsRng.try_fill_bytes(bytes).expect("the operating system has randomness after boot");
}

/// Returns a fast generator, seeded by the operating system.
pub fn rng() -> StdRng {
    let mut seed = <StdRng as SeedableRng>::Seed::default();
    fill(&mut seed);
    StdRng::from_seed(seed)
}

/// Returns a generator that gives the same numbers each time, for tests.
pub fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Returns a random UUID in its text form.
///
/// **Source**: Spec: RFC 9562 §5.4 (version 4).
pub fn uuid() -> String {
    let mut bytes = [0u8; 16];
    fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_version_and_variant_and_differ() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(&a[14..15], "4");
        assert!(["8", "9", "a", "b"].contains(&&a[19..20]), "{a}");
    }
}
