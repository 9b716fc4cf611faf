//! Golden scripts: each opens with its goal, and holds what is asked together with the answers.

use std::path::Path;

/// Runs every script of a folder beside the tests, and compares what comes of it with what it
/// says. `WEFT_BLESS=1` writes down what comes instead.
///
/// # Panics
/// When a script says something else, or has no goal, or when there is none.
pub(crate) fn check(folder: &str, run: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there is no script in {}", folder.display());
    for path in scripts {
        let script = std::fs::read_to_string(&path).expect("a script is text");
        assert!(script.starts_with("# "), "{} does not say its goal", path.display());
        let found = run(&script);
        if std::env::var_os("WEFT_BLESS").is_some() {
            std::fs::write(&path, found).expect("a script that can be written");
        } else {
            assert_eq!(script, found, "{}", path.display());
        }
    }
}
