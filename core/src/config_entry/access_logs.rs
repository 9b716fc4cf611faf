//! `AccessLogs`: what proxies write about requests and connections.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::{Findings, shortened};
use super::{Collector, CollectorProtocol, Weight};
use crate::limits;
use crate::log_format::{InvalidLogFormat, LogFormat, RESPONSE_FLAGS};
use crate::time::Span;

/// What proxies write about requests.
///
/// **Source**: Consul: docs/connect/config-entries/proxy-defaults#accesslogs. `Filter` and the type
/// `otlp` are ours.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AccessLogs {
    /// Whether they write anything.
    #[serde(skip_serializing_if = "is_blank")]
    pub enabled: bool,
    /// Whether connections that end before it is known who calls are left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub disable_listener_logs: bool,
    /// Where it goes.
    #[serde(rename = "Type", skip_serializing_if = "is_blank")]
    pub kind: AccessLogType,
    /// The file, with the type `file`.
    #[serde(skip_serializing_if = "is_blank")]
    pub path: String,
    /// The collector, with the type `otlp`: `http://host:port`, or with `https`.
    #[serde(skip_serializing_if = "is_blank")]
    pub endpoint: String,
    /// A file of the proxy's host with the authorities (PEM) that vouch for a collector with
    /// `https`; the system's when left out.
    #[serde(rename = "CAFile", skip_serializing_if = "is_blank")]
    pub ca_file: String,
    /// What the collector speaks: OTLP over HTTP or gRPC.
    #[serde(skip_serializing_if = "is_blank")]
    pub protocol: CollectorProtocol,
    /// The form of a line, as JSON.
    #[serde(rename = "JSONFormat", skip_serializing_if = "is_blank")]
    pub json_format: String,
    /// The form of a line, as text.
    #[serde(skip_serializing_if = "is_blank")]
    pub text_format: String,
    /// Of which requests and connections there is a line; of all when left out.
    #[serde(skip_serializing_if = "is_blank")]
    pub filter: AccessLogFilter,
}

/// Where lines about requests go.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogType {
    /// To a file.
    File,
    /// To a collector.
    Otlp,
    /// To standard error.
    Stderr,
    /// To standard output.
    Stdout,
    /// To standard output.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// Of which requests and connections there is a line: of those that meet a condition, and of a
/// share of the others.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AccessLogFilter {
    /// Of answers with at least this status, and of what broke off; 0 means that the status plays no
    /// part.
    #[serde(skip_serializing_if = "is_blank")]
    pub min_status: u16,
    /// Of what ended with one of these flags of Envoy's; `*` stands for any.
    #[serde(skip_serializing_if = "is_blank")]
    pub response_flags: Vec<String>,
    /// Of what took longer; 0 means that time plays no part.
    #[serde(skip_serializing_if = "is_blank")]
    pub slower_than: Span,
    /// Of this share of the others; left out it is none, or all when there is no condition.
    #[serde(skip_serializing_if = "is_blank")]
    pub sample_percent: Option<Weight>,
    /// Never of paths that begin so, whatever else is said.
    #[serde(skip_serializing_if = "is_blank")]
    pub exclude_path_prefixes: Vec<String>,
}

impl AccessLogs {
    /// Whether the form of lines is given.
    pub fn has_format(&self) -> bool {
        !self.json_format.is_empty() || !self.text_format.is_empty()
    }

    /// Returns the collector that gets them; `None` when they go elsewhere.
    pub fn collector(&self) -> Option<Collector> {
        let Self { endpoint, ca_file, protocol, .. } = self;
        (self.kind == AccessLogType::Otlp).then(|| Collector {
            endpoint: endpoint.clone(),
            ca_file: ca_file.clone(),
            protocol: *protocol,
        })
    }

