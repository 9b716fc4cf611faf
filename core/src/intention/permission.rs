//! One permission, compiled: does a call meet it in some reading, does it in all?
//!
//! Origins read one message differently: of a header that is given twice some take the first
//! value, some the last, some all of them. So a condition is judged by all readings at once, and
//! an allowance needs all of them where a denial needs one.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::Regex;

use super::call::{Asked, Call};
use super::server_name::is_meant;
use crate::canonical_path::{CanonicalPath, UnclearPath, pattern};
use crate::config_entry::{
    HeaderMatch, IntentionAction, IntentionHttp, IntentionJwt, IntentionPermission,
};
use crate::traffic::RequestView;
use crate::traffic::condition::{Case, ValueCondition, whole};
use crate::traffic::path_index::Wanted;

/// A permission, ready for work.
#[derive(Debug)]
pub(super) struct Permission {
    pub(super) action: IntentionAction,
    pub(super) http: Option<Http>,
    pub(super) jwt: Option<IntentionJwt>,
    networks: Vec<IpNet>,
    ports: Vec<u16>,
    snis: Vec<Box<str>>,
}

#[derive(Debug)]
pub(super) struct Http {
    path: Option<PathCondition>,
    methods: Vec<Box<str>>,
    headers: Vec<HeaderCondition>,
}

#[derive(Debug)]
enum PathCondition {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
}

#[derive(Debug)]
struct HeaderCondition {
    name: Box<str>,
    value: ValueCondition,
    inverted: bool,
}

/// In which readings a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readings {
    /// In each of them.
    pub(super) all: bool,
    /// In at least one.
    pub(super) any: bool,
}

/// A permission that cannot be compiled; no stored entry has one.
#[derive(Debug)]
pub(super) struct Unusable;

/// States what about a call cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Some origins take another header for one that is judged.
    #[error("a header's name reads as one that is judged to some")]
    DisguisedHeader,
    /// A value that is judged has bytes that origins read differently.
    #[error("a header that is judged has bytes beyond printable ASCII")]
    HeaderBytes,
    /// The path is judged and has no form that all origins read alike.
    #[error("the path {0}")]
    Path(#[from] UnclearPath),
}

impl Readings {
    const NONE: Self = Self { all: false, any: false };

    pub(super) fn certain(holds: bool) -> Self {
        Self { all: holds, any: holds }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { all: self.all && other.all, any: self.any && other.any }
    }

    fn not(self) -> Self {
        Self { all: !self.any, any: !self.all }
    }

    /// Counts one more reading in.
    fn with(self, holds: bool) -> Self {
        Self { all: self.all && holds, any: self.any || holds }
    }
}

