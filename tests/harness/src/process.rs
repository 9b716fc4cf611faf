//! One child process: its log, its readiness, its end.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::eventually::eventually;

/// A start takes longer on a busy machine; a hang still shows.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How many last lines of a log a failing test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Option<Child>,
    log: PathBuf,
    ready: PathBuf,
    expected: Vec<String>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything it printed, on both streams.
    pub output: String,
}

/// Returns the path of the `weft` binary that was built with these tests.
///
/// # Panics
/// When it is missing.
pub fn weft() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder =
        test.ancestors().find(|folder| folder.join("weft").is_file()).unwrap_or_else(|| {
            panic!("no `weft` beside {}: run `cargo build -p weft`", test.display())
        });
    folder.join("weft")
}

/// Runs `weft` with arguments to its end.
///
/// # Panics
/// When it has not ended within the limit.
pub fn run_weft(args: &[&str], limit: Duration) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("output");
    let mut daemon = Daemon::start_command("weft", weft_command(args), &log, Path::new(""));
    daemon.expect_log("");
    let code = eventually(limit, &format!("`weft {}` ends", args.join(" ")), || {
        daemon.exit_code().ok_or_else(|| format!("it runs; it printed:\n{}", daemon.log()))
    });
    Outcome { code, output: daemon.log() }
}

fn weft_command(args: &[&str]) -> Command {
    let mut command = Command::new(weft());
    command.args(args);
    command.env_remove("WEFT_HTTP_ADDR").env_remove("NOTIFY_SOCKET");
    command.env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
    // It watches its standard input and ends with us, however we end.
    command.env("WEFT_EXIT_WITH_PARENT", "1");
    command
}

impl Daemon {
    /// Starts `weft` with arguments in a folder of its own and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready in time.
    pub fn weft(name: &str, folder: &Path, args: &[&str]) -> Self {
        let mut daemon = Self::weft_unready(name, folder, args);
        daemon.wait_ready();
        daemon
    }

    /// Starts `weft` and does not wait.
    pub fn weft_unready(name: &str, folder: &Path, args: &[&str]) -> Self {
        Self::weft_in(name, folder, args, &[])
    }

    /// Starts `weft` with further variables in its environment and does not wait.
    pub fn weft_in(name: &str, folder: &Path, args: &[&str], variables: &[(&str, &Path)]) -> Self {
        let ready = folder.join(format!("{name}.ready.json"));
        let _ = fs::remove_file(&ready);
        let mut command = weft_command(args);
        command.arg("--ready-file").arg(&ready);
        // Two proxies of one user meet only where a test wants it.
        command.env("XDG_RUNTIME_DIR", folder).env_remove("RUNTIME_DIRECTORY");
        command.envs(variables.iter().copied());
        Self::start_command(name, command, &folder.join(format!("{name}.log")), &ready)
    }

    /// Starts any program, with its log in a folder.
    pub fn program(name: &str, folder: &Path, command: Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut daemon = Self::start_command(name, command, &log, Path::new(""));
        // Other people's programs may warn as they like.
        daemon.expect_log("");
        daemon
    }

    fn start_command(name: &str, mut command: Command, log: &Path, ready: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log can be made");
        let again = file.try_clone().expect("a file handle can be copied");
        let child = command
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(again)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self {
            name: name.to_owned(),
            child: Some(child),
            log: log.to_owned(),
            ready: ready.to_owned(),
            expected: Vec::new(),
        }
    }

    /// Waits until the process has written its ready file.
    ///
    /// # Panics
    /// When it ends or the time is over.
    pub fn wait_ready(&mut self) {
        let ready = self.ready.clone();
        eventually(START_LIMIT, &format!("{} is ready", self.name.clone()), || {
            if let Some(code) = self.exit_code() {
                panic!("{} ended with {code:?} before it was ready:\n{}", self.name, self.log());
            }
            let text = fs::read_to_string(&ready).map_err(|error| error.to_string())?;
            serde_json::from_str::<Value>(&text).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Returns a field of the ready file as text.
    ///
    /// # Panics
    /// When it is not there.
    pub fn ready_field(&self, field: &str) -> String {
        let text = fs::read_to_string(&self.ready).expect("a ready process has a ready file");
        let value: Value = serde_json::from_str(&text).expect("the ready file is JSON");
        value[field]
            .as_str()
            .unwrap_or_else(|| panic!("no `{field}` in the ready file of {}: {text}", self.name))
            .to_owned()
    }

    /// Announces that warnings and errors containing this text belong to the test.
    pub fn expect_log(&mut self, text: &str) -> &mut Self {
        self.expected.push(text.to_owned());
        self
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// When it has been killed.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the process was not killed before").id()
    }

    /// Returns how it ended: `None` while it runs.
    pub fn exit_code(&mut self) -> Option<Option<i32>> {
        let child = self.child.as_mut()?;
        child.try_wait().ok().flatten().map(|status| status.code())
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.exit_code().is_none()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end as a service manager does, and waits for it.
    ///
    /// # Panics
    /// When it does not end, or not with success.
    pub fn terminate(&mut self) {
        let pid = self.pid().to_string();
        crate::tools::run("kill", &["-TERM", &pid]).ok().expect("a running process takes a signal");
        let code = eventually(START_LIMIT, "the process ends after SIGTERM", || {
            self.exit_code().ok_or_else(|| format!("it runs on:\n{}", self.log()))
        });
        assert_eq!(code, Some(0), "{} after SIGTERM:\n{}", self.name, self.log());
        self.child = None;
    }

    /// Sends it a signal by its name, such as `USR2`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = crate::tools::run("kill", &["-s", name, &pid]);
        sent.ok().expect("a running process takes a signal");
    }

    /// Waits until it has ended by itself, and returns its exit code.
    ///
    /// # Panics
    /// When it runs on.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let name = self.name.clone();
        eventually(START_LIMIT, &format!("{name} ends"), || {
            self.exit_code().ok_or_else(|| format!("it runs on:\n{}", self.log()))
        })
    }

    /// Returns everything it has logged.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the warnings and errors that the test did not announce.
    fn surprises(&self) -> Vec<String> {
        let is_loud = |line: &&str| {
            line.split_whitespace().take(3).any(|word| word == "WARN" || word == "ERROR")
                || line.contains("panicked at")
        };
        self.log()
            .lines()
            .filter(is_loud)
            .filter(|line| !self.expected.iter().any(|text| line.contains(text.as_str())))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            eprintln!("--- last lines of {} ---\n{}", self.name, lines[from..].join("\n"));
            return;
        }
        let surprises = self.surprises();
        assert!(
            surprises.is_empty(),
            "{} logged what the test did not announce:\n{}",
            self.name,
            surprises.join("\n")
        );
    }
}
