//! Weft's control plane: the replicated catalog, intentions, configuration and CA.

mod raft;
