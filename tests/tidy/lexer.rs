//! Splits Rust source into code, comments and string text without a parser.
//!
//! Every output has the same lines and columns as the input: what does not belong is replaced by
//! blanks. So a rule can look for a word in code and never meet it in a comment.

/// The three views of one source text.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Code with comments and the inside of strings blanked.
    pub(crate) code: String,
    /// Comments only.
    pub(crate) comments: String,
    /// The inside of string literals only.
    pub(crate) strings: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Str,
}

/// Splits `text` into its layers.
pub(crate) fn split(text: &str) -> Layers {
    let chars: Vec<char> = text.chars().collect();
    let kinds = classify(&chars);
    let layer = |wanted: Kind| -> String {
        chars
            .iter()
            .zip(&kinds)
            .map(|(&c, &kind)| if c == '\n' || kind == wanted { c } else { ' ' })
            .collect()
    };
    Layers { code: layer(Kind::Code), comments: layer(Kind::Comment), strings: layer(Kind::Str) }
}

fn classify(chars: &[char]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (end, kind) = token(chars, at);
        // The quotes of a string stay code, so that `"" ` is still visible as a literal.
        let (from, to) =
            if kind == Kind::Str { (at + 1, end.saturating_sub(1)) } else { (at, end) };
        for slot in kinds.iter_mut().take(to).skip(from) {
            *slot = kind;
        }
        at = end.max(at + 1);
    }
    kinds
}

/// The end of the token that starts at `at`, and its kind; plain code goes one char at a time.
fn token(chars: &[char], at: usize) -> (usize, Kind) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (line_end(chars, at), Kind::Comment),
        '/' if next == Some('*') => (block_end(chars, at), Kind::Comment),
        '"' => (string_end(chars, at), Kind::Str),
        'r' if !follows_word(chars, at) && raw_hashes(chars, at + 1).is_some() => {
            let hashes = raw_hashes(chars, at + 1).unwrap_or(0);
            (raw_end(chars, at + 1 + hashes, hashes), Kind::Str)
        }
        'b' if !follows_word(chars, at)
            && next == Some('r')
            && raw_hashes(chars, at + 2).is_some() =>
        {
            let hashes = raw_hashes(chars, at + 2).unwrap_or(0);
            (raw_end(chars, at + 2 + hashes, hashes), Kind::Str)
        }
        '\'' => (char_end(chars, at), Kind::Str),
        _ => (at + 1, Kind::Code),
    }
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The number of `#` between `at` and a quote, if a raw string starts here.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at.min(chars.len())..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(chars: &[char], quote: usize, hashes: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() {
        let closes = chars[i] == '"'
            && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// A char literal ends after its closing quote; a lifetime is only its apostrophe.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => chars[(at + 3).min(chars.len())..]
            .iter()
            .position(|&c| c == '\'')
            .map_or(at + 1, |n| at + 4 + n),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

#[test]
fn comments_and_strings_are_blanked_from_code() {
    let layers =
        split("let a = \"tokio::spawn\"; // tokio::net\nlet b = r#\"x\"y\"#; let c = '\"';");
    assert!(!layers.code.contains("spawn") && !layers.code.contains("net"));
    assert!(layers.code.contains("let b") && layers.code.contains("let c"));
    assert!(layers.comments.contains("tokio::net"));
    assert!(layers.strings.contains("tokio::spawn"));
}

#[test]
fn lifetimes_do_not_open_a_literal() {
    let layers = split("fn f<'a>(x: &'a str) -> &'a str { g('\\'', 'b', x) } /* end */ fn h() {}");
    assert!(layers.code.contains("fn h() {}") && layers.code.contains("&'a str"));
}
