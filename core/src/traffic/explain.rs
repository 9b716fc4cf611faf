//! Why a request goes where it goes: each decision of a chain, with the reasons.

use serde::Serialize;
use serde_json::{Map, Value};

use super::condition::Conditions;
use super::route::RouteTableError;
use super::{RequestView, Rewrite};
use crate::chain::{ChainNode, CompiledChain, RouterNode, TargetId};
use crate::config_entry::HttpMatch;
use crate::limits;

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
}

/// Follows a request through a chain; without one (bytes that are not HTTP) routers take their last
/// route. All legs of splitters are followed.
///
/// # Errors
/// [`RouteTableError`] as for a table of the chain.
pub fn explain(
    chain: &CompiledChain,
    request: Option<&dyn RequestView>,
) -> Result<Explained, RouteTableError> {
    let path = request.map(|request| request.path().to_vec()).unwrap_or_default();
    let walk = Walk { chain, request };
    walk.node(&chain.start_node, (100.0, path), 0)
}

struct Walk<'a> {
    chain: &'a CompiledChain,
    request: Option<&'a dyn RequestView>,
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
                Decision::Splitter { legs }
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
            let matched = match self.request {
                Some(request) => {
                    let conditions = Conditions::compile(&route.matches).map_err(unclear)?;
                    // The last route takes what is left.
                    conditions.matched_path_bytes(request).or(is_last.then_some(0))
                }
                None => is_last.then_some(0),
            };
            let (met, unmet) = self.judged(&route.matches).map_err(unclear)?;
            let is_taken = matched.is_some();
            routes.push(ExplainedRoute { route: number, is_taken, met, unmet });
            let Some(matched_bytes) = matched else { continue };
            let mut rewritten = path;
            if let (Some(replacement), Some(request)) = (&route.action.prefix_rewrite, self.request)
            {
                rewritten = Vec::new();
                Rewrite { matched_bytes, replacement }.apply(request.path(), &mut rewritten);
            }
            let next = self.node(&route.next_node, (share, rewritten), depth + 1)?;
            return Ok(Decision::Router { routes, next: Box::new(next) });
        }
        let (service, node) = (self.chain.service_name.to_string(), name.to_owned());
        Err(RouteTableError::DeadEnd { service, node })
    }

    /// Judges each condition of a route by itself: those that hold, and those that do not.
    fn judged(&self, matches: &HttpMatch) -> Result<(Vec<String>, Vec<String>), regex::Error> {
        let (mut met, mut unmet) = (Vec::new(), Vec::new());
        for (text, alone) in single(matches) {
            let conditions = Conditions::compile(&alone)?;
            let holds = |request| conditions.matched_path_bytes::<dyn RequestView>(request);
            match self.request.and_then(holds) {
                Some(_) => met.push(text),
                None => unmet.push(text),
            }
        }
        Ok((met, unmet))
    }
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
