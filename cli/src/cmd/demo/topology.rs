//! The Bookinfo mesh as data: who runs where, who calls whom, and what is registered for it.

use serde_json::{Value, json};

use super::ports::Ports;

/// An instance that calls another service, and where its sidecar listens for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) service: &'static str,
    pub(super) port: u16,
}

/// One instance of an app with its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    /// The instance's id, unique in the mesh.
    pub(super) id: &'static str,
    /// The service that it is an instance of.
    pub(super) service: &'static str,
    /// What `Meta.version` says.
    pub(super) version: &'static str,
    /// Where the app listens.
    pub(super) port: u16,
    /// Where its sidecar takes calls from the mesh.
    pub(super) sidecar_port: u16,
    /// Where its sidecar shows readiness and metrics.
    pub(super) admin_port: u16,
    /// What it calls.
    pub(super) upstreams: Vec<Upstream>,
}

/// The services of Bookinfo, front first.
pub(super) const SERVICES: [&str; 4] = ["productpage", "details", "reviews", "ratings"];

/// Who may call whom from the start. `reviews → ratings` is left out on purpose: the tour shows
/// the refusal and then allows it.
const INTENTIONS: [(&str, &str); 2] = [("productpage", "details"), ("productpage", "reviews")];

/// The instances: id, service, version, what they call. Two instances of `details`, so that one
/// can be killed while the other answers.
const INSTANCES: [(&str, &str, &str, &[&str]); 7] = [
    ("productpage-1", "productpage", "v1", &["details", "reviews"]),
    ("details-1", "details", "v1", &[]),
    ("details-2", "details", "v1", &[]),
    ("reviews-v1", "reviews", "v1", &[]),
    ("reviews-v2", "reviews", "v2", &["ratings"]),
    ("reviews-v3", "reviews", "v3", &["ratings"]),
    ("ratings-1", "ratings", "v1", &[]),
];

/// Everything that runs, with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    /// Where the server listens for members.
    pub(super) server_port: u16,
    /// Where the agent's HTTP API listens.
    pub(super) http_port: u16,
    /// Where the agent answers DNS.
    pub(super) dns_port: u16,
    /// The instances.
    pub(super) apps: Vec<App>,
}

impl Topology {
    /// Lays Bookinfo out on free ports.
    pub(super) async fn lay(ports: &mut Ports) -> anyhow::Result<Self> {
        let mut apps = Vec::with_capacity(INSTANCES.len());
        for (id, service, version, calls) in INSTANCES {
            let mut upstreams = Vec::with_capacity(calls.len());
            for service in calls {
                upstreams.push(Upstream { service, port: ports.take().await? });
            }
            apps.push(App {
                id,
                service,
                version,
                port: ports.take().await?,
                sidecar_port: ports.take().await?,
                admin_port: ports.take().await?,
                upstreams,
            });
        }
        Ok(Self {
            server_port: ports.take().await?,
            http_port: ports.take().await?,
            dns_port: ports.take().await?,
            apps,
        })
    }

    /// Returns an instance by its id.
    ///
    /// # Panics
    /// When there is none; ids are written in this folder only.
    pub(super) fn app(&self, id: &str) -> &App {
        self.apps.iter().find(|app| app.id == id).expect("the id is one of INSTANCES")
    }

    /// Returns how many instances a service has.
    pub(super) fn instances_of(&self, service: &str) -> usize {
        self.apps.iter().filter(|app| app.service == service).count()
    }
}

impl App {
    /// Returns the port on which its sidecar listens for calls to a service.
    ///
    /// # Panics
    /// When the instance does not call that service.
    pub(super) fn upstream_port(&self, service: &str) -> u16 {
        let upstream = self.upstreams.iter().find(|upstream| upstream.service == service);
        upstream.expect("the service is among the instance's calls in INSTANCES").port
    }

