//! Numbers that a simulation turns, so that rare paths become common; constants everywhere else.

/// Returns `default`, or what a simulated host has under this name.
///
/// Without the feature `sim` it is the constant itself.
#[inline]
pub fn knob(name: &'static str, default: u64) -> u64 {
    #[cfg(feature = "sim")]
    if let Some(world) = crate::world::current() {
        return world.knob(name).unwrap_or(default);
    }
    // The name is for the simulation alone.
    let _ = name;
    default
}
