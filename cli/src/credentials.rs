//! Secrets that the service manager hands to a process as files, so that the process needs no
//! right to read them where they are kept.
//!
//! **Source**: systemd: systemd.exec(5), `LoadCredential=`.

use std::path::Path;

/// The variable with the folder.
const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Puts the file of a secret where no file or flag has said one. What holds nothing but blanks does
/// not count: units give that where the operator has put no secret.
pub(crate) fn fill<T: From<String>>(setting: &mut Option<T>, name: &str) {
    if setting.is_none() {
        let folder = std::env::var(FOLDER).ok();
        *setting = folder.and_then(|folder| in_folder(Path::new(&folder), name)).map(T::from);
    }
}

fn in_folder(folder: &Path, name: &str) -> Option<String> {
    let path = folder.join(name);
    let text = std::fs::read(&path).ok()?;
    if text.trim_ascii().is_empty() {
        return None;
    }
    path.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_counts_that_is_there_and_not_blank() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("join-token");
        let found = || in_folder(folder.path(), "join-token");
        assert_eq!(found(), None);
        std::fs::write(&path, "\n").expect("it can be written");
        assert_eq!(found(), None);
        std::fs::write(&path, "weft1-x\n").expect("it can be written");
        assert_eq!(found().as_deref(), path.to_str());
    }

    #[test]
    fn a_setting_beats_the_service_managers_file() {
        let mut setting = Some("/etc/weft/join-token".to_owned());
        fill(&mut setting, "join-token");
        assert_eq!(setting, Some("/etc/weft/join-token".to_owned()));
    }
}
