//! The generated gRPC modules, named; and how their messages are read and written.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Package `weft.v1`.
pub mod v1 {
    // Generated code follows the generator's rules; the `.proto` files carry the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    tonic::include_proto!("weft.v1");
}

/// Bytes of a buffer before there is anything to put into it. A stream has two and keeps them
/// while nothing happens, and a server has ten thousand streams; for a message that is longer the
/// buffer grows at once to the length of the message.
const BUFFER_BYTES: usize = 256;
/// Bytes of messages that are written as one; tonic's own choice.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of all our services: protobuf, with small buffers.
#[derive(Debug, Clone)]
pub struct Lean<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Lean<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Lean<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}

pub use collector::logs::v1 as otlp_logs;
pub use collector::trace::v1 as otlp;

/// Package `opentelemetry.proto.collector`, whose modules refer to each other by their places.
mod collector {
    // Generated code follows the generator's rules; the `.proto` files carry the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    /// Spans for a collector.
    pub mod trace {
        pub mod v1 {
            tonic::include_proto!("opentelemetry.proto.collector.trace.v1");

            impl ExportTraceServiceRequest {
                /// Returns the message as it is sent over HTTP.
                pub fn bytes(&self) -> Vec<u8> {
                    prost::Message::encode_to_vec(self)
                }
            }
        }
    }

    /// Logs for a collector.
    pub mod logs {
        pub mod v1 {
            tonic::include_proto!("opentelemetry.proto.collector.logs.v1");

            impl ExportLogsServiceRequest {
                /// Returns the message as it is sent over HTTP.
                pub fn bytes(&self) -> Vec<u8> {
                    prost::Message::encode_to_vec(self)
                }
            }
        }
    }
}

/// Package `grpc.health.v1`: how a gRPC endpoint tells its health.
pub mod health {
    // Generated code follows the generator's rules; the `.proto` file carries the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    tonic::include_proto!("grpc.health.v1");
}

/// The SPIFFE Workload API, which has no package.
pub mod workload {
    // Generated code follows the generator's rules; the `.proto` file carries the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    tonic::include_proto!("_");
}

/// Package `envoy.service.auth.v3`: how external authorisers are asked.
pub mod auth {
    // Generated code follows the generator's rules; the `.proto` file carries the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    tonic::include_proto!("envoy.service.auth.v3");
}

/// Package `envoy.service.secret.v3`: how Envoy is given certificates and roots.
pub mod secret {
    // Generated code follows the generator's rules; the `.proto` file carries the documentation.
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::invalid_html_tags)]

    tonic::include_proto!("envoy.service.secret.v3");
}
