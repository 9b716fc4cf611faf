//! Accepting: worker threads, the listeners of each workload on them, and their connections.
//!
//! What is done with a connection is `outbound`'s and `inbound`'s affair.

mod accept;
mod crew;
mod descriptors;
mod hops;
mod live;
mod load;
mod local;
mod quic;
mod thread;
mod udp;
mod unix;
mod worker;

pub(crate) use accept::{Place, serve_stream};
pub(crate) use crew::{Bequest, Crew, CrewOptions, Inherited, Unbound};
pub(crate) use live::{Caller, Live};
pub(crate) use load::InFlight;
pub(crate) use local::{Local, LocalEndpoint, LocalTarget, LocalUpstream, Pools};
pub(crate) use quic::docks;
pub(crate) use udp::InheritedUdp;
pub(crate) use unix::UnixDoors;
pub(crate) use worker::{Worker, seeded};
