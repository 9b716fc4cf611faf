//! What a Weft mesh is: records, decisions and state machines.
//!
//! No I/O, no clock, no randomness, no async; the same inputs give the same outputs on any
//! machine. Four floors, imports only downward:
//!
//! | floor | modules |
//! |---|---|
//! | machines | `state` `watch` `sync` `proxycfg` `rollout` |
//! | judgement | `attestation` `autopilot` `lease` `intention` `chain` `health` `traffic` `dns` `filter` `login` `prepared_query` `capture` |
//! | records | `acl` `catalog` `config_entry` `ca` `kv` `session` |
//! | ground | `name` `identity` `index` `time` `limits` `text_type` `canonical_path` `log_format` |
//!
//! Machines have four verbs: `handle_<input>(…, now)` feeds one fact, `handle_timeout(now)` may
//! be called at any time, `poll_timeout()` says when to call it next, `poll_output()` is drained
//! until `None` after any of them.

pub mod canonical_path;
pub mod identity;
pub mod index;
pub mod limits;
pub mod local_address;
pub mod log_format;
pub mod name;
mod text_type;
pub mod time;

pub mod acl;
pub mod ca;
pub mod catalog;
pub mod config_entry;
pub mod kv;
pub mod session;

pub mod attestation;
pub mod autopilot;
pub mod capture;
pub mod chain;
pub mod dns;
pub mod filter;
pub mod health;
pub mod intention;
pub mod lease;
pub mod login;
pub mod prepared_query;
pub mod traffic;

pub mod proxycfg;
pub mod rollout;
pub mod state;
pub mod sync;
pub mod watch;
