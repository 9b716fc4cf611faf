//! A compiled chain as a table that is walked once for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::condition::Conditions;
use super::{HeaderEdits, HeaderPlan, Mix64, RequestView, RetryRules, Rewrite, SplitCounter};
use crate::chain::{ChainNode, CompiledChain, TargetId};
use crate::config_entry::HeaderChanges;
use crate::intention::server_name::is_meant;
use crate::limits;
use crate::log_format::HeaderSide;

/// A discovery chain, ready to be walked: names are numbers, expressions are compiled.
///
/// **Shape**: nodes form no cycle and every node leads to a target.
#[derive(Debug)]
pub struct RouteTable {
    nodes: Vec<Node>,
    start: usize,
    targets: Vec<TargetId>,
    split_totals: Vec<u32>,
    /// What routes and legs change of headers: of requests and of answers.
    edits: Vec<(HeaderEdits, HeaderEdits)>,
}

/// Which changes to headers were met on one way through a table.
///
/// **Shape**: numbers of [`RouteTable`]'s own, from 1; 0 for none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    route: u32,
    leg: u32,
}

/// Where one request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed<'a> {
    /// The target's number in [`RouteTable::targets`].
    pub target: usize,
    /// The numbers of the targets that stand in for it, in this order.
    pub failover: &'a [usize],
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the head of an answer; zero for no limit.
    pub request_timeout: Duration,
    /// How long nothing may move on the request, if the route says so.
    pub idle_timeout: Option<Duration>,
    /// What becomes of the path.
    pub rewrite: Option<Rewrite<'a>>,
    /// What becomes of headers.
    pub edited: Edited,
    /// When the request is tried again; `None` for never.
    pub retries: Option<&'a Arc<RetryRules>>,
    /// The number of the route of the service's router, from 1; `None` without a router.
    pub route: Option<usize>,
}

/// One worker's places in the splitters of one table.
#[derive(Debug)]
pub struct Splits(Vec<SplitCounter>);

/// States why a chain cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum RouteTableError {
    /// A node leads back to itself or too deep.
    #[error("chain of {service}: node {node:?} leads to itself or too deep")]
    Cycle {
        /// The service called.
        service: String,
        /// The node.
        node: String,
    },
    /// A router or splitter has no way out.
    #[error("chain of {service}: node {node:?} leads nowhere")]
    DeadEnd {
        /// The service called.
        service: String,
        /// The node.
        node: String,
    },
    /// A regular expression does not compile.
    #[error("chain of {service}: node {node:?} has an expression that does not compile")]
    Expression {
        /// The service called.
        service: String,
        /// The node.
        node: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// A node or target is named and absent.
    #[error("chain of {service}: {node:?} is named and absent")]
    Missing {
        /// The service called.
        service: String,
        /// The node or target.
        node: String,
    },
}

#[derive(Debug)]
enum Node {
    Resolver(Resolver),
    Router(Vec<Route>),
    Splitter { legs: Vec<Leg>, counter: usize },
}

#[derive(Debug)]
struct Resolver {
    target: usize,
    failover: Box<[usize]>,
    connect_timeout: Duration,
    request_timeout: Duration,
}

#[derive(Debug)]
struct Route {
    conditions: Conditions,
    sni: Vec<Box<str>>,
    prefix_rewrite: Option<Box<str>>,
    request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    edits: u32,
    retries: Option<Arc<RetryRules>>,
    next: usize,
}

/// One leg takes the places below `end` that the legs before it do not take.
#[derive(Debug)]
struct Leg {
    end: u32,
    edits: u32,
    next: usize,
}

impl Routed<'_> {
    /// Returns the target that gets the request: the one that is meant while it is usable, else the
    /// first usable one of those that stand in for it; the one that is meant when none is.
    ///
    /// **Source**: Consul: docs/connect/config-entries/service-resolver#failover.
    pub fn standing_in(&self, is_usable: impl Fn(usize) -> bool) -> usize {
        if self.failover.is_empty() || is_usable(self.target) {
            return self.target;
        }
        self.failover.iter().copied().find(|number| is_usable(*number)).unwrap_or(self.target)
    }
}

impl RouteTable {
    /// Compiles a chain.
    ///
    /// # Errors
    /// [`RouteTableError`] when the chain does not have the shape of a [`CompiledChain`].
    pub fn compile(chain: &CompiledChain) -> Result<Self, RouteTableError> {
        let targets = chain.targets.keys().cloned().collect();
        let (nodes, split_totals, edits) = (Vec::new(), Vec::new(), Vec::new());
        let table = Self { nodes, start: 0, targets, split_totals, edits };
        let mut build = Build { chain, numbers: BTreeMap::new(), table };
        build.table.start = build.node(&chain.start_node, 0)?;
        Ok(build.table)
    }

