//! The general engine: HTTP/2 and what must be taken apart, by hyper. Requests become values
//! here; where they go is the hop's decision ([`StreamHop`]).

mod answer;
mod asked;
mod pool;
mod progress;
mod rewound;
mod serve;
mod view;
mod web;

pub(crate) use asked::RequestBody;
pub(crate) use pool::{AppPool, Multiplexed, Stream};
pub(crate) use serve::{Engine, StreamHop, serve};
pub(crate) use view::{CLIENT_CERT, PartsView, SaidCert, set_authority, set_proto};

pub(crate) use hyper::body::Incoming;
