//! What a proxy decides for one request or connection: which target, which endpoint, what is
//! rewritten. Sockets and bodies are the proxy's.
//!
//! In the order of a request: [`RouteTable`] walks the compiled chain (routes, then
//! [`SplitCounter`]s), [`Balance`] chooses among the target's endpoints, [`Rewrite`] says what
//! the path becomes, [`RetryRules`] whether it is tried again. [`path`] says over what an endpoint is
//! called, [`outlier`] who is left out for a while. [`limit`] says how many requests are let through at
//! all, [`gate`] how many are under way. [`tap`] says who sees what of all that while it happens,
//! [`flow`] how much of it there is.

mod answer;
mod balance;
mod captured;
pub mod client_hello;
pub(crate) mod condition;
mod cookie;
pub mod datagrams;
pub mod deadline;
mod explain;
mod fault;
pub mod flow;
pub mod gate;
mod gauge;
pub mod grpc_web;
mod header_edits;
pub mod limit;
pub mod message;
mod mix;
pub mod mux;
pub mod outlier;
pub mod path;
pub(crate) mod path_index;
pub mod proxy_protocol;
mod request;
mod retry;
mod rewrite;
mod route;
mod split;
mod sticky;
pub mod tap;
mod throttle;
mod trace;

pub use answer::{MadeAnswer, RouteAnswer};
pub(crate) use balance::hash_of;
pub use balance::{Balance, Endpoints, Latency, Moment, Turn, says_failed};
pub use captured::{CapturedCall, Course};
pub use cookie::GivenCookie;
pub use explain::{Decision, Explained, ExplainedRoute, explain};
pub use fault::Injected;
pub use gauge::Gauge;
pub use header_edits::{HeaderEdits, HeaderPlan};
pub use mix::Mix64;
pub use request::RequestView;
pub use retry::{
    Answered, AttemptEnd, BodyKept, Finality, RetryBudget, RetryRules, Retrying, Traffic, Verdict,
};
pub use rewrite::{PathPattern, Rewrite};
pub use route::{Edited, Mirrored, RouteTable, RouteTableError, Routed, Splits};
pub use split::SplitCounter;
pub use throttle::{Pass, Throttle};
pub use trace::TraceContext;
