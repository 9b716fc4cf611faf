//! A compiled chain as a table that is walked once for each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::condition::Conditions;
use super::cookie::GivenCookie;
use super::path_index::PathIndex;
use super::sticky::{self, Said};
use super::{
    HeaderEdits, HeaderPlan, Mix64, PathPattern, RequestView, RetryRules, Rewrite, RouteAnswer,
    SplitCounter,
};
use crate::chain::{ChainNode, ChainRoute, CompiledChain, TargetId};
use crate::config_entry::{HeaderChanges, RouteFault, Sticky, Weight};
use crate::intention::server_name::is_meant;
use crate::limits;
use crate::log_format::HeaderSide;
use crate::name::ServiceName;

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
    /// The host that the service is asked for, if not the one that the caller asks for.
    pub host: Option<&'a str>,
    /// What the caller gets without any service, and how much of the path was matched.
    pub answer: Option<(&'a RouteAnswer, usize)>,
    /// What goes wrong on purpose.
    pub fault: Option<&'a RouteFault>,
    /// Where copies go.
    pub mirror: Option<&'a Mirrored>,
    /// A cookie that the caller is given.
    pub cookie: Option<GivenCookie<'a>>,
    /// What becomes of headers.
    pub edited: Edited,
    /// When the request is tried again; `None` for never.
    pub retries: Option<&'a Arc<RetryRules>>,
    /// The number of the route of the service's router, from 1; `None` without a router.
    pub route: Option<usize>,
}

/// Where copies of a route's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// The target's number.
    pub target: usize,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer; zero for no limit.
    pub request_timeout: Duration,
    percent: Weight,
}

impl Mirrored {
    /// Whether a request is one of those that are copied.
    pub fn is_drawn(&self, random: &mut Mix64) -> bool {
        random.below(Weight::FULL.hundredths()) < self.percent.hundredths()
    }
}

/// One worker's places in the splitters of one table.
#[derive(Debug)]
pub struct Splits {
    counters: Vec<SplitCounter>,
    /// For the values of cookies.
    random: Mix64,
}

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
    /// With an index where there are many routes.
    Router(Vec<Route>, Option<PathIndex>),
    Splitter {
        legs: Vec<Leg>,
        counter: usize,
        sticky: Option<Box<Sticky>>,
    },
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
    /// Its place in the router, from 1; those between may be for other callers.
    number: usize,
    conditions: Conditions,
    sni: Vec<Box<str>>,
    rewrite: Option<OwnRewrite>,
    host: Option<Box<str>>,
    answer: Option<Box<RouteAnswer>>,
    fault: Option<Box<RouteFault>>,
    mirror: Option<Box<Mirrored>>,
    request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    edits: u32,
    retries: Option<Arc<RetryRules>>,
    next: usize,
}

