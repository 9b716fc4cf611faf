//! What plain scalars mean to Kubernetes, which reads YAML 1.1, and which texts may stand plain.
//!
//! **Source**: YAML 1.2.2 §7.3.3; the schema of YAML 1.1 as far as `kubectl` takes it.

use serde_json::{Number, Value};

/// Returns what a plain scalar means.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if let Some(whole) = whole_number(text) {
        return Value::Number(whole);
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    let number = text.parse::<f64>().ok().filter(|_| is_number).and_then(Number::from_f64);
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Decimal, hexadecimal, binary, and octal in both forms: `0o644` and `0644`.
fn whole_number(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let size = u64::from_str_radix(digits, radix).ok()?;
    if is_negative { 0_i64.checked_sub_unsigned(size).map(Number::from) } else { Some(size.into()) }
}

/// Returns whether a text means itself when it stands without quotes, to any reader of YAML.
pub(super) fn is_plain_text(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let of_words = text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-=:,@+".contains(c));
    let is_short_bool = matches!(text, "y" | "Y" | "n" | "N");
    starts && of_words && !text.ends_with(':') && !is_short_bool && resolve(text).is_string()
}
