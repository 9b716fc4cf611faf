//! Programs that nobody here wrote, as more than one test runs them: nginx behind a proxy, curl
//! before one.

use std::fs;
use std::path::Path;
use std::process::Command;

use weft_tests::{Daemon, tools};

/// Starts nginx: one process, in the foreground, with every file that it writes inside the folder.
/// `http` is what stands in the block of that name besides.
pub(crate) fn nginx(folder: &Path, http: &str) -> Daemon {
    let at = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {at}/{kind};\n")).concat();
    let config = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.err;\n\
         events {{}}\n\
         http {{\naccess_log off; default_type text/plain;\n{temporary}{http}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).expect("a temporary folder can be written");
    let mut command = Command::new(tools::find("nginx").expect("it was found before"));
    command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("nginx.err"));
    Daemon::program("nginx", folder, command)
}

/// Calls with curl, for 20 seconds at most; returns what it printed, or why it failed.
pub(crate) fn curl(args: &[&str]) -> Result<String, String> {
    tools::run("curl", &[&["-sS", "-m", "20"], args].concat()).ok()
}

/// Whether a text has another one in it; the error shows both.
pub(crate) fn expect_text(text: &str, wanted: &str) -> Result<(), String> {
    if text.contains(wanted) { Ok(()) } else { Err(format!("{text:?} lacks {wanted:?}")) }
}
