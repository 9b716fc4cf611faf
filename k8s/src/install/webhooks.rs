//! When the API server asks the webhook, and what becomes of pods while it cannot be asked.

use serde_json::{Value, json};

use crate::inject::Foreign;

/// Values of our marks.
const YES: [&str; 2] = ["enabled", "true"];
const NO: [&str; 2] = ["disabled", "false"];

/// One condition on labels.
fn on(key: &str, operator: &str, values: &[&str]) -> Value {
    match values {
        [] => json!({ "key": key, "operator": operator }),
        values => json!({ "key": key, "operator": operator, "values": values }),
    }
}

/// Writes the configuration as a document of its own.
pub(super) fn configuration(namespace: &str, foreign: Foreign) -> String {
    let make = |name: &str, path: &str, namespaces: Vec<Value>, pods: Vec<Value>| {
        // Pods that ask for a sidecar do not start without one; others do not wait for us.
        let policy = if path == "/inject/enabled" { "Fail" } else { "Ignore" };
        let spared = on("kubernetes.io/metadata.name", "NotIn", &["kube-system", namespace]);
        let namespaces: Vec<Value> = namespaces.into_iter().chain([spared]).collect();
        json!({
            "name": format!("{name}.inject.weft.dev"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": { "service": {
                "name": "weft-webhook", "namespace": namespace, "path": path, "port": 443 } },
            "failurePolicy": policy,
            "matchPolicy": "Equivalent",
            "namespaceSelector": { "matchExpressions": namespaces },
            "objectSelector": { "matchExpressions": pods },
            "reinvocationPolicy": "IfNeeded",
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"] }],
            "sideEffects": "None",
            "timeoutSeconds": 5,
        })
    };
    let ours = "weft.dev/inject";
    let unmarked = || on(ours, "DoesNotExist", &[]);
    let mut webhooks = vec![
        make(
            "namespace",
            "/inject/enabled",
            vec![on(ours, "In", &YES)],
            vec![on(ours, "NotIn", &NO)],
        ),
        make("pod", "/inject/enabled", vec![on(ours, "NotIn", &YES)], vec![on(ours, "In", &YES)]),
    ];
    if foreign.istio {
        let (space, pod) = ("istio-injection", "sidecar.istio.io/inject");
        let by_space = vec![unmarked(), on(space, "In", &["enabled"])];
        let pods = vec![unmarked(), on(pod, "NotIn", &["false"])];
        webhooks.push(make("istio-namespace", "/inject/enabled", by_space, pods));
        let others = vec![unmarked(), on(space, "NotIn", &["enabled"])];
        let pods = vec![unmarked(), on(pod, "In", &["true"])];
        webhooks.push(make("istio-pod", "/inject/enabled", others, pods));
    }
    if foreign.linkerd || foreign.consul {
        // Annotations cannot be selected by: all pods are shown, and few are injected.
        webhooks.push(make("annotated", "/inject/unsaid", vec![unmarked()], vec![unmarked()]));
    }
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "weft-webhook", "labels": { "app.kubernetes.io/part-of": "weft" } },
        "webhooks": webhooks,
    });
    format!("---\n{}", crate::manifest::yaml(&object))
}
