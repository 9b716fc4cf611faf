//! Why a request goes where it goes: each decision of a chain, with the reasons.

use serde::Serialize;
use serde_json::{Map, Value};

use super::condition::Conditions;
use super::route::RouteTableError;
use super::{PathPattern, RequestView, Rewrite, RouteAnswer};
use crate::chain::{ChainNode, ChainRoute, CompiledChain, RouteAction, RouterNode, TargetId};
use crate::config_entry::{HttpMatch, Sticky};
use crate::limits;
use crate::name::ServiceName;

/// One step of a chain, and where it leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explained {
    /// The node, such as `router:web`.
    pub node: String,
    /// **Units**: percent of the requests like the one that is asked about that come here.
    pub share: f64,
    /// What it decides.
    #[serde(flatten)]
    pub decision: Decision,
}

/// What one node of a chain decides.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum Decision {
    /// Here the caller's proxy answers by itself.
    #[serde(rename_all = "PascalCase")]
    Answer {
        /// The status.
        status: u16,
        /// Where the caller is sent, if it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// By the content of the request.
    #[serde(rename_all = "PascalCase")]
    Router {
        /// The routes in order, up to the one that takes the request.
        routes: Vec<ExplainedRoute>,
        /// Where it leads.
        next: Box<Explained>,
    },
    /// By weight.
    #[serde(rename_all = "PascalCase")]
    Splitter {
        /// Where each leg leads.
        legs: Vec<Explained>,
        /// By what the same leg is found again, if it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        sticky: Option<Sticky>,
    },
    /// Here requests end.
    #[serde(rename_all = "PascalCase")]
    Resolver {
        /// The target.
        target: TargetId,
        /// Where to when no instance of it is healthy.
        failover: Vec<TargetId>,
        /// The path that the target sees; empty for bytes.
        path: String,
    },
}

/// One route, and why it takes a request or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExplainedRoute {
    /// Its number, from 1.
    pub route: usize,
    /// Whether it takes the request.
    pub is_taken: bool,
    /// The conditions that hold, as they stand in the entry.
    pub met: Vec<String>,
    /// Those that do not.
    pub unmet: Vec<String>,
    /// What it does with the request besides, as it stands in the entry; empty where it does not take it.
    pub does: Vec<String>,
}

/// Follows a request of a service through a chain; without a request (bytes that are not HTTP) routers take
/// their last route, and without a service routes of certain callers take nothing. All legs of splitters are
/// followed.
///
/// # Errors
/// [`RouteTableError`] as for a table of the chain.
pub fn explain(
    chain: &CompiledChain,
    request: Option<&dyn RequestView>,
    caller: Option<&ServiceName>,
) -> Result<Explained, RouteTableError> {
    let path = request.map(|request| request.path().to_vec()).unwrap_or_default();
    let walk = Walk { chain, request, caller };
    walk.node(&chain.start_node, (100.0, path), 0)
}

struct Walk<'a> {
    chain: &'a CompiledChain,
    request: Option<&'a dyn RequestView>,
    caller: Option<&'a ServiceName>,
}

