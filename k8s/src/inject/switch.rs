//! Whether a pod is to be injected: by its own marks, else by its namespace's.

use serde_json::Value;
use weft_proto::text::Fault;

use super::pod::Pod;
use super::settings::Foreign;

/// What labels and annotations say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// No.
    Disabled,
    /// Yes.
    Enabled,
    /// Nothing.
    Unsaid,
}

/// Where a mark may stand.
const LABELS: &str = "labels";
const ANNOTATIONS: &str = "annotations";

impl Switch {
    /// Reads the marks of a namespace: its `metadata`.
    ///
    /// # Errors
    /// A [`Fault`] for a mark whose value says neither yes nor no.
    pub fn of_namespace(metadata: &Value, foreign: Foreign) -> Result<Self, Fault> {
        let mut marks = vec![(LABELS, "weft.dev/inject"), (ANNOTATIONS, "weft.dev/inject")];
        if foreign.istio {
            marks.push((LABELS, "istio-injection"));
        }
        if foreign.linkerd {
            marks.push((ANNOTATIONS, "linkerd.io/inject"));
        }
        first(metadata, &marks)
    }

    /// Reads the marks of a pod. Ours come first, so that they beat those of other meshes.
    pub(super) fn of_pod(pod: Pod<'_>, foreign: Foreign) -> Result<Self, Fault> {
        let mut marks = vec![(LABELS, "weft.dev/inject"), (ANNOTATIONS, "weft.dev/inject")];
        if foreign.istio {
            marks.push((LABELS, "sidecar.istio.io/inject"));
            marks.push((ANNOTATIONS, "sidecar.istio.io/inject"));
        }
        if foreign.linkerd {
            marks.push((ANNOTATIONS, "linkerd.io/inject"));
        }
        if foreign.consul {
            marks.push((ANNOTATIONS, "consul.hashicorp.com/connect-inject"));
        }
        first(pod.metadata(), &marks)
    }
}

fn first(metadata: &Value, marks: &[(&str, &str)]) -> Result<Switch, Fault> {
    for (place, key) in marks {
        let Some(value) = metadata.get(place).and_then(|marks| marks.get(key)) else { continue };
        return match value.as_str().unwrap_or_default() {
            // Linkerd's `ingress` asks for a proxy as well; ours needs no other mode there.
            "enabled" | "true" | "ingress" => Ok(Switch::Enabled),
            "disabled" | "false" => Ok(Switch::Disabled),
            _ => Err(Fault::new(
                format!("metadata.{place}[{key:?}]"),
                format!("{value} says neither yes nor no: write \"enabled\" or \"disabled\""),
            )),
        };
    }
    Ok(Switch::Unsaid)
}
