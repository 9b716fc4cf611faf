//! What a calling proxy tells the called one beside the request.

use std::time::Duration;

use weft_core::log_format::TIMING_FIELD;
use weft_core::traffic::deadline::{TIMEOUT_FIELD, read_timeout};

use super::field::Kind;
use super::message::RequestRef;
use crate::http::ATTEMPT_FIELD;

impl RequestRef<'_> {
    /// Returns within what time the head of the answer is wanted: the least that is said.
    pub(super) fn read_told_timeout(&self) -> Option<Duration> {
        let told = self.head.fields.iter().filter(|field| field.kind == Kind::Mesh);
        let told = told.filter(|field| is(field.name.of(self.bytes), TIMEOUT_FIELD));
        told.filter_map(|field| read_timeout(field.value.of(self.bytes))).min()
    }
}

/// Whether a field is the one by which proxies tell each other where the time goes.
pub(super) fn is_timing(name: &[u8]) -> bool {
    is(name, TIMING_FIELD)
}

/// Whether a field is the one by which a calling proxy says which attempt a request is.
pub(super) fn is_attempt(name: &[u8]) -> bool {
    is(name, ATTEMPT_FIELD)
}

fn is(name: &[u8], field: &str) -> bool {
    name.eq_ignore_ascii_case(field.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::RequestHead;
    use super::*;

    #[test]
    fn the_least_time_that_is_told_counts_and_what_is_none_is_passed_over() {
        for (fields, want) in [
            ("", None),
            ("x-weft-timeout: 1500\r\n", Some(1_500)),
            ("X-Weft-Timeout: 1500\r\nx-weft-attempt: 2\r\nx-weft-timeout: 900\r\n", Some(900)),
            ("x-weft-timeout: soon\r\nx-weft-timeout: -1\r\n", None),
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: web\r\n{fields}\r\n");
            let mut head = RequestHead::default();
            head.parse(text.as_bytes()).expect("a request");
            let told = head.on(text.as_bytes()).read_told_timeout();
            assert_eq!(told, want.map(Duration::from_millis), "{fields}");
        }
    }
}