impl Walk<'_> {
    fn node(
        &self,
        name: &str,
        (share, path): (f64, Vec<u8>),
        depth: usize,
    ) -> Result<Explained, RouteTableError> {
        let (service, node) = (self.chain.service_name.to_string(), name.to_owned());
        if depth > 2 * limits::CHAIN_DEPTH_MAX {
            return Err(RouteTableError::Cycle { service, node });
        }
        let decision = match self.chain.nodes.get(name) {
            None => return Err(RouteTableError::Missing { service, node }),
            Some(ChainNode::Resolver(resolver)) => Decision::Resolver {
                target: resolver.target.clone(),
                failover: resolver.failover.clone(),
                path: String::from_utf8_lossy(&path).into_owned(),
            },
            Some(ChainNode::Router(router)) => self.router(name, router, (share, path), depth)?,
            Some(ChainNode::Splitter(splitter)) => {
                let total: u32 = splitter.splits.iter().map(|it| it.weight.hundredths()).sum();
                let mut legs = Vec::with_capacity(splitter.splits.len());
                for split in &splitter.splits {
                    let part = f64::from(split.weight.hundredths()) / f64::from(total.max(1));
                    let here = (share * part, path.clone());
                    legs.push(self.node(&split.next_node, here, depth + 1)?);
                }
                Decision::Splitter { legs, sticky: splitter.sticky.clone() }
            }
        };
        Ok(Explained { node, share, decision })
    }

    fn router(
        &self,
        name: &str,
        router: &RouterNode,
        (share, path): (f64, Vec<u8>),
        depth: usize,
    ) -> Result<Decision, RouteTableError> {
        let unclear = |source| RouteTableError::Expression {
            service: self.chain.service_name.to_string(),
            node: name.to_owned(),
            source: Box::new(source),
        };
        let mut routes = Vec::new();
        for (number, route) in (1..).zip(&router.routes) {
            let is_last = number == router.routes.len();
            let matched = self.matched(route, is_last).map_err(unclear)?;
            let (met, unmet) = self.judged(&route.matches).map_err(unclear)?;
            let does = matched.map(|_| does(&route.action)).unwrap_or_default();
            let is_taken = matched.is_some();
            routes.push(ExplainedRoute { route: number, is_taken, met, unmet, does });
            let Some(matched_bytes) = matched else { continue };
            let mut rewritten = path;
            if let Some(request) = self.request {
                if let Some(decision) = answered(&route.action, request, matched_bytes) {
                    let node = format!("route:{}#{number}", self.chain.service_name);
                    let next = Box::new(Explained { node, share, decision });
                    return Ok(Decision::Router { routes, next });
                }
                let changed = changed(&route.action, request, matched_bytes).map_err(unclear)?;
                rewritten = changed.unwrap_or(rewritten);
            }
            let next = self.node(&route.next_node, (share, rewritten), depth + 1)?;
            return Ok(Decision::Router { routes, next: Box::new(next) });
        }
        let (service, node) = (self.chain.service_name.to_string(), name.to_owned());
        Err(RouteTableError::DeadEnd { service, node })
    }

    /// Returns how much of the path a route has matched, if it takes the request; the last one takes what is
    /// left.
    fn matched(&self, route: &ChainRoute, is_last: bool) -> Result<Option<usize>, regex::Error> {
        let left = is_last.then_some(0);
        let Some(request) = self.request else { return Ok(left) };
        if !self.is_source(&route.matches) {
            return Ok(left);
        }
        let conditions = Conditions::compile(&route.matches)?;
        Ok(conditions.matched_path_bytes(request).or(left))
    }

    /// Whether a route is for the service that calls.
    fn is_source(&self, matches: &HttpMatch) -> bool {
        let sources = &matches.sources;
        sources.is_empty() || self.caller.is_some_and(|caller| sources.contains(caller))
    }

    /// Judges each condition of a route by itself: those that hold, and those that do not.
    fn judged(&self, matches: &HttpMatch) -> Result<(Vec<String>, Vec<String>), regex::Error> {
        let (mut met, mut unmet) = (Vec::new(), Vec::new());
        for (text, alone) in single(matches) {
            let conditions = Conditions::compile(&alone)?;
            let holds = |request| conditions.matched_path_bytes::<dyn RequestView>(request);
            match self.request.and_then(holds).filter(|_| self.is_source(&alone)) {
                Some(_) => met.push(text),
                None => unmet.push(text),
            }
        }
        Ok((met, unmet))
    }
}

/// Says what a route does, each as it stands in the entry.
fn does(action: &RouteAction) -> Vec<String> {
    action.shown().into_iter().map(|(name, value)| format!("{name} {value}")).collect()
}

/// Returns what the caller's proxy answers by itself, if the route has it do so.
fn answered(
    action: &RouteAction,
    request: &dyn RequestView,
    matched_bytes: usize,
) -> Option<Decision> {
    let made = RouteAnswer::of(action)?.make(request, matched_bytes);
    let (name, value) = made.header;
    let location = (name == "location").then(|| String::from_utf8_lossy(&value).into_owned());
    Some(Decision::Answer { status: made.status, location })
}

/// Returns the path that goes on, if the route changes it.
fn changed(
    action: &RouteAction,
    request: &dyn RequestView,
    matched_bytes: usize,
) -> Result<Option<Vec<u8>>, regex::Error> {
    let pattern = action.path_rewrite.as_ref().map(PathPattern::compile).transpose()?;
    let rewrite = match (&pattern, &action.prefix_rewrite) {
        (Some(pattern), _) => Rewrite::Pattern(pattern),
        (None, Some(replacement)) => Rewrite::Prefix { matched_bytes, replacement },
        (None, None) => return Ok(None),
    };
    let mut path = Vec::new();
    rewrite.apply(request.path(), &mut path);
    Ok(Some(path))
}

/// Takes conditions apart: each as it stands in the entry, and as all that is asked for.
fn single(matches: &HttpMatch) -> Vec<(String, HttpMatch)> {
    /// What changes the meaning of others, and is no condition.
    const MODIFIER: &str = "CaseInsensitive";
    let Ok(Value::Object(fields)) = serde_json::to_value(matches) else { return Vec::new() };
    let modifier = fields.get(MODIFIER).cloned();
    let mut all = Vec::new();
    for (name, value) in fields.into_iter().filter(|(name, _)| name != MODIFIER) {
        let parts = match value {
            // Of a list of texts any is enough; of objects each must hold.
            Value::Array(items) if items.iter().any(Value::is_object) => items
                .into_iter()
                .map(|item| (format!("{name} {item}"), Value::Array(vec![item])))
                .collect(),
            value => vec![(format!("{name} {value}"), value)],
        };
        for (text, value) in parts {
            let mut alone = Map::from_iter([(name.clone(), value)]);
            alone.extend(modifier.clone().map(|value| (MODIFIER.to_owned(), value)));
            all.extend(serde_json::from_value(Value::Object(alone)).ok().map(|it| (text, it)));
        }
    }
    all
}

#[cfg(test)]
mod tests;
