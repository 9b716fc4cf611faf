//! From method and path to a handler. What the handler is, the caller decides.

use std::collections::BTreeMap;

use http::Method;

/// A table of routes, matched on the path as it stands in the request; parameters are
/// percent-decoded once, after the match, so that an encoded slash never makes a new segment.
#[derive(Debug)]
pub struct Router<H> {
    paths: matchit::Router<usize>,
    routes: Vec<Route<H>>,
    /// From a pattern to its place in `routes`.
    patterns: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Route<H> {
    pattern: String,
    /// In the order in which they were added.
    methods: Vec<(Method, H)>,
}

/// What a look-up found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, H> {
    /// The route's handler.
    Handler {
        /// The handler given for method and pattern.
        handler: &'a H,
        /// The pattern that matched, for metrics and logs: a bounded set of values.
        pattern: &'a str,
        /// The path's parameters.
        params: Params,
    },
    /// No pattern matches the path, or a parameter is not valid percent-encoding of UTF-8.
    NotFound,
    /// The path exists, but not with this method.
    WrongMethod {
        /// The methods that it has, joined by `, `, as the `Allow` header wants them
        /// (RFC 9110 §10.2.1).
        allow: String,
    },
}

/// The parameters of a path, percent-decoded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Returns the parameter's value; empty when the pattern has no such parameter.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns every parameter with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<H> Default for Router<H> {
    fn default() -> Self {
        Self { paths: matchit::Router::new(), routes: Vec::new(), patterns: BTreeMap::new() }
    }
}

impl<H> Router<H> {
    /// Makes a table without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route. Patterns are matchit's: `/v1/kv/{*key}`, `/v1/agent/service/{id}`.
    ///
    /// # Panics
    /// When the pattern is malformed, clashes with another, or has the method already: the
    /// table is written in code.
    #[must_use]
    pub fn route(mut self, method: Method, pattern: &str, handler: H) -> Self {
        let at = *self.patterns.entry(pattern.to_owned()).or_insert_with(|| {
            let at = self.routes.len();
            self.paths.insert(pattern, at).expect("route patterns are well-formed and distinct");
            self.routes.push(Route { pattern: pattern.to_owned(), methods: Vec::new() });
            at
        });
        let methods = &mut self.routes[at].methods;
        assert!(methods.iter().all(|(known, _)| *known != method), "{method} {pattern} twice");
        methods.push((method, handler));
        self
    }

    /// Looks up a request's method and path (without query).
    pub fn find(&self, method: &Method, path: &str) -> Found<'_, H> {
        let Ok(matched) = self.paths.at(path) else { return Found::NotFound };
        let route = &self.routes[*matched.value];
        let Some((_, handler)) = route.methods.iter().find(|(known, _)| known == method) else {
            let allow: Vec<&str> = route.methods.iter().map(|(known, _)| known.as_str()).collect();
            return Found::WrongMethod { allow: allow.join(", ") };
        };
        // Exactly as long as it must be: a request that waits keeps it.
        let mut params = Vec::with_capacity(matched.params.len());
        for (key, raw) in matched.params.iter() {
            let Some(value) = percent_decode(raw) else { return Found::NotFound };
            params.push((key.to_owned(), value));
        }
        Found::Handler { handler, pattern: &route.pattern, params: Params(params) }
    }

    /// Returns every route, by the order of addition of its pattern; for tests that demand a
    /// row for each.
    pub fn routes(&self) -> impl Iterator<Item = (&Method, &str)> {
        self.routes.iter().flat_map(|route| {
            route.methods.iter().map(|(method, _)| (method, route.pattern.as_str()))
        })
    }
}

/// Decodes `%xx`; `None` when an escape is malformed or the result is not UTF-8.
pub(super) fn percent_decode(raw: &str) -> Option<String> {
    if !raw.contains('%') {
        return Some(raw.to_owned());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = after;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router<&'static str> {
        Router::new()
            .route(Method::GET, "/v1/agent/self", "self")
            .route(Method::PUT, "/v1/agent/service/deregister/{id}", "deregister")
            .route(Method::GET, "/v1/config/{kind}/{name}", "read")
            .route(Method::DELETE, "/v1/config/{kind}/{name}", "delete")
    }

    #[test]
    fn method_and_path_choose_the_handler() {
        let router = router();
        let Found::Handler { handler, pattern, params } =
            router.find(&Method::GET, "/v1/config/service-defaults/web")
        else {
            panic!("not found")
        };
        assert_eq!((*handler, pattern), ("read", "/v1/config/{kind}/{name}"));
        assert_eq!((params.get("kind"), params.get("name")), ("service-defaults", "web"));
        assert_eq!(params.get("other"), "");
        assert_eq!(router.find(&Method::GET, "/v1/agent/self/"), Found::NotFound);
        assert_eq!(router.find(&Method::GET, "/v1/agent//self"), Found::NotFound);
        assert_eq!(
            router.find(&Method::PUT, "/v1/config/a/b"),
            Found::WrongMethod { allow: "GET, DELETE".into() }
        );
        assert_eq!(router.routes().count(), 4);
    }

    /// **Source**: CVE-2025-11392, CVE-2021-28156.
    #[test]
    fn escapes_are_decoded_once_after_the_match() {
        let router = router();
        let id = |path: &str| match router.find(&Method::PUT, path) {
            Found::Handler { params, .. } => Some(params.get("id").to_owned()),
            Found::NotFound | Found::WrongMethod { .. } => None,
        };
        let path = |raw: &str| format!("/v1/agent/service/deregister/{raw}");
        for (raw, value) in [
            ("web%201", Some("web 1")),
            ("a%2Fb", Some("a/b")),
            ("%252F", Some("%2F")),
            ("%2e%2e", Some("..")),
            ("%C3%A9", Some("é")),
            ("%ff", None),
            ("%2", None),
            ("%zz", None),
        ] {
            assert_eq!(id(&path(raw)).as_deref(), value, "{raw}");
        }
    }
}
