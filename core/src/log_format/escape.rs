//! Texts of requests made harmless: whatever they hold, a line stays one line and a field a field.

use std::fmt::Write as _;

/// Returns a text as it may be shown to people: it moves no cursor and breaks no line.
pub fn shown_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_text(text, &mut shown);
    shown
}

/// Appends a text to a line for people, in the way in which it would be written in a program.
pub(super) fn push_text(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if is_plain(letter) => out.push(letter),
            // Writing into a String cannot fail.
            _ => drop(write!(out, "{}", letter.escape_default())),
        }
    }
}

/// Appends a text as a JSON string, quotes included.
pub(super) fn push_json(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if is_plain(letter) => out.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Whether a letter can stand for itself: it moves no cursor, breaks no line and turns no text
/// around.
fn is_plain(letter: char) -> bool {
    let is_layout = matches!(
        letter,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !letter.is_control() && !is_layout
}
