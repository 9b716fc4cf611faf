//! What most stories begin with: a cluster, a caller `shop` with its sidecar, and called services.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, TestAgent, TestProxy, eventually};

/// The caller: an application with a sidecar whose upstream listeners are the doors to others.
pub(crate) struct Shop {
    upstreams: BTreeMap<String, Api>,
    /// The caller's sidecar.
    pub(crate) proxy: TestProxy,
    _app: App,
}

impl Shop {
    /// Registers `shop` with upstreams to these services and starts its sidecar.
    pub(crate) fn open(host: &impl AsRef<TestAgent>, services: &[&str]) -> Self {
        Self::open_with(host, services, &[])
    }

    /// The same, with further arguments of the sidecar.
    pub(crate) fn open_with(
        host: &impl AsRef<TestAgent>,
        services: &[&str],
        more: &[&str],
    ) -> Self {
        let agent = host.as_ref();
        let app = App::start("shop");
        let ports: Vec<(&str, u16)> = services.iter().map(|name| (*name, free_port())).collect();
        agent.register(&meshed("shop", "shop", app.port(), &ports));
        let proxy = agent.sidecar_with("shop", more);
        let upstreams = ports
            .into_iter()
            .map(|(name, port)| {
                (name.to_owned(), Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            })
            .collect();
        Self { upstreams, proxy, _app: app }
    }

    /// The door to a service.
    pub(crate) fn to(&self, service: &str) -> Api {
        self.upstreams[service]
    }

    /// Waits until a call to a service gets this status.
    pub(crate) fn wait_status(&self, service: &str, status: u16) {
        let door = self.to(service);
        eventually(SPREAD_LIMIT, &format!("{service} answers {status}"), || {
            let answer = door.get("/")?;
            if answer.status == status {
                Ok(())
            } else {
                Err(format!("{} {}", answer.status, answer.body))
            }
        });
    }
}

/// A called service: an application in this process with its sidecar.
pub(crate) struct Called {
    /// The application.
    pub(crate) app: App,
    /// Its sidecar.
    pub(crate) proxy: TestProxy,
}

/// Registers an instance with its sidecar and an HTTP check, and starts the sidecar.
pub(crate) fn called(cluster: &Cluster, id: &str, service: &str, version: &str) -> Called {
    let app = App::start(id);
    let mut registration = meshed(id, service, app.port(), &[]);
    registration["Meta"] = json!({ "version": version });
    registration["Tags"] = json!([version]);
    registration["Check"] = json!({
        "HTTP": format!("http://{}/status/200", app.addr()),
        "Interval": "1s",
        "Timeout": "2s",
    });
    cluster.agent.register(&registration);
    let proxy = cluster.agent.sidecar(id);
    Called { app, proxy }
}

/// Declares what a service speaks.
pub(crate) fn speaks(host: &impl AsRef<TestAgent>, service: &str, protocol: &str) {
    host.as_ref().configure(&json!({
        "Kind": "service-defaults", "Name": service, "Protocol": protocol,
    }));
}

/// The name of the application that answered.
pub(crate) fn who(answer: &weft_tests::Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    body["app"].as_str().unwrap_or_default().to_owned()
}
