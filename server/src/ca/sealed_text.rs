//! Texts of records that are replicated in sealed form alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use weft_core::config_entry::SecretText;

use super::seal::{Purpose, SealKey};

impl SealKey {
    /// Seals a text as it stands in a record.
    pub(crate) fn seal_text(&self, purpose: Purpose, text: &str) -> SecretText {
        SecretText::sealed(&STANDARD.encode(self.seal(purpose, text.as_bytes())))
    }

    /// Opens a text of a record; `None` when it was not sealed by this cluster for this purpose.
    pub(crate) fn open_text(&self, purpose: Purpose, text: &SecretText) -> Option<String> {
        let sealed = STANDARD.decode(text.as_sealed()?).ok()?;
        String::from_utf8(self.open(purpose, &sealed).ok()?).ok()
    }
}
