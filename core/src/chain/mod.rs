//! Discovery chains: config entries compiled into what a proxy follows for one service.

mod compiled;
mod endpoint;

pub use compiled::{
    ChainNode, ChainRoute, ChainSplit, CompiledChain, ResolverNode, RouteAction, RouterNode,
    SplitterNode, Target, TargetId,
};
pub use endpoint::Endpoint;
