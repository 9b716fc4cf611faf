//! What intentions ask of the tokens that requests carry: from whom, and with which claims.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;
use crate::limits;
use crate::name::ServiceName;

/// A token that requests must carry: of one of these providers.
///
/// **Shape**: at least one provider, each once.
/// **Source**: Consul: docs/connect/config-entries/service-intentions#jwt.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IntentionJwt {
    /// Whose token, and what it must say.
    pub providers: Vec<IntentionJwtProvider>,
}

/// A token of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntentionJwtProvider {
    /// The `jwt-provider` entry.
    pub name: ServiceName,
    /// What the token must say, all of it, beside what the provider asks of each token.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub verify_claims: Vec<JwtClaim>,
}

/// A claim that a token must have.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JwtClaim {
    /// The way to it: the name of a claim, then names within it.
    pub path: Vec<String>,
    /// Its text; of a list, that of one element.
    ///
    /// Differs: Consul takes texts alone; here a number or truth value is its text, and a list
    /// holds what one of its elements does.
    pub value: String,
}

impl IntentionJwt {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        let at = format!("{field}.Providers");
        if self.providers.is_empty() {
            findings.add(&*at, "must name at least one jwt-provider");
        }
        findings.count(&at, self.providers.len(), limits::JWT_PROVIDERS_PER_RULE_MAX);
        for (number, provider) in self.providers.iter().enumerate() {
            let at = format!("{at}[{number}]");
            if self.providers[..number].iter().any(|other| other.name == provider.name) {
                findings.add(format!("{at}.Name"), "is given twice");
            }
            let at = format!("{at}.VerifyClaims");
            findings.count(&at, provider.verify_claims.len(), limits::CONDITIONS_PER_ROUTE_MAX);
            for (number, claim) in provider.verify_claims.iter().enumerate() {
                claim.check(&format!("{at}[{number}]"), findings);
            }
        }
    }
}

impl JwtClaim {
    fn check(&self, field: &str, findings: &mut Findings) {
        if self.path.is_empty() || self.path.iter().any(String::is_empty) {
            findings.add(format!("{field}.Path"), "must be the names on the way to a claim");
        }
        let max = limits::CONDITIONS_PER_ROUTE_MAX;
        findings.count(&format!("{field}.Path"), self.path.len(), max);
        let bytes = self.path.iter().map(String::len).sum();
        findings.bytes(&format!("{field}.Path"), bytes, limits::DESCRIPTION_BYTES_MAX);
        findings.bytes(&format!("{field}.Value"), self.value.len(), limits::DESCRIPTION_BYTES_MAX);
    }
}
