//! What routing may ask of a request, whatever engine read it.

/// One request, as its origin will read it.
pub trait RequestView {
    /// Returns the method.
    fn method(&self) -> &str;
    /// Returns the path without query, as it will be forwarded.
    fn path(&self) -> &[u8];
    /// Returns the protocol that it came in, `HTTP/1.1` and the like.
    fn protocol(&self) -> &'static str {
        "HTTP/1.1"
    }
    /// Returns what follows the first `?`, if there is one.
    fn query(&self) -> Option<&[u8]>;
    /// Whether there is a header whose name is another, but this one (given in lower case) to
    /// those who take all that is neither letter nor digit for `-`.
    fn has_disguised(&self, name: &str) -> bool;
    /// Shows each value of the header with this name (given in lower case), in order.
    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request as text: `METHOD path?query | name: value | …`.
    pub(crate) struct Request<'a> {
        method: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        headers: Vec<(&'a str, &'a str)>,
    }

    impl<'a> Request<'a> {
        pub(crate) fn parse(text: &'a str) -> Self {
            let mut parts = text.split(" | ");
            let (method, target) =
                parts.next().and_then(|line| line.split_once(' ')).expect("METHOD path");
            let (path, query) = match target.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target, None),
            };
            let headers = parts.map(|line| line.split_once(": ").expect("name: value")).collect();
            Self { method, path, query, headers }
        }
    }

    impl RequestView for Request<'_> {
        fn method(&self) -> &str {
            self.method
        }
        fn path(&self) -> &[u8] {
            self.path.as_bytes()
        }
        fn query(&self) -> Option<&[u8]> {
            self.query.map(str::as_bytes)
        }
        fn has_disguised(&self, _name: &str) -> bool {
            false
        }

        fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
            for (_, value) in self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
                visit(value.as_bytes());
            }
        }
    }
}
