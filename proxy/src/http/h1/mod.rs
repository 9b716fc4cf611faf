//! HTTP/1.1 as bytes: heads parsed strictly, bodies delimited, heads written for the next hop.
//!
//! Pure over buffers; sockets are `http::serve`'s. What this parser accepts, every recipient
//! must read in the same way: whatever could be read in two ways is refused.

mod body;
mod field;
mod head;
mod message;
mod told;
mod write;

pub(crate) use body::{BodyError, BodyReader, Framing};
pub(crate) use field::{is_disguised, is_end_to_end, is_envoys, is_like, is_mesh, is_scheme};
pub(crate) use head::{HeadError, HeadScan};
pub(crate) use message::{
    RequestHead, RequestRef, ResponseHead, is_host, is_host_with_port, is_upgrade_known_safe,
};
pub(crate) use write::{
    ClientCert, ConnectionField, Emission, MeshFields, RequestWriter, add_field, write_chunk_end,
    write_chunk_start, write_response_head,
};
