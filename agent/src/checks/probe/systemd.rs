//! The os_service check: what systemd says of a unit.
//!
//! **Source**: Consul: docs/services/usage/checks#osservice-check; systemd's D-Bus interface
//! `org.freedesktop.systemd1`: a unit that is active passes.

use std::path::Path;

use super::Finding;
use super::dbus::{Bus, Call};

const SYSTEMD: &str = "org.freedesktop.systemd1";

pub(super) async fn run(socket: &Path, unit: &str) -> Finding {
    // Units have a kind; a name without one is a service, as in systemctl(1).
    let full = match unit.rsplit_once('.') {
        Some(_) => unit.to_owned(),
        None => format!("{unit}.service"),
    };
    match active_state(socket, &full).await {
        Ok(state) if matches!(state.as_str(), "active" | "reloading") => {
            Finding::passing(format!("Service {unit:?} is healthy: {state}"))
        }
        Ok(state) => Finding::critical(format!("Service {unit:?} is unhealthy: {state}")),
        Err(reason) => Finding::critical(format!("Service {unit:?}: {reason}")),
    }
}

async fn active_state(socket: &Path, unit: &str) -> Result<String, String> {
    let mut bus = Bus::connect(socket).await?;
    let load = Call {
        destination: SYSTEMD,
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "LoadUnit",
    };
    let path = bus.call(&load, &[unit]).await?;
    let get = Call {
        destination: SYSTEMD,
        path: &path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
    };
    bus.call(&get, &["org.freedesktop.systemd1.Unit", "ActiveState"]).await
}
