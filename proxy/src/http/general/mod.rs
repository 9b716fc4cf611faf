//! The general engine: HTTP/2 and what must be taken apart, by hyper. Requests become values
//! here; where they go is the hop's decision ([`StreamHop`]).

mod answer;
mod asked;
mod incoming;
mod pool;
mod progress;
mod replay;
mod rewound;
mod serve;
mod slow_body;
mod tunnel;
mod view;
mod web;

pub(crate) use answer::AnswerBody;
pub(crate) use asked::{AskedError, RequestBody};
pub(crate) use incoming::Incoming;
pub(crate) use pool::{AppPool, Multiplexed, Stream};
pub(crate) use replay::Replay;
pub(crate) use serve::{Context, Engine, StreamHop, answer_one, serve};
pub(crate) use tunnel::{
    NONCE_BYTES, ask_http1, bridge, is_bridged, is_extended_connect, is_plain_connect, not_offered,
    wants_tunnel,
};
pub(crate) use view::{
    AsksTiming, CLIENT_CERT, HeadRules, PartsView, SaidCert, Tunnels, each_value, set_authority,
    set_proto,
};
