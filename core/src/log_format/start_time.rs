//! The argument of `%START_TIME(…)%`: a date in the words of `strftime`.

use std::fmt::Write as _;

use crate::time::Timestamp;

/// A form of a date, in UTC.
///
/// **Source**: Envoy: access log format, `%START_TIME%`; POSIX: `strftime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeFormat(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// Of the second, with this many digits.
    Fraction(usize),
    /// RFC 3339 with milliseconds.
    Whole,
    Word(char),
}

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// What may follow a `%`, the fractions of a second aside.
const WORDS: &str = "AaBbDdeFHIjMmpRSsTYyZz%";

impl Default for TimeFormat {
    /// RFC 3339 with milliseconds.
    fn default() -> Self {
        Self(vec![Piece::Whole])
    }
}

impl TimeFormat {
    /// Reads a form; the error names what is not understood.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                match pieces.last_mut() {
                    Some(Piece::Literal(text)) => text.push(letter),
                    Some(Piece::Fraction(_) | Piece::Whole | Piece::Word(_)) | None => {
                        pieces.push(Piece::Literal(letter.to_string()));
                    }
                }
                continue;
            }
            pieces.push(match (letters.next(), letters.as_str().chars().next()) {
                (Some('f'), _) => Piece::Fraction(9),
                (Some(digit @ '1'..='9'), Some('f')) => {
                    letters.next();
                    Piece::Fraction(digit as usize - '0' as usize)
                }
                (Some(word), _) if WORDS.contains(word) => Piece::Word(word),
                (Some(word), _) => return Err(format!("%{word} is no part of a date")),
                (None, _) => return Err("a date ends with a single %".to_owned()),
            });
        }
        Ok(Self(pieces))
    }

    /// Appends a moment, in nanoseconds since 1970.
    pub(super) fn write(&self, ns: u64, out: &mut String) {
        let at = Timestamp(ns / 1_000_000).rfc3339();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Fraction(digits) => {
                    let nanos = format!("{:09}", ns % 1_000_000_000);
                    out.push_str(&nanos[..*digits]);
                }
                Piece::Whole => out.push_str(&at),
                Piece::Word(word) => write_word(*word, ns / 1_000_000_000, &at, out),
            }
        }
    }
}

/// Appends one part of a date, given in seconds since 1970 and as RFC 3339.
fn write_word(word: char, seconds: u64, at: &str, out: &mut String) {
    let (year, month, day, hour) = (&at[..4], &at[5..7], &at[8..10], &at[11..13]);
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    let day_of_week = DAYS[(seconds / 86_400 + 4) as usize % 7];
    let name_of_month = MONTHS[number(month).saturating_sub(1) % 12];
    // Writing into a String cannot fail.
    let _ = match word {
        'A' => write!(out, "{day_of_week}"),
        'a' => write!(out, "{}", &day_of_week[..3]),
        'B' => write!(out, "{name_of_month}"),
        'b' => write!(out, "{}", &name_of_month[..3]),
        'D' => write!(out, "{month}/{day}/{}", &year[2..]),
        'd' => write!(out, "{day}"),
        'e' => write!(out, "{:>2}", number(day)),
        'F' => write!(out, "{}", &at[..10]),
        'H' => write!(out, "{hour}"),
        'I' => write!(out, "{:02}", (number(hour) + 11) % 12 + 1),
        'j' => write!(out, "{:03}", day_of_year(number(year), number(month), number(day))),
        'M' => write!(out, "{}", &at[14..16]),
        'm' => write!(out, "{month}"),
        'p' => write!(out, "{}", if number(hour) < 12 { "AM" } else { "PM" }),
        'R' => write!(out, "{}", &at[11..16]),
        'S' => write!(out, "{}", &at[17..19]),
        's' => write!(out, "{seconds}"),
        'T' => write!(out, "{}", &at[11..19]),
        'Y' => write!(out, "{year}"),
        'y' => write!(out, "{}", &year[2..]),
        'Z' => write!(out, "UTC"),
        'z' => write!(out, "+0000"),
        _ => write!(out, "%"),
    };
}

fn day_of_year(year: usize, month: usize, day: usize) -> usize {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    before[month.saturating_sub(1) % 12] + day + usize::from(is_leap && month > 2)
}
