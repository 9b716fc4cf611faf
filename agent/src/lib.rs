//! The agent: what stands beside the services of one host.
//!
//! It registers them, checks their health, keeps the catalog true to them (`local`, `checks`,
//! `sync`), answers the HTTP API and DNS, and gives each local proxy its configuration. What
//! it does not know itself it asks a server (`servers`).

mod acl;
pub mod checks;
pub mod config;
mod contact;
pub mod dns;
pub mod grpc;
pub mod http;
pub mod join;
pub mod jwks;
mod keep;
pub mod leaf;
pub mod local;
pub mod metrics;
pub mod proxycfg;
pub mod reload;
mod roots;
pub mod servers;
mod start;
pub mod sync;
pub mod views;

pub use start::{Agent, AgentHandle, StartError};
