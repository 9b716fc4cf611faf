//! What a rollout makes of a chain: a splitter between the two versions, and in front of it the routes
//! of requests that go to the new one in any case.

use super::compile::{Compiler, everything};
use super::error::Place;
use super::{
    ChainNode, ChainRollout, ChainRoute, ChainSplit, RouteAction, RouterNode, SplitterNode,
    TargetId,
};
use crate::config_entry::{
    EntryKey, EntryKind, HeaderMatch, HttpMatch, Rollout, RouteMirror, Weight,
};

impl Compiler<'_> {
    /// Leads to both versions of a service, by the share that the new one has at present.
    pub(super) fn rollout(&mut self, rollout: &Rollout, has_splitter: bool) -> Option<String> {
        let entry = EntryKey::new(EntryKind::Rollout, rollout.name.as_str());
        let place = |field: &str| Place { entry: entry.clone(), field: field.to_owned() };
        self.check_http(&entry, "a rollout");
        if has_splitter {
            let name = &rollout.name;
            let reason = format!(
                "service-splitter/{name} shares the same requests; delete it, or the rollout"
            );
            self.error(place(""), reason);
        }
        let stable = self.resolver(&rollout.name, &rollout.stable, &place("Stable"));
        let canary = self.resolver(&rollout.name, &rollout.canary, &place("Canary"));
        let (stable, canary) = (stable?, canary?);
        if stable == canary {
            self.error(place("Canary"), "leads to the same instances as Stable");
            return None;
        }
        if !rollout.status.phase.is_over() {
            let (stable, canary) = (self.target_of(&stable)?, self.target_of(&canary)?);
            self.rollouts.push(ChainRollout { service: rollout.name.clone(), stable, canary });
        }
        let weight = rollout.share().weight;
        let rest = Weight::from_hundredths(Weight::FULL.hundredths() - weight.hundredths())?;
        let legs = [(stable, rest), (canary, weight)];
        let splits = legs.into_iter().map(|(next_node, weight)| ChainSplit {
            weight,
            next_node,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        });
        let node = SplitterNode { splits: splits.collect(), sticky: rollout.sticky.clone() };
        self.add(node_name(rollout), ChainNode::Splitter(node), &place(""))
    }

    /// Puts a router before the start of a chain that has none, where a rollout asks for one.
    pub(super) fn canary_in_front(&mut self, start: String, place: &Place) -> Option<String> {
        let all = ChainRoute {
            matches: everything(),
            sni: Vec::new(),
            action: RouteAction::default(),
            next_node: start.clone(),
            mirror_node: None,
        };
        let routes = self.with_canary_first(vec![all.clone()]);
        if routes == [all] {
            return Some(start);
        }
        let name = format!("router:{}", self.service);
        self.add(name, ChainNode::Router(RouterNode { routes }), place)
    }

    /// Puts before each route to the service's own rollout one for the requests that go to the new
    /// version in any case, and has those that take it copied there.
    pub(super) fn with_canary_first(&self, routes: Vec<ChainRoute>) -> Vec<ChainRoute> {
        let Some(rollout) = self.entries.rollout(self.service) else { return routes };
        let (split, share) = (node_name(rollout), rollout.share());
        let Some(ChainNode::Splitter(node)) = self.nodes.get(&split) else { return routes };
        let Some(canary) = node.splits.get(1).map(|leg| &leg.next_node) else { return routes };
        let first = |route: &ChainRoute, header: &HeaderMatch| ChainRoute {
            matches: HttpMatch {
                header: route.matches.header.iter().chain([header]).cloned().collect(),
                ..route.matches.clone()
            },
            next_node: canary.clone(),
            ..route.clone()
        };
        let is_copied = share.mirror != Weight::default();
        let both = |mut route: ChainRoute| {
            let is_split = route.next_node == split;
            let first = share.header.filter(|_| is_split).map(|header| first(&route, header));
            // A route that sends copies elsewhere goes on doing that.
            if is_split && is_copied && route.mirror_node.is_none() {
                let (service, service_subset) = (None, rollout.canary.clone());
                let percent = Some(share.mirror);
                route.action.mirror = Some(RouteMirror { service, service_subset, percent });
                route.mirror_node = Some(canary.clone());
            }
            first.into_iter().chain([route])
        };
        routes.into_iter().flat_map(both).collect()
    }

    fn target_of(&self, node: &str) -> Option<TargetId> {
        match self.nodes.get(node)? {
            ChainNode::Resolver(resolver) => Some(resolver.target.clone()),
            ChainNode::Router(_) | ChainNode::Splitter(_) => None,
        }
    }
}

/// The name of the node: a splitter, for all that reads chains.
fn node_name(rollout: &Rollout) -> String {
    format!("splitter:{}", rollout.name)
}
