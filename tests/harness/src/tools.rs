//! Programs that nobody here wrote, and the loud skip when one is missing.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders that are searched besides `PATH`: Debian keeps servers where users do not look.
const SERVER_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Finds a program, or `None`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVER_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Tells whether all programs are there. If not, the test is skipped, and says so in a line that
/// the test runner does not swallow and in the file that counts skips.
pub fn have(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| find(p).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    skip(test, &format!("no {}", missing.join(", no ")));
    false
}

/// Tells whether Python has a module; if not, the test is skipped as by [`have`].
pub fn have_module(test: &str, module: &str) -> bool {
    if !have(test, &["python3"]) {
        return false;
    }
    let found = run("python3", &["-c", &format!("import {module}")]).code == Some(0);
    if !found {
        skip(test, &format!("no Python module {module}"));
    }
    found
}

/// Tells whether Node.js has a module; if not, the test is skipped as by [`have`].
pub fn have_node_module(test: &str, module: &str) -> bool {
    if !have(test, &["node"]) {
        return false;
    }
    let found = run("node", &["-e", &format!("require({module:?})")]).code == Some(0);
    if !found {
        skip(test, &format!("no npm module {module}"));
    }
    found
}

/// Tells whether Go is there and has every module of a program; if not, the test is skipped as by
/// [`have`]. Nothing is fetched.
pub fn have_go_modules(test: &str, folder: &str) -> bool {
    if !have(test, &["go"]) {
        return false;
    }
    let found = run_go(&["-C", folder, "list", "-deps", "."]).code == Some(0);
    if !found {
        skip(test, &format!("not every Go module of {folder}"));
    }
    found
}

/// Runs Go with what is there: it fetches neither modules nor another Go.
pub fn run_go(args: &[&str]) -> Ran {
    let offline = ["GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly", "go"];
    run("env", &[&offline[..], args].concat())
}

/// Builds a Cargo project that stands outside the workspace into a folder; if it cannot be built
/// from what is there, the test is skipped as by [`have`]. Nothing is fetched.
pub fn have_cargo_project(test: &str, manifest: &str, folder: &Path) -> bool {
    if !have(test, &["cargo"]) {
        return false;
    }
    let folder = folder.to_string_lossy();
    let (what, into) = (["--manifest-path", manifest], ["--target-dir", &folder]);
    let built =
        run("cargo", &[&["build", "-q", "--locked", "--offline"], &what[..], &into].concat());
    built.ok().map_err(|said| skip(test, &format!("{manifest} cannot be built ({said})"))).is_ok()
}

/// Skips a test loudly: says why, and counts it.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason} on this machine");
    tell(&format!("SKIPPED {line}"));
    if let Some(path) = std::env::var_os("WEFT_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{line}");
    }
}

/// Prints a line, such as a figure, also when the test passes.
pub fn tell(line: &str) {
    // Written to the stream itself: the runner captures only what goes through `eprintln!`.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a program to its end and returns what it printed.
///
/// # Panics
/// When it cannot be started.
pub fn run(program: &str, args: &[&str]) -> Ran {
    let path = find(program).unwrap_or_else(|| PathBuf::from(program));
    let output = Command::new(&path)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("starting {}: {error}", path.display()));
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Ran {
    /// Returns the output of a success.
    ///
    /// # Errors
    /// What the program printed, when it failed.
    pub fn ok(self) -> Result<String, String> {
        match self.code {
            Some(0) => Ok(self.stdout),
            code => Err(format!("exit {code:?}: {}{}", self.stdout, self.stderr)),
        }
    }
}
