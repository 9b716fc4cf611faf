//! Which requests and connections somebody wants to see.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::log_format::LOG_TEXT_BYTES_MAX;
use crate::name::ServiceName;

/// What is to be seen; what is left out is not asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapFilter {
    /// The service that calls.
    pub from: Option<ServiceName>,
    /// The service that is called.
    pub to: Option<ServiceName>,
    /// The method, as it is written.
    pub method: Option<Box<str>>,
    /// How the path begins.
    pub path: Option<Box<str>>,
    /// The status of the answer: from, to. Zero stands for no answer.
    pub status: Option<(u16, u16)>,
    /// A header of the request, in lower case, and the value that it must have, if any is not enough.
    pub header: Option<(Box<str>, Option<Box<str>>)>,
}

/// States what is wrong with a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidTap {
    /// The parameter.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl TapFilter {
    /// Adds a condition from its words: `from`, `to`, `method`, `path`, `status` (`503`, `5xx`,
    /// `500-599`), `header` (`name` or `name:value`). An empty text asks for nothing.
    ///
    /// # Errors
    /// [`InvalidTap`] with the field.
    pub fn add(&mut self, field: &'static str, text: &str) -> Result<(), InvalidTap> {
        let invalid = |reason: String| InvalidTap { field, reason };
        if text.is_empty() {
            return Ok(());
        }
        if text.len() > LOG_TEXT_BYTES_MAX {
            return Err(invalid(format!("has more than {LOG_TEXT_BYTES_MAX} bytes")));
        }
        let service = || ServiceName::parse(text).map_err(|error| invalid(error.to_string()));
        match field {
            "from" => self.from = Some(service()?),
            "to" => self.to = Some(service()?),
            "method" => self.method = Some(text.to_ascii_uppercase().into()),
            "path" if text.starts_with('/') => self.path = Some(text.into()),
            "path" => return Err(invalid(format!("{text:?} does not begin with /"))),
            "status" => {
                let range = status(text).ok_or_else(|| {
                    invalid(format!("{text:?} is none of 503, 5xx, 500-599 or 0"))
                })?;
                self.status = Some((*range.start(), *range.end()));
            }
            "header" => {
                let (name, value) = match text.split_once(':') {
                    Some((name, value)) => (name, Some(value.trim())),
                    None => (text, None),
                };
                let name = name.trim().to_ascii_lowercase();
                let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
                if name.is_empty() || !name.bytes().all(is_token) {
                    return Err(invalid(format!("{name:?} is not the name of a header")));
                }
                self.header = Some((name.into(), value.map(Into::into)));
            }
            _ => return Err(invalid("is not something to filter by".to_owned())),
        }
        Ok(())
    }

    /// Whether only requests are asked for, no connections of bytes.
    pub fn is_of_requests(&self) -> bool {
        self.method.is_some()
            || self.path.is_some()
            || self.status.is_some()
            || self.header.is_some()
    }

    /// Whether a request may be one, by what is known when it comes; `each_header` shows the values
    /// of a header.
    pub fn begins(
        &self,
        (method, path): (&str, &[u8]),
        each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
    ) -> bool {
        let has = |(name, wanted): &(Box<str>, Option<Box<str>>)| {
            let mut is_there = false;
            each_header(name, &mut |value| {
                is_there |= wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == value);
            });
            is_there
        };
        self.method.as_ref().is_none_or(|wanted| **wanted == *method)
            && self.path.as_ref().is_none_or(|start| path.starts_with(start.as_bytes()))
            && self.header.as_ref().is_none_or(has)
    }

    /// Whether it is one, by whom it goes between.
    pub fn is_between(&self, source: Option<&ServiceName>, to: Option<&ServiceName>) -> bool {
        self.from.as_ref().is_none_or(|wanted| source == Some(wanted))
            && self.to.as_ref().is_none_or(|wanted| to == Some(wanted))
    }

    /// Whether it is one, by the status of its answer.
    pub fn ends(&self, status: u16) -> bool {
        self.status.is_none_or(|(least, most)| (least..=most).contains(&status))
    }
}

fn status(text: &str) -> Option<RangeInclusive<u16>> {
    let range = match text.split_once('-') {
        Some((least, most)) => least.trim().parse().ok()?..=most.trim().parse().ok()?,
        None => match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => {
                let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
                class * 100..=class * 100 + 99
            }
            None => {
                let status = text.parse().ok()?;
                status..=status
            }
        },
    };
    (!range.is_empty() && *range.end() <= 999).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 6] = ["from", "to", "method", "path", "status", "header"];

    fn filter(words: &str) -> Result<TapFilter, InvalidTap> {
        let mut filter = TapFilter::default();
        for word in words.split_whitespace() {
            let (field, text) = word.split_once('=').expect("a pair");
            let field = FIELDS.into_iter().find(|known| *known == field).unwrap_or("other");
            filter.add(field, text)?;
        }
        Ok(filter)
    }

    #[test]
    fn a_request_is_seen_when_all_conditions_are_met() {
        let name = |text: &str| ServiceName::parse(text).expect("a name");
        for (words, is_seen) in [
            ("", true),
            ("from=shop to=web", true),
            ("from=web", false),
            ("to=shop", false),
            ("method=get", true),
            ("method=POST", false),
            ("path=/api", true),
            ("path=/api/v2", false),
            ("path=/ap", true),
            ("status=503", true),
            ("status=5xx", true),
            ("status=500-502", false),
            ("status=4XX", false),
            ("header=x-user", true),
            ("header=X-User:ada", true),
            ("header=x-user:eve", false),
            ("header=x-none", false),
            ("from=shop path=/api status=200", false),
        ] {
            let filter = filter(words).expect(words);
            let header = |name: &str, visit: &mut dyn FnMut(&[u8])| {
                if name == "x-user" {
                    visit(b"bob");
                    visit(b"ada");
                }
            };
            let seen = filter.begins(("GET", b"/api/v1"), header)
                && filter.is_between(Some(&name("shop")), Some(&name("web")))
                && filter.ends(503);
            assert_eq!(seen, is_seen, "{words}");
        }
        let from = filter("from=shop").expect("a filter");
        assert!(!from.is_between(None, None) && !from.is_of_requests());
        assert!(filter("status=0").expect("a filter").is_of_requests());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (words, field) in [
            ("from=no/name", "from"),
            ("to=a..b?", "to"),
            ("path=api", "path"),
            ("status=6xx", "status"),
            ("status=599-500", "status"),
            ("status=1000", "status"),
            ("status=many", "status"),
            ("header=:x", "header"),
            ("header=a(b", "header"),
            ("other=x", "other"),
        ] {
            assert_eq!(filter(words).expect_err(words).field, field);
        }
    }
}
