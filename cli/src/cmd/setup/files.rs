//! The files of a host: configuration, state, and whose they are.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Who runs Weft under the packages' units; its group may read what only Weft may read.
const USER: &str = "weft";

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Agent,
    Server,
}

impl Role {
    /// Its name, as commands, files and units have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }

    /// The unit that runs it.
    pub(crate) fn unit(self) -> String {
        format!("weft-{}.service", self.word())
    }
}

/// Where files of a host are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) config_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self::new(PathBuf::from(Self::CONFIG_DIR))
    }
}

impl Place {
    /// Where the packages' units look for configuration.
    pub(crate) const CONFIG_DIR: &str = "/etc/weft";
    /// Where they keep state.
    pub(crate) const STATE_DIR: &str = "/var/lib/weft";

    /// Takes the usual place for state.
    pub(crate) fn new(config_dir: PathBuf) -> Self {
        Self { config_dir, state_dir: PathBuf::from(Self::STATE_DIR) }
    }

    /// Returns the configuration file of a process.
    pub(crate) fn config(&self, role: Role) -> PathBuf {
        self.config_dir.join(format!("{}.hcl", role.word()))
    }

    /// Returns the data directory of a process.
    pub(crate) fn state(&self, role: Role) -> PathBuf {
        self.state_dir.join(role.word())
    }

    /// Refuses a host that is set up already.
    ///
    /// # Errors
    /// When there is a configuration file, or state of an earlier run.
    pub(crate) fn refuse_second(&self, role: Role) -> anyhow::Result<()> {
        let (config, state) = (self.config(role), self.state(role));
        let unit = role.unit();
        if config.exists() {
            bail!(
                "{} is there already, so this host is set up: start it by `systemctl enable --now \
                 {unit}`, or take the file away to begin anew",
                config.display()
            );
        }
        let mut entries = match fs::read_dir(&state) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", state.display()));
            }
        };
        if entries.next().is_some() {
            bail!(
                "{} holds the state of an earlier run; take it away to begin anew, or go on with it \
                 under a configuration of your own",
                state.display()
            );
        }
        Ok(())
    }
}

/// One setting of a configuration file.
pub(crate) type Setting = (&'static str, Option<String>);

/// Writes settings as HCL, those that are given.
pub(crate) fn hcl(head: &str, settings: &[Setting]) -> String {
    let given = settings.iter().filter(|(_, value)| value.is_some());
    let width = given.map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = head.lines().map(|line| format!("# {line}\n")).collect::<String>();
    text.push('\n');
    for (name, value) in settings {
        if let Some(value) = value {
            // What would begin a template is doubled, and so stands for itself.
            let value = serde_json::Value::from(value.as_str()).to_string();
            let value = value.replace("${", "$${").replace("%{", "%%{");
            text.push_str(&format!("{name:<width$} = {value}\n"));
        }
    }
    text
}

/// Writes a new file whole, readable by root and by Weft's group, if there is one.
///
/// # Errors
/// When the file is there already, or cannot be written; it names the file.
pub(crate) fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
    open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .with_context(|| format!("cannot write {}", path.display()))?;
    if let Some((_, group)) = account(USER) {
        chown(path, None, Some(group))
            .with_context(|| format!("cannot give {} to the group {USER}", path.display()))?;
    }
    Ok(())
}

/// Gives a folder, and all in it, to the user that runs Weft, if there is one.
///
/// # Errors
/// When that fails; it names the file.
pub(crate) fn hand_over(folder: &Path) -> anyhow::Result<()> {
    let Some((user, group)) = account(USER) else { return Ok(()) };
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        std::os::unix::fs::lchown(&path, Some(user), Some(group))
            .with_context(|| format!("cannot give {} to {USER}", path.display()))?;
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path);
            let entries = entries.with_context(|| format!("cannot read {}", path.display()))?;
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// Finds a user's numbers: its own and its group's.
///
/// **Source**: passwd(5).
fn account(name: &str) -> Option<(u32, u32)> {
    account_in(&fs::read_to_string("/etc/passwd").ok()?, name)
}

fn account_in(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user, group, ..] = fields.as_slice() else { return None };
        (*found == name).then_some(())?;
        Some((user.parse().ok()?, group.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_they_are_read() {
        let settings = [
            ("data_dir", Some("/var/lib/weft".to_owned())),
            ("node_name", None),
            ("note", Some("a \"b\" ${c}".to_owned())),
        ];
        let text = hcl("Written once.", &settings);
        assert_eq!(
            text,
            "# Written once.\n\ndata_dir = \"/var/lib/weft\"\nnote     = \"a \\\"b\\\" $${c}\"\n"
        );
    }

    #[test]
    fn a_host_is_set_up_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let place =
            Place { config_dir: folder.path().join("etc"), state_dir: folder.path().join("state") };
        place.refuse_second(Role::Agent).expect("there is nothing");
        fs::create_dir_all(place.state(Role::Agent)).expect("a folder");
        place.refuse_second(Role::Agent).expect("an empty folder is nothing");
        fs::write(place.state(Role::Agent).join("member.json"), "{}").expect("written");
        let refused = place.refuse_second(Role::Agent).expect_err("there is state").to_string();
        assert!(refused.contains("state of an earlier run"), "{refused}");
        write_new(&place.config(Role::Server), "x").expect("written");
        let refused = place.refuse_second(Role::Server).expect_err("a file").to_string();
        assert!(refused.contains("systemctl enable --now weft-server.service"), "{refused}");
        assert!(write_new(&place.config(Role::Server), "y").is_err(), "nothing is overwritten");
    }

    #[test]
    fn accounts_are_found_by_name() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nweft:x:998:997::/var/lib/weft:/usr/sbin/nologin\n";
        assert_eq!(account_in(users, "weft"), Some((998, 997)));
        assert_eq!(account_in(users, "web"), None);
    }
}
