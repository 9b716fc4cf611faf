//! How secrets are packed for Envoy: each with the URL of its public type.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::grpc::secret::{Any, Secret, SpiffeCertValidatorConfig};

/// The type of all that secret discovery gives.
///
/// **Source**: Envoy: api-v3/extensions/transport_sockets/tls/v3/secret.proto.
pub const SECRET_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR_TYPE: &str = concat!(
    "type.googleapis.com/",
    "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
);

/// Packs a secret as a resource.
#[must_use]
pub fn pack(secret: &Secret) -> Any {
    any(SECRET_TYPE, secret)
}

/// Packs how Envoy checks SPIFFE certificates.
#[must_use]
pub fn pack_validator(config: &SpiffeCertValidatorConfig) -> Any {
    any(VALIDATOR_TYPE, config)
}

/// Unpacks a resource that [`pack`] made.
///
/// # Errors
/// When its bytes are no secret.
pub fn unpack(resource: &Any) -> Result<Secret, DecodeError> {
    Secret::decode(resource.value.clone())
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: Bytes::from(message.encode_to_vec()) }
}
