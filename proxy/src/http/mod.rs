//! HTTP mechanics: the HTTP/1.1 fast path and the general engine. Choosing a target is
//! `outbound`'s affair.

pub(crate) mod h1;
