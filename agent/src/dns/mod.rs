//! DNS for this host: packets to `core::dns` and back.