    /// Returns the targets by number.
    pub fn targets(&self) -> &[TargetId] {
        &self.targets
    }

    /// Returns each target that has others to stand in for it, with those in their order.
    pub fn stand_ins(&self) -> impl Iterator<Item = (usize, &[usize])> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Resolver(resolver) if !resolver.failover.is_empty() => {
                Some((resolver.target, &*resolver.failover))
            }
            Node::Resolver(_) | Node::Router(_) | Node::Splitter { .. } => None,
        })
    }

    /// Makes one worker's places in the splitters.
    pub fn splits(&self, start: &mut Mix64) -> Splits {
        Splits(self.split_totals.iter().map(|total| SplitCounter::new(*total, start)).collect())
    }

    /// Returns what becomes of a request's headers.
    pub fn request_headers(&self, edited: Edited) -> HeaderPlan<'_> {
        let found = |number| self.edits_at(number).map(|(request, _)| request);
        HeaderPlan::new(found(edited.route), found(edited.leg))
    }

    /// Returns what becomes of the headers of its answer.
    pub fn response_headers(&self, edited: Edited) -> HeaderPlan<'_> {
        let found = |number| self.edits_at(number).map(|(_, answer)| answer);
        HeaderPlan::new(found(edited.route), found(edited.leg))
    }

    fn edits_at(&self, number: u32) -> Option<&(HeaderEdits, HeaderEdits)> {
        self.edits.get((number as usize).checked_sub(1)?)
    }

    /// Whether the server name that a caller asks for in TLS decides where its connection goes.
    pub fn needs_server_name(&self) -> bool {
        let routers = self.nodes.iter().filter_map(|node| match node {
            Node::Router(routes) => Some(routes),
            Node::Resolver(_) | Node::Splitter { .. } => None,
        });
        routers.flatten().any(|route| !route.sni.is_empty())
    }

    /// Says where a connection goes whose caller asks for a server name in TLS, or for none.
    pub fn route_tls(&self, name: Option<&str>, splits: &mut Splits) -> Routed<'_> {
        self.walk(splits, |routes| (choose_tls(routes, name), 0))
    }

    /// Says where a request goes; without a request (bytes that are not HTTP) routers take
    /// their last route.
    pub fn route<'a, R: RequestView + ?Sized>(
        &'a self,
        request: Option<&R>,
        splits: &mut Splits,
    ) -> Routed<'a> {
        self.walk(splits, |routes| choose(routes, request))
    }

    fn walk<'a>(
        &'a self,
        splits: &mut Splits,
        choose: impl Fn(&'a [Route]) -> (usize, usize),
    ) -> Routed<'a> {
        let mut at = self.start;
        let mut rewrite = None;
        let (mut timeout, mut idle_timeout) = (None, None);
        let mut retries = None;
        let mut taken = None;
        let mut edited = Edited::default();
        // `compile` has shown that there is no cycle, so the walk ends.
        loop {
            match &self.nodes[at] {
                Node::Resolver(resolver) => {
                    return Routed {
                        target: resolver.target,
                        failover: &resolver.failover,
                        connect_timeout: resolver.connect_timeout,
                        request_timeout: timeout.unwrap_or(resolver.request_timeout),
                        idle_timeout,
                        rewrite,
                        edited,
                        retries,
                        route: taken,
                    };
                }
                Node::Router(routes) => {
                    let (number, matched_bytes) = choose(routes);
                    let route = &routes[number];
                    taken.get_or_insert(number + 1);
                    if let Some(replacement) = &route.prefix_rewrite {
                        rewrite = Some(Rewrite { matched_bytes, replacement });
                    }
                    retries = route.retries.as_ref().or(retries);
                    timeout = route.request_timeout.or(timeout);
                    idle_timeout = route.idle_timeout.or(idle_timeout);
                    edited.route = route.edits;
                    at = route.next;
                }
                Node::Splitter { legs, counter } => {
                    let place = splits.0.get_mut(*counter).map_or(0, SplitCounter::advance);
                    let leg = legs.iter().find(|leg| place < leg.end).unwrap_or(&legs[0]);
                    edited.leg = leg.edits;
                    at = leg.next;
                }
            }
        }
    }
}

/// Returns the number of the first route that means the name, else of the last one.
fn choose_tls(routes: &[Route], name: Option<&str>) -> usize {
    let others = routes.split_last().map_or(&[][..], |(_, others)| others);
    let is_meant = |rule: &str| name.is_some_and(|name| is_meant(rule, name));
    let found = others.iter().position(|route| route.sni.iter().any(|rule| is_meant(rule)));
    found.unwrap_or(others.len())
}

