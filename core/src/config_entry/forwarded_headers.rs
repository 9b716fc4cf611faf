//! `ForwardedHeaders`: what proxies tell a service of who calls it, and what they believe of it.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;
use super::findings::Findings;

/// Proxies before ours whose words on a caller's address are believed: no chain of them is longer.
const TRUSTED_HOPS_MAX: u32 = 16;

/// What proxies tell a service of who calls it, and what they believe of it.
///
/// **Source**: no entry of Consul's but for `SanitizeXForwardedClientCert`; names and meanings are
/// those of Envoy's HTTP connection manager.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForwardedHeaders {
    /// What becomes of `x-forwarded-client-cert`.
    #[serde(skip_serializing_if = "is_blank")]
    pub forward_client_cert_details: ForwardClientCert,
    /// What is told there besides `By`, `Hash` and `URI`.
    #[serde(skip_serializing_if = "is_blank")]
    pub set_current_client_cert_details: ClientCertDetails,
    /// How many proxies stand before the doors without TLS: as many entries of `x-forwarded-for` are
    /// kept there, counted from the last, and of none all that is told of the caller is taken out.
    #[serde(rename = "XFFNumTrustedHops", skip_serializing_if = "is_blank")]
    pub xff_num_trusted_hops: u32,
}

/// What becomes of `x-forwarded-client-cert`.
///
/// **Source**: Envoy: `ForwardClientCertDetails`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// Whoever calls says it, also without mutual TLS.
    AlwaysForwardOnly,
    /// A caller with a certificate says it; who that is follows.
    AppendForward,
    /// A caller with a certificate says it.
    ForwardOnly,
    /// It is taken out.
    Sanitize,
    /// It says who calls, and nothing else.
    SanitizeSet,
    /// Nothing is said, which means the one before, unless the `mesh` entry says `Sanitize`.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// What is told of a caller's certificate besides its digest and its identity.
///
/// **Source**: Envoy: `SetCurrentClientCertDetails`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClientCertDetails {
    /// Whether its subject is told.
    #[serde(skip_serializing_if = "is_blank")]
    pub subject: bool,
    /// Whether its DNS names are told.
    #[serde(rename = "DNS", skip_serializing_if = "is_blank")]
    pub dns: bool,
}

impl ForwardedHeaders {
    pub(super) fn check(&self, field: &str, findings: &mut Findings) {
        if self.xff_num_trusted_hops > TRUSTED_HOPS_MAX {
            let reason = format!("must be 0 to {TRUSTED_HOPS_MAX}");
            findings.add(format!("{field}.XFFNumTrustedHops"), reason);
        }
        let details = self.set_current_client_cert_details != ClientCertDetails::default();
        match self.forward_client_cert_details {
            ForwardClientCert::AlwaysForwardOnly
            | ForwardClientCert::ForwardOnly
            | ForwardClientCert::Sanitize
                if details =>
            {
                let reason = "goes with SANITIZE_SET or APPEND_FORWARD, where something is told";
                findings.add(format!("{field}.SetCurrentClientCertDetails"), reason);
            }
            ForwardClientCert::AlwaysForwardOnly
            | ForwardClientCert::AppendForward
            | ForwardClientCert::ForwardOnly
            | ForwardClientCert::Sanitize
            | ForwardClientCert::SanitizeSet
            | ForwardClientCert::Unset => {}
        }
    }

    /// Says what is meant where nothing is said.
    pub fn resolved(mut self, is_sanitised: bool) -> Self {
        if self.forward_client_cert_details == ForwardClientCert::Unset {
            self.forward_client_cert_details = match is_sanitised {
                true => ForwardClientCert::Sanitize,
                false => ForwardClientCert::SanitizeSet,
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_refused() {
        for (json, field) in [
            (r#"{"XFFNumTrustedHops":17}"#, "F.XFFNumTrustedHops"),
            (
                r#"{"ForwardClientCertDetails":"SANITIZE","SetCurrentClientCertDetails":{"DNS":true}}"#,
                "F.SetCurrentClientCertDetails",
            ),
        ] {
            let headers: ForwardedHeaders = serde_json::from_str(json).expect("its form");
            let mut findings = Findings::default();
            headers.check("F", &mut findings);
            let told = findings.result(()).expect_err("refused");
            assert!(told.len() == 1 && told[0].to_string().starts_with(field), "{told:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_told_by_the_mesh() {
        let unset = ForwardedHeaders::default();
        let mode = |headers: ForwardedHeaders| headers.forward_client_cert_details;
        assert_eq!(mode(unset.resolved(false)), ForwardClientCert::SanitizeSet);
        assert_eq!(mode(unset.resolved(true)), ForwardClientCert::Sanitize);
        let mut said = unset;
        said.forward_client_cert_details = ForwardClientCert::AppendForward;
        assert_eq!(mode(said.resolved(true)), ForwardClientCert::AppendForward);
    }
}
