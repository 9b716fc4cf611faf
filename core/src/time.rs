//! Wall time and durations as data. Reading a clock is `runtime::clock`'s affair.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A moment of wall time.
///
/// **Units**: milliseconds since the Unix epoch.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the moment `duration` later, or the last one that can be told.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the moment `duration` earlier, or the epoch.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the time from `earlier` to this moment, zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Reads a moment in the form of RFC 3339 with any offset; `None` when the text is none, or is
    /// before 1970.
    ///
    /// **Source**: Spec: RFC 3339 §5.6.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        read_rfc3339(text).map(Self)
    }

    /// Formats the moment as RFC 3339 in UTC with milliseconds, `2026-11-20T10:30:00.000Z`.
    pub fn rfc3339(self) -> String {
        let (days, ms_of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Civil date from days, after Howard Hinnant's `civil_from_days`, for days ≥ 0.
        let z = days + 719_468;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        let (h, m) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
        let (s, ms) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

/// Reads the civil date and the time of day, the offset taken away; milliseconds since the epoch.
fn read_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let sign = |at: usize, wanted: &[u8]| wanted.contains(text.as_bytes().get(at)?).then_some(());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")]
        .into_iter()
        .try_for_each(|(at, wanted)| sign(at, wanted))?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => 31,
    };
    let is_moment = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let rest = text.get(19..).filter(|_| is_moment)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Days from the civil date, after Howard Hinnant's `days_from_civil`, for years ≥ 1970.
    let y = year - u64::from(month <= 2);
    let (era, yoe) = (y / 400, y % 400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
    let local = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis;
    let offset = |zone: &str| -> Option<u64> {
        let (hours, minutes) = zone.split_once(':')?;
        let two = |text: &str| (text.len() == 2).then(|| text.parse::<u64>().ok()).flatten();
        let (hours, minutes) = (two(hours)?, two(minutes)?);
        (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60_000)
    };
    match zone.split_at_checked(1)? {
        ("Z" | "z", "") => Some(local),
        ("+", zone) => local.checked_sub(offset(zone)?),
        ("-", zone) => local.checked_add(offset(zone)?),
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in the public JSON: written `"10s"`, read as such a text or as nanoseconds.
///
/// **Source**: Consul: api-docs/agent/check#ttl; the text form is that of Go's
/// `time.ParseDuration` without signs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// Makes a span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// States why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration; write a number with a unit, such as \"10s\", \"1m30s\", \"500ms\""
)]
pub struct InvalidSpan {
    text: String,
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let fail = || InvalidSpan { text: text.to_owned() };
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total_ns = 0f64;
        let mut rest = text;
        while !rest.is_empty() {
            let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
            let value: f64 = rest[..number].parse().map_err(|_| fail())?;
            rest = &rest[number..];
            let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit_ns = match &rest[..unit] {
                "ns" => 1f64,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(fail()),
            };
            total_ns += value * unit_ns;
            rest = &rest[unit..];
        }
        // 2^63 ns (292 years) is where Go's own durations end.
        if text.is_empty() || !total_ns.is_finite() || total_ns >= 9.223_372_036_854_775e18 {
            return Err(fail());
        }
        Ok(Self(Duration::from_nanos(total_ns.round() as u64)))
    }
}

impl fmt::Display for Span {
    /// Writes the form of Go's `Duration.String`: `1h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let (unit, per_unit) = match ns {
            0 => return f.write_str("0s"),
            1..1_000 => ("ns", 1f64),
            1_000..1_000_000 => ("µs", 1e3),
            1_000_000..1_000_000_000 => ("ms", 1e6),
            _ => {
                let (h, m) = (ns / 3_600_000_000_000, ns / 60_000_000_000 % 60);
                if h > 0 {
                    write!(f, "{h}h")?;
                }
                if h > 0 || m > 0 {
                    write!(f, "{m}m")?;
                }
                return write!(f, "{}s", (ns % 60_000_000_000) as f64 / 1e9);
            }
        };
        write!(f, "{}{unit}", ns as f64 / per_unit)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes a span as a number, for fields that clients read as one; both forms are read.
///
/// **Units**: nanoseconds.
///
/// **Source**: Consul: the durations of Go, where no text is made of them.
pub fn nanoseconds<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX))
}

/// As [`nanoseconds`]; `None` is null.
pub fn maybe_nanoseconds<S: Serializer>(
    span: &Option<Span>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => nanoseconds(span, serializer),
        None => serializer.serialize_none(),
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\", or nanoseconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                if text.is_empty() { Ok(Span::default()) } else { text.parse().map_err(E::custom) }
            }
            fn visit_u64<E: de::Error>(self, ns: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_nanos(ns)))
            }
            fn visit_i64<E: de::Error>(self, ns: i64) -> Result<Span, E> {
                u64::try_from(ns)
                    .map(|ns| Span(Duration::from_nanos(ns)))
                    .map_err(|_| E::custom("a duration must not be negative"))
            }
            fn visit_f64<E: de::Error>(self, ns: f64) -> Result<Span, E> {
                if (0.0..9.2e18).contains(&ns) {
                    Ok(Span(Duration::from_nanos(ns as u64)))
                } else {
                    Err(E::custom("a duration must not be negative"))
                }
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_go_does() {
        for (text, ns) in [
            ("10s", 10_000_000_000u64),
            ("1m30s", 90_000_000_000),
            ("1h0m0s", 3_600_000_000_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("0s", 0),
        ] {
            let span: Span = text.parse().expect("a duration");
            assert_eq!(span.0.as_nanos(), u128::from(ns), "{text}");
            assert_eq!(span.to_string(), text);
        }
        for bad in ["", "10", "s", "1x", "-1s", "1s1", "9999999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        for ms in [0, 1_709_209_845_006, 951_782_399_999, 4_102_444_799_999] {
            assert_eq!(Timestamp::parse_rfc3339(&Timestamp(ms).rfc3339()), Some(Timestamp(ms)));
        }
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:59:59-00:01", 0),
            ("1970-01-01T00:00:00.5Z", 500),
            ("1970-01-01t00:00:00.123456z", 123),
            ("1970-01-01T00:00:00-01:30", 5_400_000),
        ] {
            let wanted = (ms > 0 || text.starts_with("1970")).then_some(Timestamp(ms));
            assert_eq!(Timestamp::parse_rfc3339(text), wanted, "{text}");
        }
        for bad in [
            "",
            "1970",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "2023-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00+01:00x",
            "1970-01-01T00:00:00.Z1",
            "19é0-01-01T00:00:00Z",
            "1970-01-01T00:00:00+99:00",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc3339_knows_leap_years() {
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_709_209_845_006).rfc3339(), "2024-02-29T12:30:45.006Z");
        assert_eq!(Timestamp(4_102_444_799_999).rfc3339(), "2099-12-31T23:59:59.999Z");
    }
}
