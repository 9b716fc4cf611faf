//! A server and its neighbours on real sockets. One target, as each would link the whole server again;
//! only what reads the log of its process has one of its own.

mod api_doors;
mod cluster;
mod entries;
mod first_path;
mod http_api;
mod join_tokens;
mod kv_api;
mod leadership;
mod login;
mod neighbours;
mod queries;
mod session_api;
mod snapshot;
mod support;
mod surface;
mod watching;
