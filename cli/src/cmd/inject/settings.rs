//! The flags that say what goes into pods: the same offline and for the webhook.

use clap::{Args, ValueEnum};
use weft_k8s::inject::{Capture, Foreign, Resources, Settings, SidecarKind};

/// Flags about sidecars.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sidecars")]
pub(crate) struct InjectSettings {
    /// The image of the sidecar; its entrypoint is weft
    #[arg(long, value_name = "IMAGE", default_value = "weft:latest")]
    image: String,
    /// The image that captures traffic: weft with the nft or iptables command [default: --image]
    #[arg(long, value_name = "IMAGE")]
    capture_image: Option<String>,
    /// A server of the mesh, as host:port; repeatable
    #[arg(long = "server", value_name = "HOST:PORT")]
    servers: Vec<String>,
    /// The fingerprint of the mesh's root, by which sidecars know the servers
    #[arg(long, value_name = "HEX", default_value = "")]
    root_fingerprint: String,
    /// The auth method at which pods log in
    #[arg(long, value_name = "NAME", default_value = "kubernetes")]
    auth_method: String,
    /// The audience of the pods' tokens [default: the API server's own]
    #[arg(long, value_name = "AUDIENCE")]
    token_audience: Option<String>,
    /// How the sidecar stands in the pod: native needs Kubernetes 1.29 [default: native; of the
    /// webhook: as the cluster's version says]
    #[arg(long, value_name = "KIND")]
    sidecar: Option<Kind>,
    /// Leave the pods' traffic as it is: a CNI plugin captures it, or nobody does
    #[arg(long)]
    no_capture: bool,
    /// Marks of other meshes that count as well; repeatable
    #[arg(long = "understand", value_name = "MESH")]
    foreign: Vec<Mesh>,
    /// What sidecars log
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    sidecar_log_level: String,
}

/// How the sidecar stands in the pod.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// An init container with restartPolicy Always
    Native,
    /// A container beside the application
    Ordinary,
}

/// Whose marks count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mesh {
    /// connect-inject, connect-service, connect-service-port, connect-service-upstreams
    Consul,
    /// istio-injection, sidecar.istio.io/inject
    Istio,
    /// linkerd.io/inject
    Linkerd,
}

impl InjectSettings {
    /// Returns what the flags say.
    pub(crate) fn settings(&self) -> Settings {
        let understands = |mesh| self.foreign.contains(&mesh);
        Settings {
            image: self.image.clone(),
            capture_image: self.capture_image.clone().unwrap_or_else(|| self.image.clone()),
            sidecar: match self.sidecar {
                None | Some(Kind::Native) => SidecarKind::Native,
                Some(Kind::Ordinary) => SidecarKind::Ordinary,
            },
            capture: if self.no_capture { Capture::Off } else { Capture::Init },
            foreign: Foreign {
                istio: understands(Mesh::Istio),
                linkerd: understands(Mesh::Linkerd),
                consul: understands(Mesh::Consul),
            },
            servers: self.servers.clone(),
            root_fingerprint: self.root_fingerprint.clone(),
            auth_method: self.auth_method.clone(),
            token_audience: self.token_audience.clone(),
            log_level: self.sidecar_log_level.clone(),
            resources: Resources::default(),
        }
    }

    /// Returns whether the kind of sidecars was given.
    pub(crate) fn is_sidecar_said(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Returns the flags that say the same, for the arguments of a container.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut add = |name: &str, value: &str| flags.push(format!("--{name}={value}"));
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        add("image", &self.image);
        if let Some(image) = &self.capture_image {
            add("capture-image", image);
        }
        for server in &self.servers {
            add("server", server);
        }
        add("root-fingerprint", &self.root_fingerprint);
        add("auth-method", &self.auth_method);
        if let Some(audience) = &self.token_audience {
            add("token-audience", audience);
        }
        if let Some(kind) = self.sidecar {
            add("sidecar", &name(kind.to_possible_value()));
        }
        for mesh in &self.foreign {
            add("understand", &name(mesh.to_possible_value()));
        }
        add("sidecar-log-level", &self.sidecar_log_level);
        if self.no_capture {
            flags.push("--no-capture".to_owned());
        }
        flags
    }
}