    /// Compiles the form of lines.
    ///
    /// # Errors
    /// What is wrong with it; an entry that was taken has none.
    pub fn format(&self) -> Result<LogFormat, InvalidLogFormat> {
        match (self.json_format.is_empty(), self.text_format.is_empty()) {
            (false, _) => LogFormat::json(&self.json_format),
            (true, false) => LogFormat::text(&self.text_format),
            (true, true) => Ok(LogFormat::standard()),
        }
    }

    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let name = |of: &str| format!("{field}.{of}");
        let is_file = self.kind == AccessLogType::File;
        if is_file && self.path.is_empty() {
            findings.add(name("Path"), "is needed with the Type file");
        } else if !is_file && !self.path.is_empty() {
            findings.add(name("Path"), "goes with the Type file");
        } else if is_file && !self.path.starts_with('/') {
            findings.add(name("Path"), "must be an absolute path on each proxy's host");
        }
        findings.bytes(&name("Path"), self.path.len(), limits::PATH_BYTES_MAX);
        self.check_collector(field, findings);
        if !self.json_format.is_empty() && !self.text_format.is_empty() {
            findings.add(field, "write one of JSONFormat and TextFormat, not both");
        }
        for (of, form, compile) in [
            ("JSONFormat", &self.json_format, LogFormat::json as fn(&str) -> _),
            ("TextFormat", &self.text_format, LogFormat::text),
        ] {
            if form.is_empty() {
                continue;
            }
            if let Err(InvalidLogFormat { place, reason }) = compile(form) {
                findings.add(format!("{field}.{of}{}", shortened(&place)), reason);
            }
        }
        self.filter.check(&name("Filter"), findings);
    }

    fn check_collector(&self, field: &str, findings: &mut Findings) {
        if let Some(collector) = self.collector() {
            collector.check(field, findings);
            if self.protocol == CollectorProtocol::Zipkin {
                findings.add(format!("{field}.Protocol"), "zipkin takes traces alone");
            }
            return;
        }
        for (of, is_given) in [
            ("Endpoint", !self.endpoint.is_empty()),
            ("CAFile", !self.ca_file.is_empty()),
            ("Protocol", self.protocol != CollectorProtocol::default()),
        ] {
            if is_given {
                findings.add(format!("{field}.{of}"), "goes with the Type otlp");
            }
        }
    }
}

