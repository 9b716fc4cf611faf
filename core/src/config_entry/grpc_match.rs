//! A condition on a call of gRPC, and one on a path by its segments.

use serde::{Deserialize, Serialize};

use super::findings::{Findings, shortened};

/// Which calls of gRPC.
///
/// Ours; **Source**: Kubernetes Gateway API: GRPCRoute, GRPCMethodMatch.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GrpcMatch {
    /// The service with its package, such as `shop.v1.Orders`.
    pub service: String,
    /// The method; empty means all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
}

impl GrpcMatch {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let is_word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !self.service.split('.').all(is_word) {
            let reason = "must be the name of a service, such as shop.v1.Orders";
            findings.add(format!("{field}.Service"), reason);
        }
        if !self.method.is_empty() && !is_word(&self.method) {
            findings.add(format!("{field}.Method"), "must be the name of a method, such as Get");
        }
    }

    /// Returns the path of the method, or the beginning of those of all methods.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.service, self.method)
    }
}

/// Checks a template of a path: segments of text, `{name}` or `*` for one segment, and at the end
/// `{name=**}` or `**` for all that follows.
pub(super) fn check_template(field: &str, template: &str, findings: &mut Findings) {
    findings.path(field, template);
    findings.regex(field, &template_regex(template));
    let segments: Vec<&str> = template.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        let fits = match Segment::of(segment) {
            Some(Segment::Rest) => is_last,
            Some(Segment::Any | Segment::Text(_)) => true,
            None => false,
        };
        if !fits {
            let segment = shortened(segment);
            let reason = format!(
                "{segment:?} is no segment: write text, {{name}} or *, and at the end {{name=**}} or **"
            );
            findings.add(field, reason);
        }
    }
}

/// Returns the regular expression for whole paths that a template means.
pub(crate) fn template_regex(template: &str) -> String {
    let mut expression = String::new();
    for segment in template.split('/').skip(1) {
        match Segment::of(segment) {
            Some(Segment::Any) => expression.push_str("/[^/]+"),
            Some(Segment::Rest) => expression.push_str("/.*"),
            Some(Segment::Text(text)) => {
                expression.push('/');
                expression.push_str(&regex::escape(text));
            }
            // No path has that, so nothing is matched that was not meant.
            None => expression.push_str(r"/\z."),
        }
    }
    expression
}

/// One segment of a template.
enum Segment<'a> {
    Any,
    Rest,
    Text(&'a str),
}

impl<'a> Segment<'a> {
    /// Reads a segment, `None` when it is none.
    fn of(text: &'a str) -> Option<Self> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let named = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        match (text, named) {
            ("*", _) => Some(Self::Any),
            ("**", _) => Some(Self::Rest),
            (_, Some(name)) => match name.strip_suffix("=**") {
                Some(name) => is_name(name).then_some(Self::Rest),
                None => is_name(name.strip_suffix("=*").unwrap_or(name)).then_some(Self::Any),
            },
            (text, None) => (!text.contains(['{', '}', '*'])).then_some(Self::Text(text)),
        }
    }
}
