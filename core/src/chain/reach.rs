//! What of a chain can be reached from its start.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainNode, Target, TargetId};

/// Drops nodes and targets to which no way leads.
pub(super) fn retain_reachable(
    start: &str,
    nodes: &mut BTreeMap<String, ChainNode>,
    targets: &mut BTreeMap<TargetId, Target>,
) {
    let mut reached = BTreeSet::new();
    let mut reached_targets = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        let Some(node) = nodes.get(name) else { continue };
        if !reached.insert(name.to_owned()) {
            continue;
        }
        match node {
            ChainNode::Resolver(node) => {
                reached_targets.insert(node.target.clone());
                reached_targets.extend(node.failover.iter().cloned());
            }
            ChainNode::Router(node) => {
                open.extend(node.routes.iter().map(|route| route.next_node.as_str()));
                open.extend(node.routes.iter().filter_map(|route| route.mirror_node.as_deref()));
            }
            ChainNode::Splitter(node) => {
                open.extend(node.splits.iter().map(|split| split.next_node.as_str()));
            }
        }
    }
    nodes.retain(|name, _| reached.contains(name));
    targets.retain(|id, _| reached_targets.contains(id));
}