impl AccessLogFilter {
    /// Whether there is never a line about a path.
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.exclude_path_prefixes.iter().any(|prefix| path.starts_with(prefix.as_bytes()))
    }

    /// Whether it takes the end of a request to know whether there is a line.
    pub fn has_conditions(&self) -> bool {
        self.min_status > 0
            || !self.response_flags.is_empty()
            || self.slower_than != Span::default()
    }

    /// Returns the share of what meets no condition of which there is a line.
    pub fn sample(&self) -> Weight {
        let all_or_none = if self.has_conditions() { Weight::default() } else { Weight::FULL };
        self.sample_percent.unwrap_or(all_or_none)
    }

    /// Whether a request or connection that ended so meets a condition.
    pub fn keeps(&self, status: u16, has_failed: bool, flag: Option<&str>, took: Duration) -> bool {
        let is_flagged = |wanted: &String| flag.is_some_and(|it| wanted == "*" || wanted == it);
        self.min_status > 0 && (status >= self.min_status || has_failed)
            || self.response_flags.iter().any(is_flagged)
            || self.slower_than != Span::default() && took > self.slower_than.0
    }

    fn check(&self, field: &str, findings: &mut Findings) {
        let name = |of: &str| format!("{field}.{of}");
        if self.min_status != 0 && !(100..=599).contains(&self.min_status) {
            findings.add(name("MinStatus"), format!("{} is not from 100 to 599", self.min_status));
        }
        for (at, flag) in self.response_flags.iter().enumerate() {
            let field = format!("{field}.ResponseFlags[{at}]");
            if flag != "*" && !RESPONSE_FLAGS.contains(&flag.as_str()) {
                let all = RESPONSE_FLAGS.join(", ");
                findings.add(field, format!("{:?} is none of *, {all}", shortened(flag)));
            } else if self.response_flags[..at].contains(flag) {
                findings.add(field, "is given twice");
            }
        }
        findings.timeout(&name("SlowerThan"), self.slower_than.0);
        let prefixes = &self.exclude_path_prefixes;
        findings.count(
            &name("ExcludePathPrefixes"),
            prefixes.len(),
            limits::CONDITIONS_PER_ROUTE_MAX,
        );
        for (at, prefix) in prefixes.iter().enumerate() {
            findings.path(&format!("{field}.ExcludePathPrefixes[{at}]"), prefix);
            let field = format!("{field}.ExcludePathPrefixes[{at}]");
            findings.bytes(&field, prefix.len(), limits::PATH_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> AccessLogs {
        serde_json::from_str(json).expect("an entry's part")
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, field, reason) in [
            (r#"{"Type":"file"}"#, "AccessLogs.Path", "is needed"),
            (r#"{"Path":"/a"}"#, "AccessLogs.Path", "goes with"),
            (r#"{"Type":"file","Path":"a.log"}"#, "AccessLogs.Path", "absolute"),
            (r#"{"Type":"otlp"}"#, "AccessLogs.Endpoint", "must be an http"),
            (r#"{"Type":"otlp","Endpoint":"c:4317"}"#, "AccessLogs.Endpoint", "must be an http"),
            (
                r#"{"Type":"otlp","Endpoint":"http://c","Path":"/a"}"#,
                "AccessLogs.Path",
                "goes with",
            ),
            (r#"{"Endpoint":"http://c"}"#, "AccessLogs.Endpoint", "goes with the Type otlp"),
            (r#"{"Type":"stderr","Protocol":"otlp-grpc"}"#, "AccessLogs.Protocol", "goes with"),
            (
                r#"{"Type":"otlp","Endpoint":"http://c","Protocol":"zipkin"}"#,
                "AccessLogs.Protocol",
                "traces alone",
            ),
            (
                r#"{"Type":"otlp","Endpoint":"http://c/x","Protocol":"otlp-grpc"}"#,
                "AccessLogs.Endpoint",
                "has a path",
            ),
            (r#"{"JSONFormat":"{}","TextFormat":"x"}"#, "AccessLogs", "not both"),
            (r#"{"JSONFormat":"x"}"#, "AccessLogs.JSONFormat", "expected value"),
            (r#"{"JSONFormat":"{\"a\":\"%NO%\"}"}"#, "AccessLogs.JSONFormat.a", "%NO%"),
            (r#"{"TextFormat":"%NO%"}"#, "AccessLogs.TextFormat", "%NO%"),
            (r#"{"Filter":{"MinStatus":5}}"#, "AccessLogs.Filter.MinStatus", "100 to 599"),
            (r#"{"Filter":{"ResponseFlags":["ZZ"]}}"#, "ResponseFlags[0]", "none of *"),
            (r#"{"Filter":{"ResponseFlags":["UF","UF"]}}"#, "ResponseFlags[1]", "twice"),
            (r#"{"Filter":{"ExcludePathPrefixes":["x"]}}"#, "PathPrefixes[0]", "start with"),
        ] {
            let mut findings = Findings::default();
            read(json).check("AccessLogs", &mut findings);
            let found = findings.result(()).expect_err(json);
            let text = found[0].to_string();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(text.contains(field) && text.contains(reason), "{json}: {text}");
        }
        let mut findings = Findings::default();
        let good = r#"{"Enabled":true,"TextFormat":"%PROTOCOL%\n","Filter":{"MinStatus":500,
            "SamplePercent":0.5,"ResponseFlags":["*"],"ExcludePathPrefixes":["/health"]}}"#;
        read(good).check("AccessLogs", &mut findings);
        assert_eq!(findings.len(), 0);
    }

    #[test]
    fn a_filter_keeps_what_meets_a_condition_and_a_share_of_the_rest() {
        let share = |json: &str| read(json).filter.sample().to_string();
        assert_eq!(share("{}"), "100");
        assert_eq!(share(r#"{"Filter":{"MinStatus":400}}"#), "0");
        assert_eq!(share(r#"{"Filter":{"MinStatus":400,"SamplePercent":1}}"#), "1");
        let keeps = |json: &str, status, cause: Option<&str>, ms| {
            let flag = cause.and_then(crate::log_format::flag_of);
            read(json).filter.keeps(status, cause.is_some(), flag, Duration::from_millis(ms))
        };
        for (json, status, cause, ms, want) in [
            ("{}", 500, Some("no-endpoint"), 1_000, false),
            (r#"{"Filter":{"MinStatus":400}}"#, 399, None, 0, false),
            (r#"{"Filter":{"MinStatus":400}}"#, 400, None, 0, true),
            (r#"{"Filter":{"MinStatus":400}}"#, 0, Some("client-gone"), 0, true),
            (r#"{"Filter":{"ResponseFlags":["UH"]}}"#, 503, Some("no-endpoint"), 0, true),
            (r#"{"Filter":{"ResponseFlags":["UF"]}}"#, 503, Some("no-endpoint"), 0, false),
            (r#"{"Filter":{"ResponseFlags":["*"]}}"#, 503, Some("no-endpoint"), 0, true),
            (r#"{"Filter":{"SlowerThan":"1s"}}"#, 200, None, 1_000, false),
            (r#"{"Filter":{"SlowerThan":"1s"}}"#, 200, None, 1_001, true),
        ] {
            assert_eq!(keeps(json, status, cause, ms), want, "{json} {status} {cause:?} {ms}");
        }
        let excludes = read(r#"{"Filter":{"ExcludePathPrefixes":["/health"]}}"#).filter;
        assert!(excludes.excludes(b"/healthz") && !excludes.excludes(b"/heal"));
    }
}