impl Permission {
    pub(super) fn compile(permission: &IntentionPermission) -> Result<Self, Unusable> {
        let networks: Option<Vec<IpNet>> = permission.networks().collect();
        Ok(Self {
            action: permission.action,
            http: permission.http.as_ref().map(Http::compile).transpose()?,
            jwt: permission.jwt.clone(),
            networks: networks.ok_or(Unusable)?,
            ports: permission.destination_ports.clone(),
            snis: permission.snis.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// What it wants of paths.
    pub(super) fn path(&self) -> Wanted<'_> {
        match self.http.as_ref().and_then(|http| http.path.as_ref()) {
            Some(PathCondition::Exact(text)) => Wanted::Exact(text),
            Some(PathCondition::Prefix(text)) => Wanted::Prefix(text),
            Some(PathCondition::Regex(_)) | None => Wanted::Any,
        }
    }

    /// Whether it can be judged by a request alone.
    pub(super) fn needs_request(&self) -> bool {
        self.http.is_some() || self.jwt.is_some()
    }

    /// In which readings of the call all conditions but those on tokens hold. Conditions behind one that holds in
    /// none are not looked at.
    pub(super) fn readings(&self, call: &Call<'_>) -> Result<Readings, Unreadable> {
        let unknown = Readings { all: false, any: true };
        let address = match call.address.map(|address| address.to_canonical()) {
            _ if self.networks.is_empty() => Readings::certain(true),
            Some(address) => Readings::certain(self.is_in_network(address)),
            None => unknown,
        };
        let port = match call.port {
            _ if self.ports.is_empty() => Readings::certain(true),
            Some(port) => Readings::certain(self.ports.contains(&port)),
            None => unknown,
        };
        let sni = match call.sni {
            _ if self.snis.is_empty() => Readings::certain(true),
            Some(name) => Readings::certain(self.snis.iter().any(|rule| is_meant(rule, name))),
            // Who gives no name meets no allowance, and gets past no denial by leaving it out.
            None => unknown,
        };
        let readings = address.and(port).and(sni);
        match (&self.http, &call.request) {
            (None, _) => Ok(readings),
            (Some(_), None) => Ok(Readings::NONE),
            (Some(_), Some(_)) if !readings.any => Ok(readings),
            (Some(http), Some(asked)) => Ok(readings.and(http.readings(asked)?)),
        }
    }

    fn is_in_network(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

impl Http {
    fn compile(http: &IntentionHttp) -> Result<Self, Unusable> {
        let text = |path: &str| pattern(path).map(Vec::into_boxed_slice).map_err(|_| Unusable);
        let path = match (&http.path_exact, &http.path_prefix, &http.path_regex) {
            (None, None, None) => None,
            (Some(path), None, None) => Some(PathCondition::Exact(text(path)?)),
            (None, Some(path), None) => Some(PathCondition::Prefix(text(path)?)),
            (None, None, Some(path)) => {
                let regex = whole(path, Case::Kept).map_err(|_| Unusable)?;
                Some(PathCondition::Regex(regex))
            }
            _ => return Err(Unusable),
        };
        let header = |matches: &HeaderMatch| {
            let name = matches.name.to_ascii_lowercase().into();
            let value = ValueCondition::of_header(matches).map_err(|_| Unusable)?;
            Ok(HeaderCondition { name, value, inverted: matches.invert })
        };
        Ok(Self {
            path,
            methods: http.methods.iter().map(|method| method.as_str().into()).collect(),
            headers: http.header.iter().map(header).collect::<Result<_, _>>()?,
        })
    }

    fn readings(&self, asked: &Asked<'_>) -> Result<Readings, Unreadable> {
        let method = asked.request.method();
        let mut readings = match self.methods.is_empty() {
            true => Readings::certain(true),
            // Origins that take methods in any case are rare, and wrong; a denial covers them.
            false => Readings {
                all: self.methods.iter().any(|want| **want == *method),
                any: self.methods.iter().any(|want| want.eq_ignore_ascii_case(method)),
            },
        };
        if let (Some(path), true) = (&self.path, readings.any) {
            readings = readings.and(path.readings(asked.path?));
        }
        for header in &self.headers {
            if !readings.any {
                break;
            }
            readings = readings.and(header.readings(asked.request)?);
        }
        Ok(readings)
    }
}

impl PathCondition {
    fn readings(&self, path: &CanonicalPath) -> Readings {
        let holds = |path: &[u8]| match self {
            Self::Exact(want) => path == &**want,
            Self::Prefix(want) => path.starts_with(want),
            Self::Regex(regex) => regex.is_match(path),
        };
        let start = Readings { all: true, any: false };
        path.readings().fold(start, |readings, path| readings.with(holds(path)))
    }
}

impl HeaderCondition {
    /// A header given on several lines is read as the first, the last, each of them, or all
    /// joined by commas. A member of a list may be taken for the value, and a host for one without
    /// its port, so a denial looks at those as well.
    ///
    /// **Source**: Spec: RFC 9110 §5.3. A header that is absent meets no condition but "not
    /// present"; a condition turned round denies those who leave the header out.
    fn readings(&self, request: &dyn RequestView) -> Result<Readings, Unreadable> {
        if request.has_disguised(&self.name) {
            return Err(Unreadable::DisguisedHeader);
        }
        let (mut lines, mut is_plain) = (0_u32, true);
        let mut holds = Readings { all: true, any: false };
        let mut is_in_part = false;
        request.each_header(&self.name, &mut |value| {
            lines += 1;
            let value = value.trim_ascii();
            is_plain &= value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            holds = match self.value {
                // To some, an empty value is none.
                ValueCondition::Present => {
                    Readings { all: holds.all && !value.is_empty(), any: true }
                }
                _ => holds.with(self.value.holds(value)),
            };
            if &*self.name == "host" && !self.inverted {
                is_in_part |= self.value.holds(&plain_host(value));
            }
            if value.contains(&b',') && !self.inverted {
                let mut members = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                is_in_part |= members.any(|member| self.value.holds(member));
            }
        });
        if !is_plain {
            return Err(Unreadable::HeaderBytes);
        }
        let is_presence = matches!(self.value, ValueCondition::Present);
        match (lines, is_presence) {
            (0, true) => return Ok(Readings::certain(self.inverted)),
            (0, false) => return Ok(Readings { all: false, any: self.inverted }),
            (1, _) | (_, true) => {}
            (2.., false) => {
                for between in [&b","[..], b", "] {
                    holds = holds.with(self.value.holds(&self.joined(request, between)));
                }
            }
        }
        let mut holds = if self.inverted { holds.not() } else { holds };
        holds.any |= is_in_part && !is_presence;
        Ok(holds)
    }

    fn joined(&self, request: &dyn RequestView, between: &[u8]) -> Vec<u8> {
        let mut joined = Vec::new();
        request.each_header(&self.name, &mut |value| {
            if !joined.is_empty() {
                joined.extend_from_slice(between);
            }
            joined.extend_from_slice(value.trim_ascii());
        });
        joined
    }
}

/// A host without port and final dot, in lower case: what virtual hosts are chosen by.
fn plain_host(host: &[u8]) -> Vec<u8> {
    let name = match host.iter().rposition(|byte| *byte == b':') {
        Some(at) if host[at + 1..].iter().all(u8::is_ascii_digit) => &host[..at],
        Some(_) | None => host,
    };
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}
