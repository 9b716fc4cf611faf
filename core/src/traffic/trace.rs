//! To which trace a request belongs: read from its headers, decided, and written for the next hop.

use super::{Mix64, RequestView};
use crate::config_entry::{TraceHeaders, Tracing};

/// A place in a trace: the span of one request at one proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: u128,
    /// The request here.
    pub span: u64,
    /// What called, if it said so.
    pub parent: Option<u64>,
    /// Whether everybody on the way tells of the request.
    pub is_sampled: bool,
    headers: Vec<TraceHeaders>,
    /// Whether the trace came with an id of 64 bits, which those who gave it know it by.
    is_short: bool,
    drops_state: bool,
}

/// What a request says of its trace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Said {
    trace: Option<(u128, u64)>,
    sampled: Option<bool>,
    is_short: bool,
}

impl TraceContext {
    /// Finds a request's place, a new trace where it belongs to none.
    ///
    /// Of several families of headers the first that names a trace counts: W3C's, `b3`,
    /// `x-b3-…`. What is not written as its specification asks counts as not written.
    /// **Source**: W3C Trace Context; B3 Propagation (openzipkin).
    pub fn of(request: &impl RequestView, config: &Tracing, random: &mut Mix64) -> Self {
        let w3c = w3c(request);
        let families = [
            (TraceHeaders::W3c, w3c.clone()),
            (TraceHeaders::B3, b3(request)),
            (TraceHeaders::B3Multi, b3_multi(request)),
        ];
        let came = families.iter().filter_map(|(family, said)| Some((*family, said.as_ref()?)));
        let mut headers: Vec<TraceHeaders> = came.clone().map(|(family, _)| family).collect();
        let wanted = match config.propagation.is_empty() {
            true => &[TraceHeaders::W3c][..],
            false => &config.propagation,
        };
        for family in wanted {
            if !headers.contains(family) {
                headers.push(*family);
            }
        }
        let named = came.clone().find(|(_, said)| said.trace.is_some());
        let decided = named.or_else(|| came.clone().next()).and_then(|(_, said)| said.sampled);
        let (trace, parent, is_short) = match named {
            Some((_, Said { trace: Some((trace, parent)), is_short, .. })) => {
                (*trace, Some(*parent), *is_short)
            }
            _ => (new_trace(random), None, false),
        };
        let is_sampled = decided.unwrap_or_else(|| is_chosen(trace, config));
        let span = new_span(random);
        // A state belongs to the parent that it came with.
        let drops_state = w3c.is_none() && headers.contains(&TraceHeaders::W3c);
        Self { trace, span, parent, is_sampled, headers, is_short, drops_state }
    }

