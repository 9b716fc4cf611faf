//! The containers and volumes that are added.

use serde_json::{Map, Value, json};
use weft_core::capture::OUTBOUND_PORT;

use super::asked::Asked;
use super::settings::{Capture, Resources, Settings, SidecarKind};
use super::{CAPTURE, HEALTH_PORT, INBOUND_PORT, SIDECAR, SIDECAR_UID};

/// The volume with the pod's token.
const TOKEN_VOLUME: &str = "weft-token";
/// Where it is mounted.
const TOKEN_FOLDER: &str = "/var/run/secrets/weft.dev/token";
/// The volume with the sidecar's state: keys, so it is memory.
const STATE_VOLUME: &str = "weft-state";
/// Where it is mounted.
const STATE_FOLDER: &str = "/var/lib/weft";
/// The shortest life of a token that a kubelet still renews in time.
const TOKEN_SECONDS: u32 = 3600;
/// The variable that tells the sidecar of the probes it makes.
const PROBES_VARIABLE: &str = "WEFT_POD_PROBES";
/// How long a start may take before the kubelet starts the sidecar again: servers may be away.
const START_SECONDS: u32 = 300;
/// What keys, certificates and views of one pod take at most.
const STATE_SIZE: &str = "64Mi";

/// Returns the container that is agent and proxy of the pod.
pub(super) fn sidecar(asked: &Asked, settings: &Settings, probes: &Map<String, Value>) -> Value {
    let mut container = json!({
        "name": SIDECAR,
        "image": asked.image,
        "args": arguments(asked, settings),
        "env": environment(probes),
        "ports": [{ "name": "weft-health", "containerPort": HEALTH_PORT, "protocol": "TCP" }],
        "readinessProbe": {
            "httpGet": { "path": "/ready", "port": HEALTH_PORT },
            "periodSeconds": 2,
            "failureThreshold": 3,
        },
        "resources": resources(&asked.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": SIDECAR_UID,
            "runAsNonRoot": true,
            "runAsUser": SIDECAR_UID,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": true },
            { "name": STATE_VOLUME, "mountPath": STATE_FOLDER },
        ],
    });
    if asked.sidecar == SidecarKind::Native {
        container["restartPolicy"] = "Always".into();
        // What follows is started when this succeeds, so it finds the mesh there.
        container["startupProbe"] = json!({
            "httpGet": { "path": "/ready", "port": HEALTH_PORT },
            "periodSeconds": 1,
            "failureThreshold": START_SECONDS,
        });
    }
    container
}

fn arguments(asked: &Asked, settings: &Settings) -> Vec<String> {
    let mut arguments = vec!["pod".to_owned()];
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("service", &asked.service);
    if let Some(port) = asked.port {
        flag("port", &port.to_string());
    }
    if let Some(protocol) = &asked.protocol {
        flag("protocol", protocol);
    }
    for upstream in &asked.upstreams {
        flag("upstream", upstream);
    }
    for tag in &asked.tags {
        flag("tag", tag);
    }
    for pair in &asked.meta {
        flag("meta", pair);
    }
    for server in &settings.servers {
        flag("server", server);
    }
    flag("root-fingerprint", &settings.root_fingerprint);
    flag("auth-method", &settings.auth_method);
    flag("token-file", &format!("{TOKEN_FOLDER}/token"));
    flag("data-dir", STATE_FOLDER);
    flag("health-addr", &format!("[::]:{HEALTH_PORT}"));
    if asked.capture == Capture::Init {
        flag("inbound-port", &INBOUND_PORT.to_string());
        flag("outbound-port", &OUTBOUND_PORT.to_string());
    }
    if let Some(delay) = &asked.drain_delay {
        flag("drain-delay", delay);
    }
    flag("log-level", &asked.log_level);
    arguments
}

fn environment(probes: &Map<String, Value>) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut environment = vec![
        field("WEFT_POD_NAME", "metadata.name"),
        field("WEFT_POD_NAMESPACE", "metadata.namespace"),
        field("WEFT_POD_UID", "metadata.uid"),
        field("WEFT_POD_IP", "status.podIP"),
        field("WEFT_POD_NODE", "spec.nodeName"),
    ];
    if !probes.is_empty() {
        let text = Value::Object(probes.clone()).to_string();
        environment.push(json!({ "name": PROBES_VARIABLE, "value": text }));
    }
    environment
}

fn resources(wanted: &Resources) -> Value {
    let mut resources = Map::new();
    let sides = [
        ("requests", &wanted.cpu_request, &wanted.memory_request),
        ("limits", &wanted.cpu_limit, &wanted.memory_limit),
    ];
    for (side, cpu, memory) in sides {
        let quantities = [("cpu", cpu), ("memory", memory)];
        let set = quantities.into_iter().filter_map(|(name, quantity)| {
            quantity.as_ref().map(|quantity| (name.to_owned(), quantity.clone().into()))
        });
        let set: Map<String, Value> = set.collect();
        if !set.is_empty() {
            resources.insert(side.to_owned(), Value::Object(set));
        }
    }
    Value::Object(resources)
}

/// Returns the container that leads the pod's traffic to the sidecar, then ends.
pub(super) fn capture(asked: &Asked, settings: &Settings) -> Value {
    let mut arguments = vec!["capture".to_owned(), "apply".to_owned()];
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("proxy-uid", &SIDECAR_UID.to_string());
    flag("inbound-port", &INBOUND_PORT.to_string());
    flag("outbound-port", &OUTBOUND_PORT.to_string());
    flag("exclude-inbound-port", &HEALTH_PORT.to_string());
    for port in &asked.exclude_inbound_ports {
        flag("exclude-inbound-port", port);
    }
    for port in &asked.exclude_outbound_ports {
        flag("exclude-outbound-port", port);
    }
    for network in &asked.exclude_outbound_cidrs {
        flag("exclude-outbound-cidr", network);
    }
    for uid in &asked.exclude_uids {
        flag("exclude-uid", uid);
    }
    json!({
        "name": CAPTURE,
        "image": settings.capture_image,
        "args": arguments,
        "resources": {
            "requests": { "cpu": "10m", "memory": "16Mi" },
            "limits": { "memory": "64Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    })
}

/// Returns the volumes of the sidecar.
pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let mut token = json!({ "path": "token", "expirationSeconds": TOKEN_SECONDS });
    if let Some(audience) = &settings.token_audience {
        token["audience"] = audience.as_str().into();
    }
    vec![
        // Readable by the sidecar's user, whatever the pod's fsGroup.
        json!({ "name": TOKEN_VOLUME, "projected": {
            "defaultMode": 0o444, "sources": [{ "serviceAccountToken": token }] } }),
        json!({ "name": STATE_VOLUME, "emptyDir": { "medium": "Memory", "sizeLimit": STATE_SIZE } }),
    ]
}