/// Returns the number of the first route whose conditions hold, else of the last one, and how much
/// of the path they matched.
fn choose<R: RequestView + ?Sized>(routes: &[Route], request: Option<&R>) -> (usize, usize) {
    let (last, others) = routes.split_last().expect("routers are compiled with at least one route");
    if let Some(request) = request {
        for (number, route) in others.iter().enumerate() {
            if let Some(matched) = route.conditions.matched_path_bytes(request) {
                return (number, matched);
            }
        }
        return (others.len(), last.conditions.matched_path_bytes(request).unwrap_or(0));
    }
    (others.len(), 0)
}

/// A table under construction.
struct Build<'a> {
    chain: &'a CompiledChain,
    numbers: BTreeMap<&'a str, usize>,
    table: RouteTable,
}

impl<'a> Build<'a> {
    fn target(&self, id: &TargetId) -> Result<usize, RouteTableError> {
        let number = self.table.targets.iter().position(|known| known == id);
        number.ok_or_else(|| RouteTableError::Missing {
            service: self.chain.service_name.to_string(),
            node: id.to_string(),
        })
    }

    /// Prepares changes to headers, and returns their number; 0 where there are none.
    fn edits<'c>(
        &mut self,
        request: impl IntoIterator<Item = &'c HeaderChanges>,
        answer: impl IntoIterator<Item = &'c HeaderChanges>,
    ) -> u32 {
        let request = HeaderEdits::compile(HeaderSide::Request, request);
        let answer = HeaderEdits::compile(HeaderSide::Answer, answer);
        if request.is_empty() && answer.is_empty() {
            return 0;
        }
        self.table.edits.push((request, answer));
        u32::try_from(self.table.edits.len()).unwrap_or(0)
    }

    fn node(&mut self, name: &'a str, depth: usize) -> Result<usize, RouteTableError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let (service, node) = (self.chain.service_name.to_string(), name.to_owned());
        // A cycle never ends its descent, so the bound on depth finds it.
        if depth > 2 * limits::CHAIN_DEPTH_MAX {
            return Err(RouteTableError::Cycle { service, node });
        }
        let built = match self.chain.nodes.get(name) {
            None => return Err(RouteTableError::Missing { service, node }),
            Some(ChainNode::Resolver(resolver)) => {
                let failover = resolver.failover.iter().map(|id| self.target(id));
                Node::Resolver(Resolver {
                    target: self.target(&resolver.target)?,
                    failover: failover.collect::<Result<_, _>>()?,
                    connect_timeout: resolver.connect_timeout,
                    request_timeout: resolver.request_timeout,
                })
            }
            Some(ChainNode::Router(router)) => {
                let mut routes = Vec::with_capacity(router.routes.len());
                for route in &router.routes {
                    let conditions = Conditions::compile(&route.matches).map_err(|source| {
                        let (service, node) = (service.clone(), node.clone());
                        RouteTableError::Expression { service, node, source: Box::new(source) }
                    })?;
                    routes.push(Route {
                        conditions,
                        sni: route.sni.iter().map(|name| name.as_str().into()).collect(),
                        prefix_rewrite: route.action.prefix_rewrite.as_deref().map(Into::into),
                        request_timeout: route.action.request_timeout,
                        idle_timeout: route.action.idle_timeout,
                        edits: self.edits(
                            [&route.action.request_headers],
                            [&route.action.response_headers],
                        ),
                        retries: RetryRules::of(&route.action).map(Arc::new),
                        next: self.node(&route.next_node, depth + 1)?,
                    });
                }
                if routes.is_empty() {
                    return Err(RouteTableError::DeadEnd { service, node });
                }
                Node::Router(routes)
            }
            Some(ChainNode::Splitter(splitter)) => {
                let (mut legs, mut end) = (Vec::with_capacity(splitter.splits.len()), 0u32);
                for split in &splitter.splits {
                    end = end.saturating_add(split.weight.hundredths());
                    let edits = self.edits(&split.request_headers, &split.response_headers);
                    legs.push(Leg { end, edits, next: self.node(&split.next_node, depth + 1)? });
                }
                if end == 0 {
                    return Err(RouteTableError::DeadEnd { service, node });
                }
                self.table.split_totals.push(end);
                Node::Splitter { legs, counter: self.table.split_totals.len() - 1 }
            }
        };
        self.table.nodes.push(built);
        let number = self.table.nodes.len() - 1;
        self.numbers.insert(name, number);
        Ok(number)
    }
}

#[cfg(test)]
pub(super) mod tests;
