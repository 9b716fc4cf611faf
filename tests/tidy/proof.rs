//! Tests that tell the truth: none is switched off, none hopes for the best by sleeping.

use crate::tree::{SourceFile, Tree, Violation};

/// Where waiting is made: one bounded loop, the load generators' pacing, and simulated time, in
/// which every wait is exact and costs nothing.
const WAITING_PLACES: [&str; 3] = ["tests/harness/src/eventually.rs", "tests/bench", "tests/sim/"];

/// A pause this close below its `while` or `loop` belongs to a wait for a condition.
const LOOP_LINES: usize = 4;

/// No ignored test; no sleep in a test unless its clock is paused or it polls a condition.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    tree.sources.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Violation> {
    let mut found = Vec::new();
    let paused = file.layers.code.contains("start_paused = true")
        || file.layers.code.contains("time::pause()");
    let waits_here = WAITING_PLACES.iter().any(|place| file.path.starts_with(place));
    for (line, text) in file.layers.code.lines().enumerate() {
        if text.contains("#[ignore") || text.contains(", ignore)]") {
            found.push(Violation::at(
                file.place(line),
                "no ignored tests: mend it, or assert the wrong behaviour and say why it stands",
            ));
        }
        let sleeps = ["sleep(", "sleep_until(", "sleep_ms("].iter().any(|call| calls(text, call));
        let polls = || {
            let above = file.layers.code.lines().skip(line.saturating_sub(LOOP_LINES));
            above.take(LOOP_LINES.min(line)).any(|l| l.contains("while ") || l.contains("loop {"))
        };
        if sleeps && !file.is_production(line) && !paused && !waits_here && !polls() {
            found.push(Violation::at(
                file.place(line),
                "no sleeps in tests: wait for a condition with `eventually`, or pause the clock \
                 with `start_paused = true`",
            ));
        }
    }
    found
}

/// Whether the line calls the function, and does not merely define one with such a name.
fn calls(text: &str, call: &str) -> bool {
    text.match_indices(call).any(|(at, _)| {
        let before = &text[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with("fn ")
    })
}

#[test]
fn planted_dishonest_tests_are_found() {
    let count = |path: &str, text: &str| check(&Tree::planted(&[(path, text)])).len();
    assert_eq!(count("agent/src/a.rs", "#[test]\n#[ignore]\nfn f() {}\n"), 1);
    assert_eq!(count("agent/src/a.rs", "#[test]\nfn f() { std::thread::sleep(d); }\n"), 1);
    assert_eq!(count("tests/e2e/a.rs", "fn f() { sleep(d); }\n"), 1);
    let polling = "fn f() {\n    while !ready() {\n        sleep(d);\n    }\n}\n";
    assert_eq!(count("tests/e2e/a.rs", polling), 0);
    assert_eq!(count("tests/harness/src/eventually.rs", "fn f() { sleep(d); }\n"), 0);
    assert_eq!(count("agent/src/a.rs", "async fn f() { tokio::time::sleep(d).await; }\n"), 0);
    assert_eq!(
        count(
            "agent/src/a.rs",
            "#[tokio::test(start_paused = true)]\nasync fn f() { sleep(d).await; }\n"
        ),
        0
    );
}
