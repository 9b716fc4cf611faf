//! How long a caller still waits for its answer, as one proxy tells the next, and as gRPC says it.

use std::fmt::Write as _;
use std::time::Duration;

/// The field by which a calling proxy tells the called one within what time it wants the head of the
/// answer, in milliseconds. It never reaches a service.
pub const TIMEOUT_FIELD: &str = "x-weft-timeout";
/// The field of gRPC for that.
///
/// **Source**: gRPC over HTTP/2: Timeout.
pub const GRPC_TIMEOUT_FIELD: &str = "grpc-timeout";
/// Digits that gRPC has for a time.
const GRPC_DIGITS_MAX: usize = 8;

/// Reads what a calling proxy tells; `None` for what none of ours says.
pub fn read_timeout(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().map(|ms: u32| Duration::from_millis(ms.into()))
}

/// Says a time in whole milliseconds, at least one: none is for ever to some.
pub fn timeout_ms(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Reads a time of gRPC: up to eight digits and a unit.
pub fn read_grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > GRPC_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    let count = digits.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Says a time as gRPC does, in the finest unit from milliseconds on that has room for it.
pub fn grpc_timeout(limit: Duration) -> String {
    let mut text = String::new();
    let (ms, seconds) = (limit.as_millis().max(1), limit.as_secs());
    // Writing into a String cannot fail. Hours have room for all that entries may say.
    let _ = match (ms, seconds) {
        (0..=99_999_999, _) => write!(text, "{ms}m"),
        (_, 0..=99_999_999) => write!(text, "{seconds}S"),
        (_, _) => write!(text, "{}H", seconds / 3_600),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_grpc_are_read_in_every_unit_and_said_again() {
        for (text, ms) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3_000),
            ("99999999m", 99_999_999),
            ("1500u", 1),
            ("2000000n", 2),
        ] {
            let limit = read_grpc_timeout(text.as_bytes()).expect(text);
            assert_eq!(limit.as_millis(), ms, "{text}");
            let again = grpc_timeout(limit);
            let read = read_grpc_timeout(again.as_bytes()).expect("what we say can be read");
            assert_eq!(read.as_millis(), ms, "{again}");
        }
        for wrong in ["", "S", "1", "123456789m", "-1S", "1s", "1 S", "1.5S"] {
            assert_eq!(read_grpc_timeout(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(grpc_timeout(Duration::ZERO), "1m");
        assert_eq!(grpc_timeout(Duration::from_secs(1_000_000)), "1000000S");
    }

    #[test]
    fn what_a_proxy_tells_is_in_milliseconds() {
        let limit = Duration::from_millis(1_500);
        let text = timeout_ms(limit).to_string();
        assert_eq!(read_timeout(text.as_bytes()), Some(limit));
        assert_eq!(timeout_ms(Duration::from_micros(3)), 1);
        for wrong in ["", "-1", "1.5", "x", "99999999999"] {
            assert_eq!(read_timeout(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
