//! Reading the configuration's files again: services and checks take effect at once, and other
//! settings are named when they wait for a restart.

use std::sync::Arc;

use tracing::{error, info, warn};
use weft_proto::text::Fault;
use weft_runtime::task::{TaskFailure, TaskTree};

use crate::config::{Config, ExternalChecks, FileConfig};
use crate::local::{Local, LocalError};

/// Reads an agent's files again when told to. Clones take turns.
#[derive(Debug, Clone)]
pub struct Reloader {
    config: Arc<Config>,
    local: Local,
    turn: Arc<tokio::sync::Mutex<()>>,
    tasks: TaskTree,
}

/// States why not all of the configuration is in force. What was right is.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Something in the files is wrong.
    #[error("{}", Fault::line(.0))]
    Faults(Vec<Fault>),
    /// The registrations could not be kept.
    #[error("the services of the configuration cannot be registered")]
    Local(#[from] LocalError),
    /// There are no files.
    #[error("this agent was started without configuration files")]
    NoFiles,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped(#[from] TaskFailure),
}

impl Reloader {
    pub(crate) fn new(config: Arc<Config>, local: Local, tasks: TaskTree) -> Self {
        Self { config, local, turn: Arc::default(), tasks }
    }

    /// Reads the files and takes up the services and checks in them.
    ///
    /// # Errors
    /// [`ReloadError`], also when only part of it is wrong; each fault is logged too, as who
    /// sent a signal hears of it nowhere else.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let reloaded = self.take_up().await;
        match &reloaded {
            Ok(()) => info!("the configuration was read again"),
            Err(ReloadError::Faults(faults)) => {
                for fault in faults {
                    error!(%fault, "the configuration has a fault; the rest of it is in force");
                }
            }
            Err(error) => error!(%error, "the configuration could not be read again"),
        }
        reloaded
    }

    async fn take_up(&self) -> Result<(), ReloadError> {
        let reread = self.config.reread.clone().ok_or(ReloadError::NoFiles)?;
        // An async mutex, as a turn takes writes to disk that are awaited.
        let _turn = self.turn.lock().await;
        let (settings, mut definitions) = match self.tasks.blocking(move || reread.read()).await? {
            Ok(read) => read,
            Err(faults) => return Err(ReloadError::Faults(faults)),
        };
        for field in differing(&self.config.settings, &settings) {
            warn!(field, "a setting has changed; restart the agent to apply it");
        }
        let announced = self.config.external_checks.iter().map(ExternalChecks::announcement);
        definitions.services.extend(announced);
        let faults = self.local.register_configured(definitions).await?;
        if faults.is_empty() { Ok(()) } else { Err(ReloadError::Faults(faults)) }
    }
}

/// The fields at the top in which two settings differ, services and checks aside.
fn differing(before: &FileConfig, after: &FileConfig) -> Vec<String> {
    let fields = |settings: &FileConfig| match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (before, after) = (fields(before), fields(after));
    let is_taken_up = |name: &String| matches!(name.as_str(), "services" | "checks");
    let differs = |name: &&String| !is_taken_up(name) && before.get(*name) != after.get(*name);
    after.keys().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_wait_for_a_restart_are_named() {
        let before = FileConfig::default();
        let after = FileConfig {
            data_dir: Some("/other".to_owned()),
            services: vec![Default::default()],
            ..FileConfig::default()
        };
        assert_eq!(differing(&before, &after), ["data_dir"]);
        assert_eq!(differing(&after, &after), [""; 0]);
    }
}
