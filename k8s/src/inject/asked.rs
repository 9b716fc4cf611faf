//! What a pod's annotations ask for. `docs/kubernetes.md` has the table of them.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;
use weft_core::name::ServiceName;
use weft_core::time::Span;
use weft_proto::text::Fault;

use super::pod::Pod;
use super::settings::{Capture, Foreign, Resources, Settings, SidecarKind};

/// Every annotation of ours without its prefix; others are told as probably misspelt.
pub(super) const ANNOTATIONS: [&str; 22] = [
    "capture",
    "cpu-limit",
    "cpu-request",
    "drain-delay",
    "exclude-inbound-ports",
    "exclude-outbound-cidrs",
    "exclude-outbound-ports",
    "exclude-uids",
    "image",
    "inject",
    "log-level",
    "memory-limit",
    "memory-request",
    "meta",
    "port",
    "protocol",
    "rewrite-probes",
    "service",
    "sidecar",
    "status",
    "tags",
    "upstreams",
];
/// Protocols of services.
const PROTOCOLS: [&str; 4] = ["tcp", "http", "http2", "grpc"];
/// The most elements of one list: an annotation has 256 KiB, a command line less.
const LIST_LENGTH_MAX: usize = 64;

/// What is asked for, with the settings where the pod says nothing.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) service: String,
    /// Where the application listens; `None` for one that only calls others.
    pub(super) port: Option<u16>,
    pub(super) protocol: Option<String>,
    /// `service:port` each.
    pub(super) upstreams: Vec<String>,
    pub(super) tags: Vec<String>,
    /// `key=value` each.
    pub(super) meta: Vec<String>,
    pub(super) log_level: String,
    pub(super) drain_delay: Option<String>,
    pub(super) image: String,
    pub(super) sidecar: SidecarKind,
    pub(super) capture: Capture,
    pub(super) rewrites_probes: bool,
    pub(super) exclude_inbound_ports: Vec<String>,
    pub(super) exclude_outbound_ports: Vec<String>,
    pub(super) exclude_outbound_cidrs: Vec<String>,
    pub(super) exclude_uids: Vec<String>,
    pub(super) resources: Resources,
}

/// Reads the annotations of a pod.
///
/// # Errors
/// All faults, each with the annotation's path.
pub(super) fn read(pod: Pod<'_>, settings: &Settings) -> Result<Asked, Vec<Fault>> {
    let mut reader = Reader { pod, foreign: settings.foreign, faults: Vec::new() };
    let asked = reader.asked(settings);
    if reader.faults.is_empty() { Ok(asked) } else { Err(reader.faults) }
}

/// Returns the annotations that look like ours and are none.
pub(super) fn unknown(pod: Pod<'_>) -> Vec<String> {
    let annotations = pod.metadata()["annotations"].as_object();
    let keys = annotations.into_iter().flat_map(|annotations| annotations.keys());
    keys.filter(|key| {
        key.strip_prefix(super::PREFIX).is_some_and(|name| !ANNOTATIONS.contains(&name))
    })
    .cloned()
    .collect()
}