    /// Returns the arguments that start the app.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut args = vec!["bookinfo".to_owned(), self.service.to_owned()];
        let mut pair = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        pair("--listen", format!("127.0.0.1:{}", self.port));
        pair("--instance", self.id.to_owned());
        if self.service == "reviews" {
            pair("--version", self.version.to_owned());
        }
        for upstream in &self.upstreams {
            pair(&format!("--{}", upstream.service), format!("127.0.0.1:{}", upstream.port));
        }
        args
    }

    /// Returns the body for `PUT /v1/agent/service/register`: the app, its check, its sidecar.
    ///
    /// Checks run every second, not every ten, so that the tour shows what follows from them
    /// without long waits.
    pub(super) fn registration(&self) -> Value {
        let upstreams: Vec<Value> = self
            .upstreams
            .iter()
            .map(|upstream| {
                json!({
                    "DestinationName": upstream.service,
                    "LocalBindAddress": "127.0.0.1",
                    "LocalBindPort": upstream.port,
                })
            })
            .collect();
        json!({
            "ID": self.id,
            "Name": self.service,
            "Address": "127.0.0.1",
            "Port": self.port,
            "Tags": [self.version],
            "Meta": { "version": self.version },
            "Check": {
                "Name": "answers",
                "HTTP": format!("http://127.0.0.1:{}/health", self.port),
                "Interval": "1s",
                "Timeout": "2s",
            },
            "Connect": {
                "SidecarService": {
                    "Port": self.sidecar_port,
                    "Checks": [{
                        "Name": "sidecar listens",
                        "TCP": format!("127.0.0.1:{}", self.sidecar_port),
                        "Interval": "1s",
                        "Timeout": "2s",
                    }],
                    "Proxy": { "Upstreams": upstreams },
                },
            },
        })
    }
}

/// Returns the config entries that are written before anything is called.
pub(super) fn config_entries() -> Vec<Value> {
    let mut entries: Vec<Value> = SERVICES
        .iter()
        .map(|name| json!({ "Kind": "service-defaults", "Name": name, "Protocol": "http" }))
        .collect();
    let subset = |version: &str| json!({ "Filter": format!("Service.Meta.version == {version}") });
    entries.push(json!({
        "Kind": "service-resolver",
        "Name": "reviews",
        "Subsets": { "v1": subset("v1"), "v2": subset("v2"), "v3": subset("v3") },
    }));
    for (source, destination) in INTENTIONS {
        entries.push(json!({
            "Kind": "service-intentions",
            "Name": destination,
            "Sources": [{ "Name": source, "Action": "allow" }],
        }));
    }
    entries
}

/// Returns the entry that sends nine requests in ten to v1 and one to v2.
pub(super) fn splitter() -> Value {
    json!({
        "Kind": "service-splitter",
        "Name": "reviews",
        "Splits": [
            { "Weight": 90, "ServiceSubset": "v1" },
            { "Weight": 10, "ServiceSubset": "v2" },
        ],
    })
}

/// Returns the entry that sends the user `jason` to v2.
pub(super) fn router() -> Value {
    json!({
        "Kind": "service-router",
        "Name": "reviews",
        "Routes": [{
            "Match": { "HTTP": { "Header": [{ "Name": "end-user", "Exact": "jason" }] } },
            "Destination": { "ServiceSubset": "v2" },
        }],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn topology() -> Topology {
        Topology::lay(&mut Ports::new(5)).await.expect("free ports")
    }

    #[tokio::test]
    async fn no_two_listeners_share_a_port() {
        let topology = topology().await;
        let mut ports = vec![topology.server_port, topology.http_port, topology.dns_port];
        for app in &topology.apps {
            ports.extend([app.port, app.sidecar_port, app.admin_port]);
            ports.extend(app.upstreams.iter().map(|upstream| upstream.port));
        }
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[tokio::test]
    async fn a_registration_carries_version_check_and_sidecar() {
        let topology = topology().await;
        let app = topology.app("reviews-v2");
        let body = app.registration();
        assert_eq!(body["Meta"]["version"], "v2");
        assert_eq!(body["Check"]["HTTP"], format!("http://127.0.0.1:{}/health", app.port));
        let sidecar = &body["Connect"]["SidecarService"];
        assert_eq!(sidecar["Proxy"]["Upstreams"][0]["DestinationName"], "ratings");
        assert_eq!(
            app.arguments()[..4],
            ["bookinfo", "reviews", "--listen", &format!("127.0.0.1:{}", app.port)]
        );
        assert!(app.arguments().contains(&"--ratings".to_owned()));
    }

    #[test]
    fn every_entry_is_one_that_the_mesh_takes() {
        let entries = config_entries().into_iter().chain([splitter(), router()]);
        for entry in entries {
            let text = entry.to_string();
            serde_json::from_value::<weft_core::config_entry::ConfigEntry>(entry).expect(&text);
        }
    }
}
