//! What a route changes of the headers of a message, as either engine writes it.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, SET_COOKIE};
use weft_core::log_format::{HeaderForm, LogRecord};
use weft_core::traffic::HeaderPlan;

/// Changes to one message.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Changes<'a> {
    plan: HeaderPlan<'a>,
    /// What operators tell; `None` where there are none.
    facts: Option<&'a LogRecord>,
    /// Cookies that the caller is given: what `set-cookie` says.
    cookies: &'a [Box<str>],
}

impl<'a> Changes<'a> {
    /// Makes those of a plan.
    pub(crate) fn new(plan: HeaderPlan<'a>, facts: Option<&'a LogRecord>) -> Self {
        Self { plan, facts, cookies: &[] }
    }

    /// Gives the caller cookies as well.
    pub(crate) fn and_cookies(mut self, cookies: &'a [Box<str>]) -> Self {
        self.cookies = cookies;
        self
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.cookies.is_empty()
    }

    /// Whether a field that came, or that proxies add, does not go on.
    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        !self.plan.is_empty() && self.plan.removes(name)
    }

    /// Whether a field of this name (in lower case) is added.
    pub(crate) fn sets(&self, name: &str) -> bool {
        !self.plan.is_empty() && self.plan.added().any(|(added, _)| added == name)
    }

    /// Appends the lines that are added; `each_header` shows the values of a header of the message.
    pub(crate) fn write_lines(
        &self,
        each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
        out: &mut Vec<u8>,
    ) {
        if self.is_empty() {
            return;
        }
        for (name, form) in self.plan.added() {
            let line = out.len();
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            match self.write_value(form, &each_header, out) {
                true => out.extend_from_slice(b"\r\n"),
                false => out.truncate(line),
            }
        }
        for cookie in self.cookies {
            out.extend_from_slice(b"set-cookie: ");
            out.extend_from_slice(cookie.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Changes fields that are values.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        let mut added = Vec::new();
        for (name, form) in self.plan.added() {
            let mut value = Vec::new();
            let each_header = |name: &str, visit: &mut dyn FnMut(&[u8])| {
                headers.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
            };
            if self.write_value(form, &each_header, &mut value)
                && let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                added.push((name, value));
            }
        }
        let is_gone = |name: &&HeaderName| self.plan.removes(name.as_str().as_bytes());
        let gone: Vec<HeaderName> = headers.keys().filter(is_gone).cloned().collect();
        for name in gone {
            headers.remove(name);
        }
        for (name, value) in added {
            headers.append(name, value);
        }
        for cookie in self.cookies.iter().filter_map(|it| HeaderValue::try_from(&**it).ok()) {
            headers.append(SET_COOKIE, cookie);
        }
    }

    /// Appends a value; `false` where it is none, or has operators that have nothing to tell.
    fn write_value(
        &self,
        form: &HeaderForm,
        each_header: &impl Fn(&str, &mut dyn FnMut(&[u8])),
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        match (form.literal(), self.facts) {
            // Checked when the entry was written.
            (Some(text), _) => {
                out.extend_from_slice(text.as_bytes());
                return true;
            }
            (None, Some(facts)) => form.write(facts, each_header, out),
            (None, None) => {}
        }
        out.len() > start && HeaderValue::from_bytes(&out[start..]).is_ok()
    }
}
