//! The subcommands, one each.

pub(crate) mod acl;
pub(crate) mod agent;
pub(crate) mod bookinfo;
pub(crate) mod can_i;
pub(crate) mod catalog;
pub(crate) mod config;
pub(crate) mod debug;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod dns;
pub(crate) mod event;
pub(crate) mod host;
pub(crate) mod info;
pub(crate) mod intention;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod login;
pub(crate) mod members;
pub(crate) mod monitor;
pub(crate) mod operator;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod snapshot;
pub(crate) mod version;
pub(crate) mod watch;
