//! Conditions of one route, compiled. A request that a condition cannot read does not match.

use regex::bytes::{Regex, RegexBuilder};

use super::RequestView;
use super::path_index::Wanted;
use crate::config_entry::{HeaderMatch, HttpMatch, QueryMatch, template_regex};
use crate::intention::server_name::is_meant;
use crate::limits;

/// All conditions of a route; each must hold.
#[derive(Debug)]
pub(super) struct Conditions {
    path: PathCondition,
    methods: Vec<Box<str>>,
    headers: Vec<HeaderCondition>,
    query: Vec<QueryCondition>,
    hosts: Vec<Box<str>>,
    cookies: Vec<CookieCondition>,
    is_grpc: bool,
}

#[derive(Debug)]
enum PathCondition {
    Any,
    Exact(Box<[u8]>, Case),
    Prefix(Box<[u8]>, Case),
    Regex(Regex),
}

/// Whether the case of letters counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Ignored,
    Kept,
}

#[derive(Debug)]
struct HeaderCondition {
    name: Box<str>,
    value: ValueCondition,
    inverted: bool,
}

#[derive(Debug)]
struct QueryCondition {
    name: Box<str>,
    value: ValueCondition,
    inverted: bool,
}

#[derive(Debug)]
struct CookieCondition {
    name: Box<str>,
    value: ValueCondition,
    inverted: bool,
}

/// A condition on the value of a header or parameter.
#[derive(Debug)]
pub(crate) enum ValueCondition {
    Contains(Box<[u8]>, Case),
    Exact(Box<[u8]>, Case),
    Prefix(Box<[u8]>, Case),
    Present,
    Regex(Regex),
    Suffix(Box<[u8]>, Case),
}

impl Conditions {
    /// Compiles the conditions of a route.
    pub(super) fn compile(matches: &HttpMatch) -> Result<Self, regex::Error> {
        let case = case(matches.case_insensitive);
        let template = matches.path_template.as_deref().map(template_regex);
        let regex = matches.path_regex.as_ref().or(template.as_ref());
        let path = match (&matches.path_exact, &matches.path_prefix, regex, &matches.grpc) {
            (Some(path), _, _, _) => PathCondition::Exact(bytes(path), case),
            (None, Some(path), _, _) => PathCondition::Prefix(bytes(path), case),
            (None, None, Some(path), _) => PathCondition::Regex(whole(path, case)?),
            (None, None, None, Some(grpc)) if grpc.method.is_empty() => {
                PathCondition::Prefix(bytes(&grpc.path()), case)
            }
            (None, None, None, Some(grpc)) => PathCondition::Exact(bytes(&grpc.path()), case),
            (None, None, None, None) => PathCondition::Any,
        };
        Ok(Self {
            path,
            methods: matches.methods.iter().map(|m| m.as_str().into()).collect(),
            headers: matches.header.iter().map(header).collect::<Result<_, _>>()?,
            query: matches.query_param.iter().map(query).collect::<Result<_, _>>()?,
            hosts: matches.host.iter().map(|host| host.as_str().into()).collect(),
            cookies: matches.cookie.iter().map(cookie).collect::<Result<_, _>>()?,
            is_grpc: matches.grpc.is_some(),
        })
    }

    /// What a route with these conditions wants of paths.
    pub(super) fn path(&self) -> Wanted<'_> {
        match &self.path {
            PathCondition::Exact(text, Case::Kept) => Wanted::Exact(text),
            PathCondition::Prefix(text, Case::Kept) => Wanted::Prefix(text),
            PathCondition::Any
            | PathCondition::Exact(_, Case::Ignored)
            | PathCondition::Prefix(_, Case::Ignored)
            | PathCondition::Regex(_) => Wanted::Any,
        }
    }

    /// Whether a request meets all conditions; tells how many bytes of its path were matched.
    pub(super) fn matched_path_bytes<R: RequestView + ?Sized>(&self, request: &R) -> Option<usize> {
        let path = request.path();
        let matched = match &self.path {
            PathCondition::Any => Some(0),
            PathCondition::Exact(want, case) => equal(path, want, *case).then_some(path.len()),
            PathCondition::Prefix(want, case) => {
                path.get(..want.len()).filter(|start| equal(start, want, *case)).map(<[u8]>::len)
            }
            PathCondition::Regex(regex) => regex.is_match(path).then_some(path.len()),
        }?;
        let method = request.method();
        let holds = (self.methods.is_empty()
            || self.methods.iter().any(|want| want.eq_ignore_ascii_case(method)))
            && self.headers.iter().all(|header| header.holds(request))
            && self.query.iter().all(|query| query.holds(request))
            && (self.hosts.is_empty() || is_of_host(request, &self.hosts))
            && self.cookies.iter().all(|cookie| cookie.holds(request))
            && (!self.is_grpc || is_grpc(request));
        holds.then_some(matched)
    }
}

impl HeaderCondition {
    /// Several values are judged as one, joined by commas.
    ///
    /// **Source**: Spec: RFC 9110 §5.3. A header that is absent meets no condition but
    /// "not present" (as Envoy's `invert_match`).
    fn holds<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        let mut state = Seen::None;
        let mut one_holds = false;
        request.each_header(&self.name, &mut |value| {
            state = match std::mem::replace(&mut state, Seen::None) {
                Seen::None => {
                    one_holds = self.value.holds(value);
                    Seen::One(value.into())
                }
                Seen::One(first) => Seen::Many([&first[..], value].join(&b","[..])),
                Seen::Many(mut joined) => {
                    joined.push(b',');
                    joined.extend_from_slice(value);
                    Seen::Many(joined)
                }
            };
        });
        match (&self.value, state) {
            (ValueCondition::Present, Seen::None) => self.inverted,
            (_, Seen::None) => false,
            (_, Seen::One(_)) => one_holds != self.inverted,
            (value, Seen::Many(joined)) => value.holds(&joined) != self.inverted,
        }
    }
}

