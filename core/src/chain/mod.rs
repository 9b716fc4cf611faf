//! Discovery chains: config entries compiled into what a proxy follows for one service.

mod compiled;

pub use compiled::{
    ChainNode, ChainRoute, ChainSplit, CompiledChain, ResolverNode, RouteAction, RouterNode,
    SplitterNode, Target, TargetId,
};
