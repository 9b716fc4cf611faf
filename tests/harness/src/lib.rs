//! Real Weft processes for tests, seen only from outside.
//!
//! Everything here is blocking and speaks no code of Weft's own: a test that drives the binary
//! over HTTP, DNS and files finds what a user would find. Ports are free ones, folders are
//! temporary, processes end with the value that holds them, and a process that logged a warning
//! which the test did not announce fails the test.

pub mod app;
pub mod cluster;
pub mod eventually;
pub mod frames;
pub mod histogram;
pub mod http;
pub mod network;
pub mod ports;
pub mod proc;
pub mod process;
pub mod servers;
pub mod tls_front;
pub mod tools;
pub mod vault;

pub use app::App;
pub use cluster::{Cluster, TestAgent, TestProxy, TestServer};
pub use eventually::{consistently, eventually};
pub use http::{Answer, Api};
pub use process::{Daemon, Outcome};
pub use servers::{ClusterServer, Servers};
pub use tls_front::TlsFront;
pub use vault::Vault;
