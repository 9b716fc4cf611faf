//! What one stream of an Envoy has asked for, what it was told last, and whether it took that: the
//! state-of-the-world variant of Envoy's protocol. No I/O.

use std::collections::BTreeSet;

use tonic::Status;
use weft_proto::grpc::secret::node::UserAgentVersionType;
use weft_proto::grpc::secret::{BuildVersion, DiscoveryRequest, DiscoveryResponse, Node};
use weft_proto::secret::SECRET_TYPE;

use super::message::{Secrets, Validation, Wanted};
use crate::grpc::workload::message::Known;

/// Characters of a reason that somebody else gives.
const REASON_CHARS_MAX: usize = 256;

/// One stream; a new one has asked for nothing.
///
/// **Source**: Envoy: docs/api-docs/xds_protocol.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wanted: Option<Wanted>,
    validation: Validation,
    /// The last answer, as long as it answers what is wanted now.
    told: Option<Secrets>,
    /// Answers so far: the version and the nonce of the last one.
    answers: u64,
    /// Whether the last answer was accepted or rejected.
    is_judged: bool,
}

/// What there is to tell.
#[derive(Debug)]
pub(super) enum Due {
    /// Something else than before.
    New(Secrets),
    /// Nothing of what is wanted is there, or nothing is wanted yet.
    Nothing,
    /// All has been told.
    Told,
}

/// What a request said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whether it asks for other secrets than the last one.
    pub(super) asks_anew: bool,
    /// Why the last answer was not taken.
    pub(super) rejection: Option<String>,
}

impl Subscription {
    pub(super) fn has_asked(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) fn was_told(&self) -> bool {
        self.answers > 0
    }

    /// Takes a request: the first one, an acknowledgement, a rejection, or other names.
    ///
    /// # Errors
    /// When it asks for something other than secrets.
    pub(super) fn hear(&mut self, request: DiscoveryRequest) -> Result<Heard, Status> {
        if !request.type_url.is_empty() && request.type_url != SECRET_TYPE {
            let given: String = request.type_url.chars().take(REASON_CHARS_MAX).collect();
            return Err(Status::invalid_argument(format!(
                "type_url is {given:?}; there is only {SECRET_TYPE:?} here"
            )));
        }
        // Only the first request of a stream tells of the node.
        if let Some(node) = &request.node {
            self.validation = validation(node);
        }
        // An answer to an earlier answer: the one to the last will say all of it again.
        if self.was_told() && request.response_nonce != self.answers.to_string() {
            return Ok(Heard::default());
        }
        let rejection = request.error_detail.filter(|_| self.was_told() && !self.is_judged);
        self.is_judged = true;
        let names: BTreeSet<String> =
            request.resource_names.into_iter().filter(|name| !name.is_empty()).collect();
        let wanted = Wanted { names, validation: self.validation };
        let asks_anew = self.wanted.as_ref() != Some(&wanted);
        if asks_anew {
            (self.wanted, self.told) = (Some(wanted), None);
        }
        let rejection =
            rejection.map(|status| status.message.chars().take(REASON_CHARS_MAX).collect());
        Ok(Heard { asks_anew, rejection })
    }

    /// Says what is to be told by what is known; one who `waits` is told only when all is there.
    ///
    /// # Errors
    /// When a name is not for this process.
    pub(super) fn due(&self, known: &Known, waits: bool) -> Result<Due, Status> {
        let Some(wanted) = &self.wanted else { return Ok(Due::Nothing) };
        let found = wanted.find(known)?;
        Ok(match found.secrets {
            secrets if secrets.is_empty() || (waits && !found.is_whole) => Due::Nothing,
            secrets if self.told.as_ref() == Some(&secrets) => Due::Told,
            secrets => Due::New(secrets),
        })
    }

    /// Makes the answer that tells secrets.
    pub(super) fn tell(&mut self, secrets: Secrets) -> DiscoveryResponse {
        self.answers += 1;
        self.is_judged = false;
        self.told = Some(secrets.clone());
        DiscoveryResponse {
            version_info: self.answers.to_string(),
            resources: secrets,
            type_url: SECRET_TYPE.to_owned(),
            nonce: self.answers.to_string(),
        }
    }
}

/// Says how a node checks SPIFFE certificates: since Envoy 1.18 there is a way of their own.
fn validation(node: &Node) -> Validation {
    let build = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version })) => version,
        Some(UserAgentVersionType::UserAgentVersion(_)) | None => &None,
    };
    match build {
        Some(version) if (version.major_number, version.minor_number) >= (1, 18) => {
            Validation::TrustDomain
        }
        Some(_) | None => Validation::Roots,
    }
}
