//! "Did you mean …": the known word nearest to the one written.

/// Returns the form in which words are compared: lower case, without underscores.
pub(super) fn folded(word: &str) -> String {
    word.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns the candidate nearest to `word`, if one is near enough to be meant.
pub(crate) fn suggestion<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = folded(word);
    if word.chars().count() > WORD_CHARS_MAX {
        return None;
    }
    // A third of the letters wrong is another word; a slip in a short word is one letter.
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| (distance(&word, &folded(candidate)), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Characters of a word for which a suggestion is sought: the cost grows with them.
const WORD_CHARS_MAX: usize = 64;

/// Returns how many letters to insert, remove, replace or swap with their neighbour to get from
/// one word to the other (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_mended_and_other_words_are_not() {
        let fields = ["Protocol", "Port", "SidecarService", "ID"];
        for (word, meant) in [
            ("Prot", Some("Port")),
            ("protocl", Some("Protocol")),
            ("sidecar_servcie", Some("SidecarService")),
            ("Upstreams", None),
            ("", None),
        ] {
            assert_eq!(suggestion(word, &fields), meant, "{word}");
        }
        assert_eq!(suggestion(&"x".repeat(100_000), &fields), None);
    }
}
