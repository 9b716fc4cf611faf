//! Probes of the application, led through the sidecar: a kubelet has no identity in the mesh, and
//! a captured port asks for one. The sidecar makes the probe over loopback and passes on what came.
//!
//! **Source**: Kubernetes: core/v1 Probe, Lifecycle.

use serde_json::{Map, Value, json};

use super::HEALTH_PORT;
use super::patch::{Patch, escaped};
use super::pod::{Container, Pod};

/// Where probes of the application are asked for, below the sidecar's own.
const PREFIX: &str = "/app-health";
/// The probes of a container, and what they are called in a path.
const PROBES: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
/// The hooks that a kubelet may call by HTTP.
const HOOKS: [(&str, &str); 2] = [("postStart", "poststart"), ("preStop", "prestop")];
/// What a probe waits when it says nothing: 1 s, as a kubelet does.
const TIMEOUT_SECONDS: u64 = 1;

/// Rewrites all probes of the application's containers; returns what the sidecar has to do for
/// them: a path each, with `httpGet`, `tcpSocket` or `grpc` and `timeoutSeconds`.
pub(super) fn rewrite(pod: Pod<'_>, patch: &mut Patch) -> Map<String, Value> {
    let mut led = Map::new();
    let natives = pod
        .init_containers()
        .into_iter()
        .filter(|container| container.value["restartPolicy"].as_str() == Some("Always"));
    for container in pod.containers().into_iter().chain(natives) {
        for (field, name) in PROBES {
            let probe = &container.value[field];
            let Some(target) = target(&container, probe) else { continue };
            let path = format!("{PREFIX}/{}/{name}", container.name());
            let mut rewritten = probe.as_object().cloned().unwrap_or_default();
            for kind in ["tcpSocket", "grpc"] {
                rewritten.remove(kind);
            }
            rewritten.insert("httpGet".to_owned(), json!({ "path": path, "port": HEALTH_PORT }));
            let at = format!("{}/{}", container.path, escaped(field));
            patch.replace(at, Value::Object(rewritten));
            led.insert(path, target);
        }
        for (field, name) in HOOKS {
            let hook = &container.value["lifecycle"][field];
            let Some(target) = target(&container, hook).filter(|it| it.get("httpGet").is_some())
            else {
                continue;
            };
            let path = format!("{PREFIX}/{}/{name}", container.name());
            let at = format!("{}/lifecycle/{field}/httpGet", container.path);
            patch.replace(at, json!({ "path": path, "port": HEALTH_PORT }));
            led.insert(path, target);
        }
    }
    led
}

/// What the sidecar has to ask; `None` for probes that it has no part in: programs, other hosts,
/// and ports that nobody declares.
fn target(container: &Container<'_>, probe: &Value) -> Option<Value> {
    let timeout = probe["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS);
    let kind = ["httpGet", "tcpSocket", "grpc"].into_iter().find(|kind| !probe[kind].is_null())?;
    let mut asked = probe[kind].as_object()?.clone();
    // A kubelet that is told a host does not ask the pod.
    if kind != "grpc" && asked.get("host").and_then(Value::as_str).is_some_and(|it| !it.is_empty())
    {
        return None;
    }
    let port = match asked.get("port")? {
        Value::String(name) => name.parse().ok().or_else(|| container.port_named(name))?,
        port => u16::try_from(port.as_u64()?).ok()?,
    };
    asked.insert("port".to_owned(), port.into());
    Some(json!({ kind: asked, "timeoutSeconds": timeout }))
}
