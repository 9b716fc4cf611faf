//! Where the code claims or exempts something, it says why.

use crate::tree::{SourceFile, Tree, Violation, line_of};

/// A claim of fewer words states no invariant.
const EXPECT_WORDS_MIN: usize = 3;

/// `expect` states an invariant, `allow` gives a reason, public docs stay on.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.sources {
        found.extend(thin_expectations(file));
        found.extend(silent_exemptions(file));
    }
    found
}

/// `.expect("…")` with a sentence. A method of our own called `expect` takes no literal.
fn thin_expectations(file: &SourceFile) -> Vec<Violation> {
    let code = &file.layers.code;
    let mut found = Vec::new();
    for (at, _) in code.match_indices(".expect(") {
        let line = line_of(code, at);
        if !file.is_production(line) {
            continue;
        }
        let argument = at + ".expect(".len();
        let blanks = code[argument..].len() - code[argument..].trim_start().len();
        let open = argument + blanks;
        if !code[open..].starts_with('"') {
            continue;
        }
        let close = code[open + 1..].find('"').map_or(code.len(), |n| open + 1 + n);
        let words = slice_of(&file.text, code, open + 1, close).split_whitespace().count();
        if words < EXPECT_WORDS_MIN {
            found.push(Violation::at(
                file.place(line),
                "`expect` states the invariant that makes it safe, in a sentence",
            ));
        }
    }
    found
}

/// The text behind a range of the code layer. Layers have the same chars, not the same bytes.
fn slice_of(text: &str, code: &str, from: usize, to: usize) -> String {
    let skip = code[..from].chars().count();
    let take = code[from..to].chars().count();
    text.chars().skip(skip).take(take).collect()
}

fn silent_exemptions(file: &SourceFile) -> Vec<Violation> {
    let code: Vec<&str> = file.layers.code.lines().collect();
    let comments: Vec<&str> = file.layers.comments.lines().collect();
    let mut found = Vec::new();
    for (line, text) in code.iter().enumerate() {
        let exempts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
            .iter()
            .any(|marker| text.contains(marker));
        if !exempts {
            continue;
        }
        let explained = |at: usize| {
            comments.get(at).is_some_and(|c| {
                let c = c.trim();
                !c.is_empty() && !c.starts_with("///") && c.split_whitespace().count() > 3
            })
        };
        let attribute: String = code[line..].iter().take(6).copied().collect::<Vec<_>>().join(" ");
        let attribute = attribute.split(']').next().unwrap_or_default();
        let has_reason = attribute.contains("reason =");
        let is_explained = has_reason || explained(line) || (line > 0 && explained(line - 1));
        if !is_explained {
            found.push(Violation::at(
                file.place(line),
                "an exemption from a lint gives its reason: `#[expect(lint, reason = \"…\")]`",
            ));
        }
        if attribute.contains("missing_docs") && hides_documented_crate(file) {
            found.push(Violation::at(
                file.place(line),
                "public items of core, proto and runtime are documented: write the sentence",
            ));
        }
    }
    found
}

fn hides_documented_crate(file: &SourceFile) -> bool {
    // The generated gRPC modules carry the comments of the .proto files only.
    file.path != "proto/src/grpc.rs"
        && ["core/src/", "proto/src/", "runtime/src/"].iter().any(|c| file.path.starts_with(c))
}

#[test]
fn planted_thin_claims_are_found() {
    let count = |text: &str| check(&Tree::planted(&[("core/src/a.rs", text)])).len();
    assert_eq!(count("fn f() { x.expect(\"ok\"); }"), 1);
    assert_eq!(count("fn f() { x\n.expect(\n\"\"); }"), 1);
    assert_eq!(count("fn f() { x.expect(\"the map was filled above\"); }"), 0);
    assert_eq!(count("fn f() { parser.expect(Token::Comma); }"), 0);
    assert_eq!(count("#[allow(dead_code)]\nfn f() {}"), 1);
    assert_eq!(
        count("// Kept for the wire form of version one.\n#[allow(dead_code)]\nfn f() {}"),
        0
    );
    assert_eq!(count("#[expect(dead_code, reason = \"wire form\")]\nfn f() {}"), 0);
    assert_eq!(count("#[expect(missing_docs, reason = \"later\")]\npub fn f() {}"), 1);
}
