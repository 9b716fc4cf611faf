//! What a look at a host has found: one line each, with what to do where something is amiss.

use serde_json::{Value, json};

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it should be.
    Good,
    /// It works, but not all of it, or not for long.
    Poor,
    /// Weft does not work like this.
    Bad,
    /// It cannot be told from here.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What, in a word or two.
    pub(crate) what: String,
    pub(crate) standing: Standing,
    /// What is so.
    pub(crate) detail: String,
    /// What to do about it; empty where nothing is to be done.
    pub(crate) fix: String,
}

impl Finding {
    /// Notes what is as it should be.
    pub(crate) fn good(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(what, Standing::Good, detail.into(), String::new())
    }

    /// Notes what works, but not as well as it could.
    pub(crate) fn poor(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(what, Standing::Poor, detail.into(), fix.into())
    }

    /// Notes what has to be mended first.
    pub(crate) fn bad(
        what: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(what, Standing::Bad, detail.into(), fix.into())
    }

    /// Notes what cannot be told, and why.
    pub(crate) fn unknown(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(what, Standing::Unknown, detail.into(), String::new())
    }

    fn new(what: impl Into<String>, standing: Standing, detail: String, fix: String) -> Self {
        Self { what: what.into(), standing, detail, fix }
    }

    /// Whether Weft does not work like this.
    pub(crate) fn is_bad(&self) -> bool {
        self.standing == Standing::Bad
    }

    /// Writes it as a line, and another for what to do.
    pub(crate) fn text(&self) -> String {
        let Self { what, detail, fix, .. } = self;
        let mut text = format!("{:<5} {what}: {detail}", self.word());
        for line in fix.trim_end().lines() {
            text.push_str("\n      ");
            text.push_str(line);
        }
        text
    }

    /// Writes it for scripts.
    pub(crate) fn json(&self) -> Value {
        let Self { what, detail, fix, .. } = self;
        json!({ "What": what, "Standing": self.word(), "Detail": detail, "Fix": fix })
    }

    fn word(&self) -> &'static str {
        match self.standing {
            Standing::Good => "ok",
            Standing::Poor => "warn",
            Standing::Bad => "FAIL",
            Standing::Unknown => "skip",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_is_amiss() {
        let finding = Finding::bad("port 8500/tcp", "taken by consul", "stop it,\nor move it\n");
        assert_eq!(
            finding.text(),
            "FAIL  port 8500/tcp: taken by consul\n      stop it,\n      or move it"
        );
        assert_eq!(finding.json()["Standing"], "FAIL");
        assert_eq!(Finding::good("kernel", "Linux 6.1").text(), "ok    kernel: Linux 6.1");
    }
}
