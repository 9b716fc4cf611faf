//! A sidecar beside a unit of systemd: the files that say so.

use anyhow::bail;
use clap::Args;
use weft_core::name::ServiceName;

/// Flags about a unit.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without Kubernetes")]
pub(crate) struct UnitArgs {
    /// Print the files that put a sidecar beside this unit of systemd
    #[arg(long, value_name = "UNIT", conflicts_with = "files", requires_all = ["service", "port"])]
    pub(super) systemd: Option<String>,
    /// The service that the unit is, with --systemd
    #[arg(long, value_name = "NAME", requires = "systemd")]
    service: Option<String>,
    /// The port at which it listens, with --systemd
    #[arg(long, value_name = "PORT", requires = "systemd")]
    port: Option<u16>,
}

/// Returns the files, one after the other, each headed by its path.
pub(super) fn files(unit: &str, args: &UnitArgs) -> anyhow::Result<String> {
    let service = args.service.as_deref().unwrap_or_default();
    let port = args.port.unwrap_or_default();
    let service = ServiceName::parse(service)?;
    let is_unit = unit.ends_with(".service")
        && unit.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c));
    if !is_unit {
        bail!("--systemd {unit:?}: name a unit such as web.service");
    }
    let proxy = format!("weft-proxy@{service}.service");
    Ok(format!(
        "\
# /etc/systemd/system/{unit}.d/weft.conf
[Unit]
Wants={proxy}
After={proxy}

# /etc/systemd/system/{proxy}.d/beside.conf
[Unit]
# It ends with the service, but outlives its restarts.
StopPropagatedFrom={unit}

# /etc/weft/agent.d/{service}.hcl
service {{
  name = \"{service}\"
  id   = \"{service}\"
  port = {port}
  connect {{ sidecar_service {{}} }}
}}

# Then: systemctl daemon-reload && weft reload && systemctl restart {unit}
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(service: &str) -> UnitArgs {
        UnitArgs { systemd: None, service: Some(service.to_owned()), port: Some(8080) }
    }

    #[test]
    fn a_unit_gets_its_sidecar_and_no_other_text_gets_into_the_files() {
        let text = files("web.service", &args("web")).expect("it is right");
        assert!(text.contains("# /etc/systemd/system/web.service.d/weft.conf\n"));
        assert!(text.contains("After=weft-proxy@web.service\n"));
        for (unit, service) in [
            ("web", "web"),
            ("a b.service", "web"),
            ("../a.service", "web"),
            ("web.service", "a\nb"),
        ] {
            files(unit, &args(service)).expect_err("it is wrong");
        }
    }
}
