//! The control group of a process, and the systemd unit and the pod that it tells.

use super::Pod;

/// Bytes of a path that is looked at: the kernel's bound of a path.
const PATH_BYTES_MAX: usize = 4_096;
/// What a unit that holds processes is called.
const UNIT_SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// The path of a process's control group, from the root of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: String,
    pod: Option<Pod>,
}

/// States why a kernel's word on control groups is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCgroup {
    /// No line tells a group by which units are told apart.
    #[error("it has neither a line of the unified hierarchy nor one of systemd's")]
    Missing,
    /// The path is no absolute one, or too long.
    #[error("its path is not absolute or longer than {PATH_BYTES_MAX} bytes")]
    Path,
}

impl Cgroup {
    /// Reads what `/proc/PID/cgroup` says.
    ///
    /// Where there are both, the unified hierarchy counts unless the process is at its root: then
    /// systemd may keep its units in the older one. A pod may stand in either: runtimes that know
    /// only the older one leave a process where it was started in the other.
    ///
    /// No group can feign a line: the kernel takes no name with a line's end.
    ///
    /// # Errors
    /// [`InvalidCgroup`].
    ///
    /// **Source**: cgroups(7), `/proc/pid/cgroup`.
    pub fn parse(text: &str) -> Result<Self, InvalidCgroup> {
        let (mut unified, mut named) = (None, None);
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            match (fields.next(), fields.next(), fields.next()) {
                (Some("0"), Some(""), Some(path)) => unified = Some(path),
                (Some(_), Some("name=systemd"), Some(path)) => named = Some(path),
                _ => {}
            }
        }
        let path = unified.filter(|path| *path != "/").or(named).or(unified);
        let path = path.ok_or(InvalidCgroup::Missing)?;
        if !path.starts_with('/') || path.len() > PATH_BYTES_MAX {
            return Err(InvalidCgroup::Path);
        }
        let pods = [unified.and_then(Pod::of), named.and_then(Pod::of)];
        let pod = match pods {
            [Some(one), Some(other)] => (one == other).then_some(one),
            [one, other] => one.or(other),
        };
        Ok(Self { path: path.to_owned(), pod })
    }

    /// Returns the path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the pod in one of whose containers the process is.
    pub fn pod(&self) -> Option<&Pod> {
        self.pod.as_ref()
    }

    /// Returns the unit of the system's manager in which the process is.
    ///
    /// It is the first part of the path that is no slice: what stands below it was made by the
    /// unit itself, and a user's own manager can call a unit what it likes.
    ///
    /// **Source**: systemd, docs: CGROUP_DELEGATION, "Two key design rules".
    pub fn unit(&self) -> Option<&str> {
        let part = self.parts().find(|part| !part.ends_with(".slice"))?;
        // A name that the kernel could take for a file of its own has a mark before it.
        let name = part.strip_prefix('_').unwrap_or(part);
        is_unit(name).then_some(name)
    }

    /// Whether this is the group of a path or one below it.
    pub fn is_in(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|part| !part.is_empty())
    }
}

/// Whether a text can be the name of a unit that holds processes.
pub(super) fn is_unit(text: &str) -> bool {
    let name = UNIT_SUFFIXES.iter().find_map(|suffix| text.strip_suffix(suffix));
    // systemd.unit(5).
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_of_name)) && text.len() <= 255
}
