//! Weft's data plane.

mod http;
