//! Where pods stand in objects of Kubernetes.

use super::tree::Node;

/// The most lists within lists.
const LISTS_DEPTH_MAX: usize = 4;

/// Returns the path to the pod, or its template, in an object of this kind.
pub(super) fn pod_path(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "DaemonSet"
        | "Deployment"
        | "Job"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet" => Some(&["spec", "template"]),
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Returns a field that is a text.
pub(super) fn text<'a>(object: &'a Node, path: &[&str]) -> Option<&'a str> {
    let mut node = object;
    for key in path {
        node = node.get(key)?;
    }
    match node {
        Node::Scalar { text, .. } => Some(text),
        Node::Map(_) | Node::Sequence(_) => None,
    }
}

/// Calls for each object of a document: the document's own, or the items of a list.
pub(super) fn each_object<E>(
    node: &mut Node,
    act: &mut dyn FnMut(&mut Node) -> Result<(), E>,
) -> Result<(), E> {
    visit(node, act, LISTS_DEPTH_MAX)
}

fn visit<E>(
    node: &mut Node,
    act: &mut dyn FnMut(&mut Node) -> Result<(), E>,
    depth: usize,
) -> Result<(), E> {
    let is_list = text(node, &["kind"]).is_some_and(|kind| kind.ends_with("List"));
    match node.get_mut("items") {
        Some(Node::Sequence(items)) if is_list && depth > 0 => {
            items.iter_mut().try_for_each(|item| visit(item, act, depth - 1))
        }
        Some(_) | None => act(node),
    }
}