/// What a route does with paths.
#[derive(Debug)]
enum OwnRewrite {
    Pattern(PathPattern),
    Prefix(Box<str>),
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
    /// Compiles a chain as a service follows it; routes for other callers are left out.
    ///
    /// # Errors
    /// [`RouteTableError`] when the chain does not have the shape of a [`CompiledChain`].
    pub fn compile(chain: &CompiledChain, caller: &ServiceName) -> Result<Self, RouteTableError> {
        let targets = chain.targets.keys().cloned().collect();
        let (nodes, split_totals, edits) = (Vec::new(), Vec::new(), Vec::new());
        let table = Self { nodes, start: 0, targets, split_totals, edits };
        let mut build = Build { chain, caller, numbers: BTreeMap::new(), table };
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
            Node::Resolver(_) | Node::Router(..) | Node::Splitter { .. } => None,
        })
    }

    /// Makes one worker's places in the splitters.
    pub fn splits(&self, start: &mut Mix64) -> Splits {
        let counters = self.split_totals.iter().map(|total| SplitCounter::new(*total, start));
        Splits { counters: counters.collect(), random: Mix64::new(start.next_u64()) }
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
            Node::Router(routes, _) => Some(routes),
            Node::Resolver(_) | Node::Splitter { .. } => None,
        });
        routers.flatten().any(|route| !route.sni.is_empty())
    }

    /// Says where a connection goes whose caller asks for a server name in TLS, or for none.
    pub fn route_tls(&self, name: Option<&str>, splits: &mut Splits) -> Routed<'_> {
        self.walk(splits, |routes, _| (choose_tls(routes, name), 0), |_| Said::Nothing)
    }

    /// Says where a request goes; without a request (bytes that are not HTTP) routers take
    /// their last route.
    pub fn route<'a, R: RequestView + ?Sized>(
        &'a self,
        request: Option<&R>,
        splits: &mut Splits,
    ) -> Routed<'a> {
        let said = |sticky| request.map_or(Said::Nothing, |request| Said::of(sticky, request));
        self.walk(splits, |routes, index| choose(routes, index, request), said)
    }

    fn walk<'a>(
        &'a self,
        splits: &mut Splits,
        choose: impl Fn(&'a [Route], Option<&'a PathIndex>) -> (usize, usize),
        said: impl Fn(&'a Sticky) -> Said<'a>,
    ) -> Routed<'a> {
        let mut at = self.start;
        let (mut rewrite, mut host, mut answer) = (None, None, None);
        let (mut fault, mut mirror, mut cookie) = (None, None, None);
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
                        host,
                        answer,
                        fault,
                        mirror,
                        cookie,
                        edited,
                        retries,
                        route: taken,
                    };
                }
                Node::Router(routes, index) => {
                    let (number, matched_bytes) = choose(routes, index.as_ref());
                    let route = &routes[number];
                    taken.get_or_insert(route.number);
                    rewrite = route.rewrite(matched_bytes).or(rewrite);
                    retries = route.retries.as_ref().or(retries);
                    fault = route.fault.as_deref().or(fault);
                    mirror = route.mirror.as_deref().or(mirror);
                    host = route.host.as_deref().or(host);
                    answer = route.answer.as_deref().map(|answer| (answer, matched_bytes));
                    timeout = route.request_timeout.or(timeout);
                    idle_timeout = route.idle_timeout.or(idle_timeout);
                    edited.route = route.edits;
                    at = route.next;
                }
                Node::Splitter { legs, counter, sticky } => {
                    let total = legs.last().map_or(0, |leg| leg.end);
                    let said = sticky.as_deref().map_or(Said::Nothing, &said);
                    let place = match answer {
                        None => splits.place((*counter, total), said, &mut cookie),
                        // What no service gets takes no place from what one does.
                        Some(_) => 0,
                    };
                    let leg = legs.iter().find(|leg| place < leg.end).unwrap_or(&legs[0]);
                    edited.leg = leg.edits;
                    at = leg.next;
                }
            }
        }
    }
}

impl Route {
    /// Returns what becomes of a path of which so many bytes were matched.
    fn rewrite(&self, matched_bytes: usize) -> Option<Rewrite<'_>> {
        Some(match self.rewrite.as_ref()? {
            OwnRewrite::Pattern(pattern) => Rewrite::Pattern(pattern),
            OwnRewrite::Prefix(replacement) => Rewrite::Prefix { matched_bytes, replacement },
        })
    }
}

