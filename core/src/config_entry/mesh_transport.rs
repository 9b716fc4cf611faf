//! `MeshTransport`: over what callers' proxies come to those of a service.

use serde::{Deserialize, Serialize};

use super::blank::is_blank;

/// Over what a caller's proxy comes to that of a service.
///
/// **Source**: no entry of Consul's, whose proxies speak TCP with each other.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshTransport {
    /// Over what serves better by what the proxy has measured.
    Auto,
    /// QUIC, and TCP where UDP gets no answer.
    Quic,
    /// TCP.
    Tcp,
    /// As the next more general entry says, `auto` where none does.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// How QUIC finds out what a path bears.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CongestionControl {
    /// By a model of the path: keeps the pace where packets are lost that nobody crowded out.
    Bbr,
    /// By loss, as the systems' TCP does (RFC 9438).
    Cubic,
    /// By loss, the plainest (RFC 9002 §7).
    NewReno,
    /// As the next more general entry says, `cubic` where none does.
    #[default]
    #[serde(rename = "")]
    Unset,
}

/// Both together, as a caller's proxy gets them for one target.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HopTransport {
    /// Over what.
    #[serde(skip_serializing_if = "is_blank")]
    pub mesh_transport: MeshTransport,
    /// How fast, over QUIC.
    #[serde(skip_serializing_if = "is_blank")]
    pub congestion_control: CongestionControl,
}

impl HopTransport {
    /// Takes what is not said from a more general place.
    pub fn or(self, general: Self) -> Self {
        let Self { mesh_transport, congestion_control } = self;
        Self {
            mesh_transport: match mesh_transport {
                MeshTransport::Unset => general.mesh_transport,
                MeshTransport::Auto | MeshTransport::Quic | MeshTransport::Tcp => mesh_transport,
            },
            congestion_control: match congestion_control {
                CongestionControl::Unset => general.congestion_control,
                CongestionControl::Bbr | CongestionControl::Cubic | CongestionControl::NewReno => {
                    congestion_control
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_stands_before_what_is_said_for_all() {
        let own = HopTransport { mesh_transport: MeshTransport::Quic, ..HopTransport::default() };
        let all = HopTransport {
            mesh_transport: MeshTransport::Tcp,
            congestion_control: CongestionControl::Bbr,
        };
        let both = own.or(all);
        assert_eq!(both.mesh_transport, MeshTransport::Quic);
        assert_eq!(both.congestion_control, CongestionControl::Bbr);
        assert_eq!(HopTransport::default().or(all), all);
        assert_eq!(
            serde_json::to_string(&both).expect("JSON"),
            r#"{"MeshTransport":"quic","CongestionControl":"bbr"}"#
        );
        assert_eq!(serde_json::to_string(&HopTransport::default()).expect("JSON"), "{}");
        serde_json::from_str::<CongestionControl>("\"vegas\"").expect_err("not spoken here");
    }
}
