//! The pod and the container of a process, as its control group tells them.
//!
//! A group is read part by part from the root of the host, where only root makes groups: what a user
//! or a container calls its own groups further down is never looked at.

use std::fmt;

/// Classes of service that have a group of their own; pods of the third stand beside these.
const CLASSES: [&str; 2] = ["besteffort", "burstable"];
/// What stands before a container's id in the name of its scope: containerd, CRI-O and Docker.
const SCOPE_PREFIXES: [&str; 3] = ["cri-containerd-", "crio-", "docker-"];
/// Hexadecimal digits of a container's id.
const CONTAINER_DIGITS: usize = 64;

/// A pod of this host, and which of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    uid: String,
    container: String,
}

impl Pod {
    /// Returns the pod's UID in the spelling of the Kubernetes API: a UUID, or for a pod that the
    /// kubelet has from a file, 32 hexadecimal digits.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Returns the id of the container: 64 hexadecimal digits.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Reads the path of a control group; none if it is not within a container of a pod.
    ///
    /// Both drivers of the kubelet are known, below the root and below `kubelet`, where clusters
    /// in containers have it (`--cgroup-root=/kubelet`); and what containerd makes when it has
    /// another driver than the kubelet.
    ///
    /// **Source**: Kubernetes, `pkg/kubelet/cm`, `cgroupManager.Name`; containerd, CRI plugin,
    /// `getCgroupsPath`; CRI-O, `internal/config/cgmgr`.
    pub(super) fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        match parts.as_slice() {
            ["system.slice", "containerd.service", group, ..] => by_slice_and_id(group),
            ["kubelet.slice", parts @ ..] => in_slices("kubelet-kubepods", parts),
            ["kubelet", parts @ ..] => in_folders(parts),
            ["kubepods", ..] => in_folders(&parts),
            ["kubepods.slice", ..] => in_slices("kubepods", &parts),
            [group, ..] => by_slice_and_id(group),
            [] => None,
        }
    }

    fn new(uid: &str, container: &str) -> Option<Self> {
        let is_known = is_uid(uid) && is_hex(container, CONTAINER_DIGITS);
        is_known.then(|| Self { uid: uid.to_owned(), container: container.to_owned() })
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}, container {}", self.uid, self.container)
    }
}

/// Whether a text can be the UID of a pod.
pub(super) fn is_uid(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    match fields.as_slice() {
        [whole] => is_hex(whole, 32),
        [a, b, c, d, e] => {
            is_hex(a, 8) && [b, c, d].iter().all(|it| is_hex(it, 4)) && is_hex(e, 12)
        }
        _ => false,
    }
}

/// The driver `cgroupfs`: `kubepods/burstable/podUID/ID`.
fn in_folders(parts: &[&str]) -> Option<Pod> {
    let (pod, container) = match parts {
        ["kubepods", class, pod, container, ..] if CLASSES.contains(class) => (pod, container),
        ["kubepods", pod, container, ..] => (pod, container),
        _ => return None,
    };
    Pod::new(pod.strip_prefix("pod")?, container.strip_prefix("crio-").unwrap_or(container))
}

/// The driver `systemd`: `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/
/// cri-containerd-ID.scope`. A slice's name tells those above it.
fn in_slices(root: &str, parts: &[&str]) -> Option<Pod> {
    let (first, parts) = parts.split_first()?;
    if first.strip_suffix(".slice") != Some(root) {
        return None;
    }
    let of_class = |class: &&str| {
        let class = format!("{root}-{class}");
        let is_it = parts.first()?.strip_suffix(".slice")? == class;
        is_it.then_some(class)
    };
    let (above, parts) = match CLASSES.iter().find_map(of_class) {
        Some(class) => (class, &parts[1..]),
        None => (root.to_owned(), parts),
    };
    let [slice, scope, ..] = parts else { return None };
    let scope = scope.strip_suffix(".scope")?;
    let container = SCOPE_PREFIXES.iter().find_map(|prefix| scope.strip_prefix(prefix))?;
    Pod::new(&uid_of_slice(&above, slice)?, container)
}

/// containerd without systemd's driver under a kubelet with it:
/// `kubepods-burstable-podUID.slice:cri-containerd:ID`.
fn by_slice_and_id(group: &str) -> Option<Pod> {
    let (slice, container) = group.split_once(":cri-containerd:")?;
    let of_class =
        CLASSES.iter().find_map(|class| uid_of_slice(&format!("kubepods-{class}"), slice));
    Pod::new(&of_class.or_else(|| uid_of_slice("kubepods", slice))?, container)
}

/// A dash in the name of a slice stands for a level: those of UIDs are written as underscores.
fn uid_of_slice(above: &str, slice: &str) -> Option<String> {
    let uid = slice.strip_prefix(above)?.strip_prefix("-pod")?.strip_suffix(".slice")?;
    (!uid.contains('-')).then(|| uid.replace('_', "-"))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
