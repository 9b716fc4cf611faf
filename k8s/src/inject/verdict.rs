//! The decision about a pod.

use std::fmt;

use serde_json::{Value, json};
use weft_proto::text::Fault;

use super::asked::{self, Asked};
use super::patch::{Patch, escaped};
use super::pod::Pod;
use super::settings::{Capture, Settings, SidecarKind};
use super::switch::Switch;
use super::{PREFIX, SIDECAR, SIDECAR_UID, containers, probes, sidecars};

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It gets a sidecar.
    Injected(Injected),
    /// It stays as it is.
    LeftAlone(Why),
}

/// What is done to a pod, and what its owner should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The changes.
    pub patch: Patch,
    /// Sentences for whoever created the pod; bounded by the pod's own size.
    pub warnings: Vec<String>,
}

/// Why a pod is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A mark on the pod or on its namespace says so.
    Disabled,
    /// It shares the network of its host.
    HostNetwork,
    /// A sidecar is there.
    Present {
        /// Whose it is.
        mesh: &'static str,
        /// The container that it was known by.
        container: &'static str,
    },
    /// Nothing asks for a sidecar.
    Unsaid,
    /// It is for another operating system.
    Windows,
}

impl Why {
    /// Returns whether whoever asked for a sidecar should be told.
    pub fn is_surprising(&self) -> bool {
        match self {
            Self::Disabled | Self::Unsaid | Self::Present { mesh: "Weft", .. } => false,
            Self::HostNetwork | Self::Present { .. } | Self::Windows => true,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("injection is disabled for it"),
            Self::HostNetwork => f.write_str(
                "it has hostNetwork: true, and a sidecar would capture its host's traffic; run \
                 an agent and a proxy on that host instead",
            ),
            Self::Present { mesh, container } => {
                write!(f, "it has a sidecar of {mesh} already (container {container})")
            }
            Self::Unsaid => f.write_str("neither it nor its namespace asks for a sidecar"),
            Self::Windows => f.write_str("its operating system is Windows"),
        }
    }
}

/// Decides about a pod. `namespace` is what its namespace says; the pod's own marks beat it.
///
/// Injecting a pod that was injected leaves it alone, so it may be called any number of times.
///
/// # Errors
/// [`Fault`]s of the pod's marks and annotations, and what keeps it from being injected though it
/// asks for it itself.
pub fn inject(pod: &Value, namespace: Switch, settings: &Settings) -> Result<Verdict, Vec<Fault>> {
    let view = Pod(pod);
    if !view.spec()["containers"].is_array() {
        return Err(vec![Fault::new("spec.containers", "there is no list: this is no pod")]);
    }
    let own = Switch::of_pod(view, settings.foreign).map_err(|fault| vec![fault])?;
    let switch = if own == Switch::Unsaid { namespace } else { own };
    match switch {
        Switch::Disabled => return Ok(Verdict::LeftAlone(Why::Disabled)),
        Switch::Unsaid => return Ok(Verdict::LeftAlone(Why::Unsaid)),
        Switch::Enabled => {}
    }
    if let Some((mesh, container)) = sidecars::present(view) {
        return Ok(Verdict::LeftAlone(Why::Present { mesh, container }));
    }
    if view.spec()["os"]["name"].as_str() == Some("windows") {
        return Ok(Verdict::LeftAlone(Why::Windows));
    }
    if view.spec()["hostNetwork"].as_bool() == Some(true) {
        return match own {
            Switch::Enabled => {
                Err(vec![Fault::new("spec.hostNetwork", format!("not injected: {}", HOST))])
            }
            Switch::Disabled | Switch::Unsaid => Ok(Verdict::LeftAlone(Why::HostNetwork)),
        };
    }
    let asked = asked::read(view, settings)?;
    refuse_sidecars_user(view, &asked)?;
    Ok(Verdict::Injected(changes(view, &asked, settings)))
}

/// What is said of a pod that asks for a sidecar and shares its host's network.
const HOST: &str = "a sidecar would capture its host's traffic; take the mark from the pod, and \
                    run an agent and a proxy on that host";

/// A container that runs as the sidecar's user would pass by it, uncaptured and unjudged.
fn refuse_sidecars_user(pod: Pod<'_>, asked: &Asked) -> Result<(), Vec<Fault>> {
    match asked.capture {
        Capture::Off => return Ok(()),
        Capture::Init => {}
    }
    let same = pod.containers().into_iter().enumerate();
    let same = same.filter(|(_, container)| container.user(pod) == Some(SIDECAR_UID.into()));
    let faults: Vec<Fault> = same
        .map(|(at, container)| {
            let path = format!("spec.containers[{at}].securityContext.runAsUser");
            let reason = format!(
                "{SIDECAR_UID} is the sidecar's user, whose traffic is not captured: let {:?} run \
                 as another one",
                container.name()
            );
            Fault::new(path, reason)
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn changes(pod: Pod<'_>, asked: &Asked, settings: &Settings) -> Injected {
    let mut patch = Patch::default();
    // Before anything is put in front of a container: the paths are those of the pod as it came.
    let probes = match asked.rewrites_probes {
        true => probes::rewrite(pod, &mut patch),
        false => serde_json::Map::new(),
    };
    mark(pod, &mut patch);
    patch.append(pod.0, "/spec/volumes", containers::volumes(settings));
    let capture = match asked.capture {
        Capture::Init => vec![containers::capture(asked, settings)],
        Capture::Off => Vec::new(),
    };
    let sidecar = containers::sidecar(asked, settings, &probes);
    match asked.sidecar {
        // Init containers of the application find the mesh there.
        SidecarKind::Native => {
            let first = capture.into_iter().chain([sidecar]).collect();
            patch.prepend(pod.0, "/spec/initContainers", first);
        }
        // They would call into nothing once traffic is captured, so that comes last.
        SidecarKind::Ordinary => {
            patch.append(pod.0, "/spec/initContainers", capture);
            patch.append(pod.0, "/spec/containers", vec![sidecar]);
        }
    }
    Injected { patch, warnings: warnings(pod, asked) }
}

fn mark(pod: Pod<'_>, patch: &mut Patch) {
    if !pod.metadata().is_object() {
        patch.add("/metadata", json!({}));
    }
    if !pod.metadata()["annotations"].is_object() {
        patch.add("/metadata/annotations", json!({}));
    }
    let key = escaped(&format!("{PREFIX}status"));
    patch.add(&format!("/metadata/annotations/{key}"), "injected".into());
}

fn warnings(pod: Pod<'_>, asked: &Asked) -> Vec<String> {
    let mut warnings: Vec<String> = asked::unknown(pod)
        .into_iter()
        .map(|key| format!("weft: there is no annotation {key:?}; is it misspelt?"))
        .collect();
    if asked.sidecar == SidecarKind::Ordinary && asked::ends_by_itself(pod.0) {
        warnings.push(format!(
            "weft: the pod ends only when container {SIDECAR} does: have the job call POST \
             http://127.0.0.1:{}/quitquitquit at its end, or use native sidecars",
            super::HEALTH_PORT
        ));
    }
    warnings
}
