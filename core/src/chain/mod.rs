//! Discovery chains: config entries compiled into what a proxy follows for one service.

mod affected;
mod compile;
mod compiled;
mod endpoint;
mod entries;
mod error;
mod flatten;
mod reach;
mod resolve;
mod rollout;
mod select;
mod shown;
mod subset;
#[cfg(test)]
mod tests;

pub use affected::check_write;
pub use compile::{ChainOverrides, REQUEST_TIMEOUT_DEFAULT, compile, compile_with};
pub use compiled::{
    ChainNode, ChainRollout, ChainRoute, ChainSplit, CompiledChain, ResolverNode, RouteAction,
    RouterNode, SplitterNode, Target, TargetId,
};
pub use endpoint::Endpoint;
pub use entries::EntryLookup;
pub use error::{ChainError, Place};
pub use select::{select, tell_tiers};
pub use subset::subset;