/// The values of one header met so far.
enum Seen {
    None,
    One(Vec<u8>),
    Many(Vec<u8>),
}

impl QueryCondition {
    /// The first parameter of the name counts, as it is written.
    fn holds<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        let inverted_absence = self.inverted && matches!(self.value, ValueCondition::Present);
        let Some(query) = request.query() else { return inverted_absence };
        query
            .split(|byte| *byte == b'&')
            .map(|pair| match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            })
            .find(|(name, _)| *name == self.name.as_bytes())
            .map_or(inverted_absence, |(_, value)| self.value.holds(value) != self.inverted)
    }
}

impl CookieCondition {
    /// The first cookie of the name counts.
    ///
    /// **Source**: Spec: RFC 6265 §4.2.
    fn holds<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        let mut found = None;
        request.each_header("cookie", &mut |cookies| {
            for cookie in cookies.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
                let Some(value) = cookie.strip_prefix(self.name.as_bytes()) else { continue };
                let Some(value) = value.strip_prefix(b"=") else { continue };
                found.get_or_insert_with(|| self.value.holds(value));
            }
        });
        match found {
            Some(holds) => holds != self.inverted,
            None => self.inverted && matches!(self.value, ValueCondition::Present),
        }
    }
}

/// Whether a request asks for one of the hosts, at whatever port.
fn is_of_host<R: RequestView + ?Sized>(request: &R, rules: &[Box<str>]) -> bool {
    let mut is_one = false;
    request.each_header("host", &mut |host| {
        let Ok(host) = std::str::from_utf8(host) else { return };
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) | None => host,
        };
        is_one |= rules.iter().any(|rule| is_meant(rule, name));
    });
    is_one
}

/// Whether a request is a call of gRPC.
fn is_grpc<R: RequestView + ?Sized>(request: &R) -> bool {
    let mut is_grpc = false;
    request.each_header("content-type", &mut |kind| {
        is_grpc |= kind.starts_with(b"application/grpc");
    });
    is_grpc
}

impl ValueCondition {
    /// Compiles what is asked of a header's value.
    pub(crate) fn of_header(matches: &HeaderMatch) -> Result<Self, regex::Error> {
        let case = case(matches.ignore_case);
        Ok(if let Some(want) = &matches.exact {
            Self::Exact(bytes(want), case)
        } else if let Some(want) = &matches.prefix {
            Self::Prefix(bytes(want), case)
        } else if let Some(want) = &matches.suffix {
            Self::Suffix(bytes(want), case)
        } else if let Some(want) = &matches.contains {
            Self::Contains(bytes(want), case)
        } else if let Some(want) = &matches.regex {
            Self::Regex(whole(want, case)?)
        } else {
            Self::Present
        })
    }

    /// Whether a value meets the condition.
    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Contains(want, case) => {
                want.is_empty() || value.windows(want.len()).any(|part| equal(part, want, *case))
            }
            Self::Exact(want, case) => equal(value, want, *case),
            Self::Prefix(want, case) => {
                value.get(..want.len()).is_some_and(|start| equal(start, want, *case))
            }
            Self::Present => true,
            Self::Regex(regex) => regex.is_match(value),
            Self::Suffix(want, case) => value
                .len()
                .checked_sub(want.len())
                .is_some_and(|at| equal(&value[at..], want, *case)),
        }
    }
}

fn header(matches: &HeaderMatch) -> Result<HeaderCondition, regex::Error> {
    let value = ValueCondition::of_header(matches)?;
    let name = matches.name.to_ascii_lowercase().into();
    Ok(HeaderCondition { name, value, inverted: matches.invert })
}

fn query(matches: &QueryMatch) -> Result<QueryCondition, regex::Error> {
    let value = match (&matches.exact, &matches.regex) {
        (Some(want), _) => ValueCondition::Exact(bytes(want), case(matches.ignore_case)),
        (None, Some(want)) => ValueCondition::Regex(whole(want, Case::Kept)?),
        (None, None) => ValueCondition::Present,
    };
    Ok(QueryCondition { name: matches.name.as_str().into(), value, inverted: matches.invert })
}

fn cookie(matches: &HeaderMatch) -> Result<CookieCondition, regex::Error> {
    let value = ValueCondition::of_header(matches)?;
    Ok(CookieCondition { name: matches.name.as_str().into(), value, inverted: matches.invert })
}

fn case(ignored: bool) -> Case {
    if ignored { Case::Ignored } else { Case::Kept }
}

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn equal(a: &[u8], b: &[u8], case: Case) -> bool {
    match case {
        Case::Ignored => a.eq_ignore_ascii_case(b),
        Case::Kept => a == b,
    }
}

/// Compiles an expression that is looked for.
pub(super) fn pattern(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).size_limit(limits::REGEX_COMPILED_BYTES_MAX).build()
}

/// Compiles an expression that must match the whole value.
pub(crate) fn whole(expression: &str, case: Case) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!(r"\A(?:{expression})\z"))
        .case_insensitive(case == Case::Ignored)
        .size_limit(limits::REGEX_COMPILED_BYTES_MAX)
        .build()
}
