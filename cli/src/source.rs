//! Where commands take texts from: the command line itself, a file, or standard input.

use std::io::Read;

use anyhow::{Context, anyhow};

/// Reads a file; `-` is standard input.
///
/// # Errors
/// When it cannot be read, with its name.
pub(crate) fn read_file(path: &str) -> anyhow::Result<Vec<u8>> {
    if path != "-" {
        return std::fs::read(path).with_context(|| format!("cannot read {path}"));
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}

/// Reads a value: `@FILE` from a file, `-` from standard input, else as it is.
///
/// # Errors
/// As [`read_file`].
pub(crate) fn read_value(text: &str) -> anyhow::Result<Vec<u8>> {
    match text.strip_prefix('@') {
        // A file of that name, also when it is called `-`.
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        None if text == "-" => read_file(text),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Takes what was read for text; `from` is where it came from.
///
/// # Errors
/// When it is not UTF-8.
pub(crate) fn as_text(bytes: Vec<u8>, from: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|_| anyhow!("cannot read {from}: it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_where_they_say() {
        assert_eq!(read_value("5").expect("itself"), b"5");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), b"in it").expect("written");
        let from = format!("@{}", file.path().display());
        assert_eq!(read_value(&from).expect("the file"), b"in it");
        assert!(read_value("@/does/not/exist").is_err());
    }
}
