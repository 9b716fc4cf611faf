//! What the operator says about all pods. Annotations of a pod beat these.

/// Settings of injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image of the sidecar; its entrypoint is `weft`.
    pub image: String,
    /// The image of the init container that captures: `weft` with the tools of nftables.
    pub capture_image: String,
    /// Whether the cluster runs sidecars as such.
    pub sidecar: SidecarKind,
    /// Whether the pod's traffic is led to the sidecar.
    pub capture: Capture,
    /// Marks of other meshes that count as ours.
    pub foreign: Foreign,
    /// `host:port` of the mesh's servers.
    pub servers: Vec<String>,
    /// The fingerprint of the mesh's root certificate, by which the servers are known.
    pub root_fingerprint: String,
    /// The auth method at which pods log in.
    pub auth_method: String,
    /// The audience of the pod's token; the API server's own when `None`.
    pub token_audience: Option<String>,
    /// What the sidecar logs.
    pub log_level: String,
    /// What the sidecar may use.
    pub resources: Resources,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: "weft:latest".to_owned(),
            capture_image: "weft:latest".to_owned(),
            sidecar: SidecarKind::Native,
            capture: Capture::Init,
            foreign: Foreign::default(),
            servers: Vec::new(),
            root_fingerprint: String::new(),
            auth_method: "kubernetes".to_owned(),
            token_audience: None,
            log_level: "info".to_owned(),
            resources: Resources::default(),
        }
    }
}

/// How the sidecar stands in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarKind {
    /// An init container with `restartPolicy: Always`: starts before the application and ends
    /// after it, and a job ends without it. Kubernetes 1.29 and later.
    Native,
    /// A container beside the application.
    Ordinary,
}

impl SidecarKind {
    /// Returns what a cluster of this version runs, e.g. `1` and `29+`.
    pub fn of_version(major: &str, minor: &str) -> Self {
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().unwrap_or_default()
        };
        // 1.28 has them behind a switch that is off by default.
        if (number(major), number(minor)) >= (1, 29) { Self::Native } else { Self::Ordinary }
    }
}

/// Whether the pod's traffic is led to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// By an init container, which needs `NET_ADMIN`.
    Init,
    /// Not by the pod: a CNI plugin does it, or the application calls its upstreams by port.
    Off,
}

/// Whose marks count besides ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// `sidecar.istio.io/inject` on pods and `istio-injection` on namespaces.
    pub istio: bool,
    /// `linkerd.io/inject` on both.
    pub linkerd: bool,
    /// `consul.hashicorp.com/connect-inject` and its companions on pods.
    pub consul: bool,
}

/// Requests and limits, as Kubernetes writes quantities; `None` sets none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu_request: Option<String>,
    /// `limits.cpu`.
    pub cpu_limit: Option<String>,
    /// `requests.memory`.
    pub memory_request: Option<String>,
    /// `limits.memory`.
    pub memory_limit: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            // Idle, agent and proxy together take about 1 % of a core and 25 MiB.
            cpu_request: Some("20m".to_owned()),
            // A limit of time would stretch the slowest answers for nothing.
            cpu_limit: None,
            memory_request: Some("48Mi".to_owned()),
            memory_limit: Some("512Mi".to_owned()),
        }
    }
}