struct Reader<'a> {
    pod: Pod<'a>,
    foreign: Foreign,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn asked(&mut self, settings: &Settings) -> Asked {
        let given = |own: Option<&str>, default: &Option<String>| {
            own.map(str::to_owned).or_else(|| default.clone())
        };
        let by_default = &settings.resources;
        let resources = Resources {
            cpu_request: given(self.quantity("cpu-request"), &by_default.cpu_request),
            cpu_limit: given(self.quantity("cpu-limit"), &by_default.cpu_limit),
            memory_request: given(self.quantity("memory-request"), &by_default.memory_request),
            memory_limit: given(self.quantity("memory-limit"), &by_default.memory_limit),
        };
        let capture = match self.yes_or_no("capture") {
            Some(true) => Capture::Init,
            Some(false) => Capture::Off,
            None => settings.capture,
        };
        Asked {
            service: self.service(),
            port: self.port(),
            protocol: self.protocol(),
            upstreams: self.upstreams(),
            tags: self.list::<String>("tags", "a list such as v1,primary"),
            meta: self.meta(),
            log_level: self.text("log-level").unwrap_or(&settings.log_level).to_owned(),
            drain_delay: self.drain_delay(),
            image: self.text("image").unwrap_or(&settings.image).to_owned(),
            sidecar: self.sidecar(settings.sidecar),
            capture,
            // The kubelet reaches the application itself unless its port is captured.
            rewrites_probes: self.yes_or_no("rewrite-probes").unwrap_or(capture == Capture::Init),
            exclude_inbound_ports: self.ports("exclude-inbound-ports"),
            exclude_outbound_ports: self.ports("exclude-outbound-ports"),
            exclude_outbound_cidrs: self
                .list::<std::net::IpAddr>("exclude-outbound-cidrs", "networks such as 10.0.0.0/8"),
            exclude_uids: self.list::<u32>("exclude-uids", "user ids such as 1000,1001"),
            resources,
        }
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        self.pod.metadata()["annotations"].get(key)?.as_str().map(str::trim)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.annotation(&format!("{}{name}", super::PREFIX)).filter(|text| !text.is_empty())
    }

    /// The annotation of ours, else Consul's where that counts; with the key it was found under.
    fn text_or_consul(&self, name: &str, consul: &str) -> Option<(String, &'a str)> {
        if let Some(text) = self.text(name) {
            return Some((format!("{}{name}", super::PREFIX), text));
        }
        let key = format!("consul.hashicorp.com/{consul}");
        let text = self.annotation(&key).filter(|text| self.foreign.consul && !text.is_empty())?;
        Some((key, text))
    }

    fn fault(&mut self, key: &str, reason: impl Into<String>) {
        self.faults.push(Fault::new(format!("metadata.annotations[{key:?}]"), reason));
    }

    fn own_fault(&mut self, name: &str, reason: impl Into<String>) {
        self.fault(&format!("{}{name}", super::PREFIX), reason);
    }

    fn service(&mut self) -> String {
        let found = self.text_or_consul("service", "connect-service");
        if let Some((key, name)) = found {
            if let Err(error) = ServiceName::parse(name) {
                self.fault(&key, error.to_string());
            }
            return name.to_owned();
        }
        let label = |key| self.pod.label(key).filter(|name| ServiceName::parse(name).is_ok());
        let by_labels = label("app.kubernetes.io/name").or_else(|| label("app"));
        let container = || self.pod.containers().first().map(|container| container.name());
        by_labels.or_else(container).unwrap_or_default().to_owned()
    }

    fn port(&mut self) -> Option<u16> {
        let Some((key, text)) = self.text_or_consul("port", "connect-service-port") else {
            return self.pod.first_port();
        };
        if text == "none" {
            return None;
        }
        if text.contains(',') {
            self.fault(&key, "a pod is one service with one port: name one of them");
            return None;
        }
        let number = text.parse::<u16>().ok().filter(|port| *port > 0);
        let found = number.or_else(|| self.pod.port_named(text));
        if found.is_none() {
            let reason = format!(
                "{text:?} is neither a port of 1 to 65535 nor the name of a container's port; \
                 write \"none\" for a pod that only calls others"
            );
            self.fault(&key, reason);
        }
        found
    }

    fn protocol(&mut self) -> Option<String> {
        let (key, text) = self.text_or_consul("protocol", "connect-service-protocol")?;
        if !PROTOCOLS.contains(&text) {
            let reason = format!("{text:?} is none of {}", PROTOCOLS.join(", "));
            self.fault(&key, reason);
        }
        Some(text.to_owned())
    }

    fn upstreams(&mut self) -> Vec<String> {
        let found = self.text_or_consul("upstreams", "connect-service-upstreams");
        let Some((key, text)) = found else { return Vec::new() };
        let mut upstreams = Vec::new();
        for part in parts(text) {
            let pair = part.split_once(':');
            let is_right = pair.is_some_and(|(service, port)| {
                ServiceName::parse(service).is_ok() && port.parse::<u16>().is_ok_and(|it| it > 0)
            });
            if is_right {
                upstreams.push(part.to_owned());
            } else {
                let reason = format!("{part:?} is no upstream: write service:port,service:port");
                self.fault(&key, reason);
            }
        }
        self.bounded(&key, &upstreams);
        upstreams
    }

    fn meta(&mut self) -> Vec<String> {
        let mut meta = self.list::<String>("meta", "a list such as team=shop,tier=1");
        if let Some(wrong) = meta.iter().find(|pair| !pair.contains('=')).cloned() {
            self.own_fault("meta", format!("{wrong:?} has no \"=\": write key=value,key=value"));
        }
        // What subsets are commonly chosen by.
        let version =
            self.pod.label("version").or_else(|| self.pod.label("app.kubernetes.io/version"));
        if let Some(version) = version
            && !meta.iter().any(|pair| pair.starts_with("version="))
        {
            meta.push(format!("version={version}"));
        }
        meta
    }

    fn drain_delay(&mut self) -> Option<String> {
        let text = self.text("drain-delay")?;
        if let Err(error) = text.parse::<Span>() {
            self.own_fault("drain-delay", error.to_string());
        }
        Some(text.to_owned())
    }

    fn sidecar(&mut self, by_default: SidecarKind) -> SidecarKind {
        match self.text("sidecar") {
            None => by_default,
            Some("native") => SidecarKind::Native,
            Some("ordinary") => SidecarKind::Ordinary,
            Some(other) => {
                self.own_fault("sidecar", format!("{other:?}: write \"native\" or \"ordinary\""));
                by_default
            }
        }
    }

    fn yes_or_no(&mut self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "enabled" | "true" => Some(true),
            "disabled" | "false" => Some(false),
            other => {
                self.own_fault(name, format!("{other:?}: write \"enabled\" or \"disabled\""));
                None
            }
        }
    }

    fn ports(&mut self, name: &str) -> Vec<String> {
        self.list::<u16>(name, "ports such as 22,9100")
    }

    /// A list whose elements are each of a kind; a network counts as its address.
    fn list<T: FromStr<Err: Display>>(&mut self, name: &str, form: &str) -> Vec<String> {
        let Some(text) = self.text(name) else { return Vec::new() };
        let elements: Vec<String> = parts(text).map(str::to_owned).collect();
        for element in &elements {
            let bare = element.split('/').next().unwrap_or_default();
            if bare.parse::<T>().is_err() {
                self.own_fault(name, format!("{element:?} is not right: write {form}"));
            }
        }
        self.bounded(&format!("{}{name}", super::PREFIX), &elements);
        elements
    }

    fn bounded(&mut self, key: &str, elements: &[String]) {
        if elements.len() > LIST_LENGTH_MAX {
            let reason = format!("{} elements, more than {LIST_LENGTH_MAX}", elements.len());
            self.fault(key, reason);
        }
    }

    /// A quantity of Kubernetes such as `100m` or `64Mi`; the API server judges it in full.
    fn quantity(&mut self, name: &str) -> Option<&'a str> {
        let text = self.text(name)?;
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if !is_plain || !text.starts_with(|c: char| c.is_ascii_digit()) {
            self.own_fault(name, format!("{text:?} is no quantity: write 100m or 64Mi"));
        }
        Some(text)
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Returns what a pod's restart policy is: jobs have another than the default.
pub(super) fn ends_by_itself(pod: &Value) -> bool {
    matches!(pod["spec"]["restartPolicy"].as_str(), Some("Never" | "OnFailure"))
}