impl Splits {
    /// Returns the place of a request in a splitter's cycle; makes the cookie that it is given.
    fn place<'a>(
        &mut self,
        (counter, total): (usize, u32),
        said: Said<'a>,
        cookie: &mut Option<GivenCookie<'a>>,
    ) -> u32 {
        match said {
            Said::Cookie(of) => {
                let given = cookie.insert(sticky::given(of, self.random.next_u64()));
                sticky::place(sticky::number(given.text().as_bytes()), total)
            }
            Said::Nothing => self.counters.get_mut(counter).map_or(0, SplitCounter::advance),
            Said::Value(number) => sticky::place(number, total),
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
fn choose<R: RequestView + ?Sized>(
    routes: &[Route],
    index: Option<&PathIndex>,
    request: Option<&R>,
) -> (usize, usize) {
    let (last, others) = routes.split_last().expect("routers are compiled with at least one route");
    let Some(request) = request else { return (others.len(), 0) };
    let found = index.map(|index| index.candidates([request.path()].into_iter()));
    let each = if found.is_some() { 0 } else { others.len() };
    let numbers = found.into_iter().flatten().chain(0..each).take_while(|it| *it < others.len());
    let matched =
        |number: usize| Some((number, others[number].conditions.matched_path_bytes(request)?));
    let mut taken = numbers.filter_map(matched);
    taken
        .next()
        .unwrap_or_else(|| (others.len(), last.conditions.matched_path_bytes(request).unwrap_or(0)))
}

/// A table under construction.
struct Build<'a> {
    chain: &'a CompiledChain,
    caller: &'a ServiceName,
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

    /// Finds where copies of a route's requests go.
    fn mirror(&self, route: &ChainRoute) -> Result<Option<Box<Mirrored>>, RouteTableError> {
        let (Some(mirror), Some(node)) = (&route.action.mirror, &route.mirror_node) else {
            return Ok(None);
        };
        let Some(ChainNode::Resolver(resolver)) = self.chain.nodes.get(node) else {
            let (service, node) = (self.chain.service_name.to_string(), node.clone());
            return Err(RouteTableError::Missing { service, node });
        };
        Ok(Some(Box::new(Mirrored {
            target: self.target(&resolver.target)?,
            connect_timeout: resolver.connect_timeout,
            request_timeout: resolver.request_timeout,
            percent: mirror.percent.unwrap_or(Weight::FULL),
        })))
    }

    /// Makes the route of this number ready that leads to a node.
    fn route(
        &mut self,
        route: &ChainRoute,
        (number, next): (usize, usize),
    ) -> Result<Route, regex::Error> {
        let action = &route.action;
        let rewrite = match (&action.path_rewrite, &action.prefix_rewrite) {
            (Some(rewrite), _) => Some(OwnRewrite::Pattern(PathPattern::compile(rewrite)?)),
            (None, Some(replacement)) => Some(OwnRewrite::Prefix(replacement.as_str().into())),
            (None, None) => None,
        };
        Ok(Route {
            number,
            conditions: Conditions::compile(&route.matches)?,
            sni: route.sni.iter().map(|name| name.as_str().into()).collect(),
            rewrite,
            host: action.host_rewrite.as_deref().map(Into::into),
            answer: RouteAnswer::of(action).map(Box::new),
            fault: action.fault.clone().map(Box::new),
            mirror: None,
            request_timeout: action.request_timeout,
            idle_timeout: action.idle_timeout,
            retries: RetryRules::of(action).map(Arc::new),
            edits: self.edits([&action.request_headers], [&action.response_headers]),
            next,
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
                for (at, route) in router.routes.iter().enumerate() {
                    let sources = &route.matches.sources;
                    if !sources.is_empty() && !sources.contains(self.caller) {
                        continue;
                    }
                    let next = self.node(&route.next_node, depth + 1)?;
                    let mut ready = self.route(route, (at + 1, next)).map_err(|source| {
                        let (service, node) = (service.clone(), node.clone());
                        RouteTableError::Expression { service, node, source: Box::new(source) }
                    })?;
                    ready.mirror = self.mirror(route)?;
                    routes.push(ready);
                }
                if routes.is_empty() {
                    return Err(RouteTableError::DeadEnd { service, node });
                }
                let index = PathIndex::of(routes.iter().map(|route| route.conditions.path()));
                Node::Router(routes, index)
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
                let counter = self.table.split_totals.len() - 1;
                let sticky = splitter.sticky.clone().map(|mut sticky| {
                    sticky.header.make_ascii_lowercase();
                    Box::new(sticky)
                });
                Node::Splitter { legs, counter, sticky }
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
