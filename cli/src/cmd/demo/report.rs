//! What the tour tells: steps, commands to repeat, what was seen, and claims with their outcome.
//!
//! The same calls serve three forms: prose for a person, one line for each claim (`--check`),
//! and one JSON document at the end (`--json`). Nothing here knows the mesh.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use weft_runtime::clock;

/// How the tour is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line for each claim.
    Check,
    /// One JSON document at the end.
    Json,
    /// Prose for a person.
    Tour,
}

/// Something that the tour shows to hold, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Claim {
    /// The step, counted from 1.
    pub(super) step: u8,
    /// What is claimed.
    pub(super) claim: String,
    /// Whether it holds.
    pub(super) holds: bool,
    /// What was seen.
    pub(super) observed: String,
}

/// States that a claim did not hold; the rest of the tour would say little.
#[derive(Debug, thiserror::Error)]
#[error("{claim}: {observed}")]
pub(super) struct Broken {
    claim: String,
    observed: String,
}

/// Without a terminal, progress is told this often at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Where the tour is told.
pub(super) struct Report {
    form: Form,
    out: Box<dyn Write + Send>,
    terminal: bool,
    pause: bool,
    started: Instant,
    step: u8,
    claims: Vec<Claim>,
    commands: Vec<String>,
    progress: Progress,
}

/// Whether a line in place is shown, and when something was last told for good.
struct Progress {
    shown: bool,
    told: Instant,
}

/// Around lines that must not wrap: a terminal that is too narrow cuts them at its edge, so that
/// they can be drawn over.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

impl Report {
    /// Tells on standard output. `pause` waits for Enter between steps, on a terminal only.
    pub(super) fn to_stdout(form: Form, pause: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let pause = pause && terminal && io::stdin().is_terminal() && form == Form::Tour;
        Self { pause, ..Self::new(form, Box::new(io::stdout()), terminal) }
    }

    fn new(form: Form, out: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self {
            form,
            out,
            terminal,
            pause: false,
            started: clock::instant(),
            step: 0,
            claims: Vec::new(),
            commands: Vec::new(),
            progress: Progress { shown: false, told: clock::instant() },
        }
    }

    /// Whether a terminal can be redrawn.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns how long the tour has lasted.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins a step, after Enter was pressed if there is to be a pause.
    pub(super) async fn step(&mut self, title: &str) {
        if self.pause && self.step > 0 {
            self.put("\n   press Enter to go on ");
            enter_pressed().await;
        }
        self.step += 1;
        if self.form == Form::Tour {
            let heading = format!("{}  {title}", self.step);
            let heading = self.styled("1", &heading);
            self.line(&format!("\n{heading}"));
        }
    }

    /// Says something in prose.
    pub(super) fn say(&mut self, text: &str) {
        if self.form == Form::Tour {
            self.line(&format!("   {text}"));
        }
    }

    /// Names a command that repeats by hand what is shown.
    pub(super) fn command(&mut self, command: &str) {
        self.commands.push(command.to_owned());
        if self.form == Form::Tour {
            let command = self.styled("36", &format!("$ {command}"));
            self.line(&format!("   {command}"));
        }
    }

    /// Shows what was seen, line by line.
    pub(super) fn seen(&mut self, text: &str) {
        if self.form == Form::Tour {
            for line in text.lines() {
                let line = self.styled("2", line);
                self.line(&format!("     {line}"));
            }
        }
    }

    /// Records a claim and whether it holds. One that does not hold ends the tour.
    pub(super) fn claim(
        &mut self,
        claim: impl Into<String>,
        holds: bool,
        observed: impl Into<String>,
    ) -> Result<(), Broken> {
        let (claim, observed) = (claim.into(), observed.into());
        match self.form {
            Form::Check => {
                let verdict = if holds { "ok    " } else { "FAILED" };
                self.line(&format!("{verdict}  {}  {claim}: {observed}", self.step));
            }
            Form::Json => {}
            Form::Tour => {
                let tick = if holds { self.styled("32", "✓") } else { self.styled("31", "✗") };
                self.line(&format!("   {tick} {claim}: {observed}"));
            }
        }
        let broken = Broken { claim: claim.clone(), observed: observed.clone() };
        self.claims.push(Claim { step: self.step, claim, holds, observed });
        if holds { Ok(()) } else { Err(broken) }
    }