    /// Shows the headers that the next hop gets, each in place of those with its name; a name
    /// without a value is taken away.
    pub fn each_header(&self, mut set: impl FnMut(&'static str, Option<String>)) {
        let sampled = u8::from(self.is_sampled);
        let b3_trace = match self.is_short {
            true => format!("{:016x}", self.trace),
            false => format!("{:032x}", self.trace),
        };
        for family in &self.headers {
            match family {
                TraceHeaders::W3c => {
                    let value = format!("00-{:032x}-{:016x}-{sampled:02x}", self.trace, self.span);
                    set("traceparent", Some(value));
                }
                TraceHeaders::B3 => {
                    let mut value = format!("{b3_trace}-{:016x}-{sampled}", self.span);
                    if let Some(parent) = self.parent {
                        value.push_str(&format!("-{parent:016x}"));
                    }
                    set("b3", Some(value));
                }
                TraceHeaders::B3Multi => {
                    set("x-b3-traceid", Some(b3_trace.clone()));
                    set("x-b3-spanid", Some(format!("{:016x}", self.span)));
                    set("x-b3-parentspanid", self.parent.map(|it| format!("{it:016x}")));
                    set("x-b3-sampled", Some(sampled.to_string()));
                }
            }
        }
        if self.drops_state {
            set("tracestate", None);
        }
    }
}

/// Decides by the trace's id, so that whoever decides by the same share decides alike.
fn is_chosen(trace: u128, config: &Tracing) -> bool {
    // The low half: the high one is a time in some systems. The multiplication cannot overflow.
    let place = ((trace & u128::from(u64::MAX)) * 10_000) >> 64;
    place < u128::from(config.sampled().hundredths())
}

fn new_trace(random: &mut Mix64) -> u128 {
    let (high, low) = (random.next_u64(), random.next_u64());
    // All zeros stands for none.
    ((u128::from(high) << 64) | u128::from(low)).max(1)
}

fn new_span(random: &mut Mix64) -> u64 {
    random.next_u64().max(1)
}

/// The one value of a header, `None` also where there are several.
fn only(request: &impl RequestView, name: &str) -> Option<String> {
    let (mut count, mut found) = (0, None);
    request.each_header(name, &mut |value| {
        count += 1;
        found = std::str::from_utf8(value.trim_ascii()).ok().map(str::to_owned);
    });
    found.filter(|_| count == 1)
}

fn w3c(request: &impl RequestView) -> Option<Said> {
    let text = only(request, "traceparent")?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2, false)?;
    let trace = hex(parts.next()?, 32, false)?;
    let span = hex(parts.next()?, 16, false)?;
    let flags = hex(parts.next()?, 2, false)?;
    // Later versions may add parts, the first one has none.
    let is_whole = version != 0xff && (version != 0 || parts.next().is_none());
    let said = Said {
        trace: Some((trace, u64::try_from(span).ok()?)),
        sampled: Some(flags & 1 == 1),
        is_short: false,
    };
    (is_whole && trace != 0 && span != 0).then_some(said)
}

fn b3(request: &impl RequestView) -> Option<Said> {
    let text = only(request, "b3")?;
    if let Some(sampled) = b3_state(&text) {
        return Some(Said { sampled: Some(sampled), ..Said::default() });
    }
    let mut parts = text.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = match parts.next() {
        None => None,
        Some(state) => Some(b3_state(state)?),
    };
    let is_parent = parts.next().is_none_or(|parent| hex(parent, 16, true).is_some());
    let said = b3_ids(trace, span, sampled)?;
    (is_parent && parts.next().is_none()).then_some(said)
}

fn b3_multi(request: &impl RequestView) -> Option<Said> {
    let is_debug = only(request, "x-b3-flags").as_deref() == Some("1");
    let state = only(request, "x-b3-sampled");
    let sampled = match (is_debug, state.as_deref()) {
        (true, _) | (false, Some("1" | "true")) => Some(true),
        (false, Some("0" | "false")) => Some(false),
        (false, _) => None,
    };
    let ids = only(request, "x-b3-traceid").zip(only(request, "x-b3-spanid"));
    match ids.and_then(|(trace, span)| b3_ids(&trace, &span, sampled)) {
        Some(said) => Some(said),
        None => sampled.map(|sampled| Said { sampled: Some(sampled), ..Said::default() }),
    }
}

fn b3_state(text: &str) -> Option<bool> {
    match text {
        "1" | "d" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

fn b3_ids(trace: &str, span: &str, sampled: Option<bool>) -> Option<Said> {
    let is_short = trace.len() == 16;
    let trace = hex(trace, if is_short { 16 } else { 32 }, true)?;
    let span = u64::try_from(hex(span, 16, true)?).ok()?;
    (trace != 0 && span != 0).then_some(Said { trace: Some((trace, span)), sampled, is_short })
}

/// Reads hexadecimal digits of exactly this number.
fn hex(text: &str, digits: usize, takes_upper: bool) -> Option<u128> {
    let is_digit = |byte: u8| {
        matches!(byte, b'0'..=b'9' | b'a'..=b'f') || (takes_upper && byte.is_ascii_hexdigit())
    };
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests;
