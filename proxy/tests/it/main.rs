//! Proxies on real sockets, without server and agent. One target, as each would link the whole proxy
//! again.

mod chaos;
mod corridor;
mod draining;
mod exposed;
mod forwarded;
mod framing;
mod grpc_web;
mod handover;
mod held_bodies;
mod hosted;
mod limits;
mod permissions;
mod proxy_protocol;
mod quic;
mod resumption;
mod server_names;
mod sharing;
mod smuggling;
mod standing;
mod streams;
mod support;
mod tunnels;
mod udp;
mod unix_sockets;
mod versions;
