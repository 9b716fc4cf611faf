//! libFuzzer's way in: `WEFT_FUZZ_TARGET` names the target.
#![no_main]

mod targets;

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("WEFT_FUZZ_TARGET").expect("WEFT_FUZZ_TARGET names a target");
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        found.expect("a target of tests/fuzz/targets.rs").1
    });
    target(bytes);
});