    /// Shows how a wait goes: in place on a terminal, else as a line now and then.
    pub(super) fn progress(&mut self, text: &str) {
        if self.form == Form::Json {
            return;
        }
        if self.terminal {
            self.put(&format!("\r\x1b[2K{WRAP_OFF}   {text}{WRAP_ON}"));
            self.progress.shown = true;
        } else if self.progress.told.elapsed() >= PROGRESS_EVERY {
            self.line(&format!("        … {text}"));
        }
    }

    /// Draws lines over those that were drawn before, on a terminal; else prints them below.
    pub(super) fn redraw(&mut self, lines: &[String], drawn_before: usize) {
        let drawing = lines.join("\n");
        if !self.terminal {
            self.put(&format!("{drawing}\n\n"));
        } else if drawn_before == 0 {
            self.put(&format!("{WRAP_OFF}{drawing}{WRAP_ON}\n"));
        } else {
            self.put(&format!("\x1b[{drawn_before}A\x1b[J{WRAP_OFF}{drawing}{WRAP_ON}\n"));
        }
    }

    /// Ends the tour with its result.
    pub(super) fn end(&mut self, fault: Option<&str>) {
        let holds = fault.is_none() && self.claims.iter().all(|claim| claim.holds);
        let seconds = self.elapsed().as_secs_f64();
        match self.form {
            Form::Json => {
                let document = serde_json::json!({
                    "ok": holds,
                    "seconds": (seconds * 10.0).round() / 10.0,
                    "claims": self.claims,
                    "commands": self.commands,
                    "fault": fault,
                });
                self.line(&format!("{document:#}"));
            }
            Form::Check | Form::Tour => {
                let (held, all) =
                    (self.claims.iter().filter(|claim| claim.holds).count(), self.claims.len());
                if let Some(fault) = fault {
                    self.line(&format!("\nFAILED after {seconds:.1} s: {fault}"));
                } else {
                    self.line(&format!("\n{held} of {all} claims hold, {seconds:.1} s"));
                }
            }
        }
    }

    /// Says something that people want to know in every form that they read.
    pub(super) fn note(&mut self, text: &str) {
        if self.form != Form::Json {
            self.line(text);
        }
    }

    /// Shows lines of a log, in every form that people read.
    pub(super) fn log_lines(&mut self, source: &str, lines: &[String]) {
        if self.form != Form::Json {
            self.line(&format!("\nlast lines of {source}:"));
            for line in lines {
                self.line(&format!("    {line}"));
            }
        }
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        let clear = if std::mem::take(&mut self.progress.shown) { "\r\x1b[2K" } else { "" };
        self.progress.told = clock::instant();
        self.put(&format!("{clear}{text}\n"));
    }

    /// Writes; a reader who left (`weft demo | head`) is no reason to stop a tour.
    fn put(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Waits for a line on standard input; its end, or an error, goes on as well.
///
/// The thread is left to itself: one that still reads when the demo ends must hold nothing up.
async fn enter_pressed() {
    let (pressed, wait) = tokio::sync::oneshot::channel();
    let read = move || {
        let mut line = String::new();
        let _ = io::stdin().lock().read_line(&mut line);
        // Nobody waits any more if the demo is ending.
        let _ = pressed.send(());
    };
    if std::thread::Builder::new().name("enter".to_owned()).spawn(read).is_ok() {
        let _ = wait.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(form: Form, tell: impl FnOnce(&mut Report)) -> String {
        let paper = Paper::default();
        let mut report = Report::new(form, Box::new(paper.clone()), false);
        tell(&mut report);
        String::from_utf8(paper.0.lock().clone()).expect("text")
    }

    #[test]
    fn a_check_is_one_line_for_each_claim() {
        let text = told(Form::Check, |report| {
            report.say("prose");
            report.command("curl");
            report.claim("all is well", true, "7 of 7").expect("it holds");
            report.claim("all stays well", false, "6 of 7").expect_err("it does not hold");
        });
        assert_eq!(text, "ok      0  all is well: 7 of 7\nFAILED  0  all stays well: 6 of 7\n");
    }

    #[test]
    fn a_document_says_whether_all_held_and_how_to_repeat_it() {
        let text = told(Form::Json, |report| {
            report.command("curl http://x");
            report.claim("a", true, "b").expect("it holds");
            report.progress("waiting");
            report.end(None);
        });
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(document["ok"], true);
        assert_eq!(document["claims"][0]["claim"], "a");
        assert_eq!(document["commands"][0], "curl http://x");
    }

    #[test]
    fn a_fault_shows_in_every_form() {
        for form in [Form::Check, Form::Json, Form::Tour] {
            let text = told(form, |report| report.end(Some("no port is free")));
            assert!(text.contains("no port is free"), "{form:?}: {text}");
        }
    }
}
