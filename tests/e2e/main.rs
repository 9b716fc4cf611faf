//! Whole meshes of real processes, seen from outside: HTTP, DNS and plain clients.
//!
//! Each file is one promise to users; each test starts its own cluster on free ports and can run
//! beside the others.

mod access;
mod access_everywhere;
mod access_logs;
mod agents;
mod audit;
mod authoriser;
mod bad_input;
mod bypass;
mod cli;
mod clients;
mod clusters;
mod demo;
mod dns;
mod dns_oddities;
mod dns_tools;
mod entries;
mod envoy_secrets;
mod estate;
mod external_checks;
mod first_path;
mod floods;
mod framing;
mod hot_restart;
mod identity;
mod issuer;
mod join_tokens;
mod keys_and_locks;
mod kills;
mod large_values;
mod leases;
mod listeners;
mod many_servers;
mod mesh_tls;
mod origins;
mod outside;
mod patroni;
mod peers;
mod plaintext;
mod pods;
mod prometheus;
mod proxy_life;
mod proxy_protocol;
mod real_programs;
mod restart;
mod revocation;
mod rotation;
mod storage;
mod story;
mod tokens;
mod tracing;
mod unix_sockets;
mod watching;
mod workload_api;
