//! A new process of the program, started by the running one at a signal, so that it belongs to the
//! same unit of the service manager.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::process::Command;
use tracing::{error, info, warn};
use weft_runtime::task::TaskTree;

use crate::lifecycle::OnSignal;

/// Has the new process take over.
const TAKE_OVER: &str = "--take-over";
/// What the service manager has passed to this process and to no other.
///
/// **Source**: systemd: sd_listen_fds(3).
const OWN_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Returns what starts the program again, as it was started, to take over from this process.
pub(super) fn start_on_signal(tasks: TaskTree) -> OnSignal {
    let is_starting = Arc::new(AtomicBool::new(false));
    Box::new(move || {
        let (tasks, is_starting) = (tasks.clone(), is_starting.clone());
        Box::pin(async move {
            if is_starting.swap(true, Ordering::SeqCst) {
                info!("a new process is starting already");
                return;
            }
            match start(std::env::args_os().collect(), &tasks, is_starting.clone()) {
                Ok(pid) => info!(pid, "a new process starts, to take over"),
                Err(error) => {
                    error!(%error, "no new process can be started; this one goes on");
                    is_starting.store(false, Ordering::SeqCst);
                }
            }
        })
    })
}

fn start(
    arguments: Vec<OsString>,
    tasks: &TaskTree,
    is_starting: Arc<AtomicBool>,
) -> std::io::Result<Option<u32>> {
    let (program, arguments) = successor_of(arguments)?;
    let mut command = Command::new(program);
    command.args(arguments);
    for name in OWN_VARIABLES {
        command.env_remove(name);
    }
    let mut child = command.spawn()?;
    let pid = child.id();
    let token = tasks.token();
    tasks.spawn("successor", async move {
        let ended = tokio::select! {
            // It lives on by itself when this process ends.
            ended = child.wait() => ended,
            () = token.cancelled() => return,
        };
        match ended {
            Ok(status) => warn!(%status, "the new process has ended"),
            Err(error) => warn!(%error, "it is not known how the new process has ended"),
        }
        is_starting.store(false, Ordering::SeqCst);
    });
    Ok(pid)
}

/// Returns the program by the name under which it was called, which may lead to a newer file by
/// now, and its arguments.
fn successor_of(arguments: Vec<OsString>) -> std::io::Result<(OsString, Vec<OsString>)> {
    let mut arguments = arguments.into_iter();
    let nameless = || std::io::Error::other("this process was started without a name");
    let program = arguments.next().ok_or_else(nameless)?;
    let mut arguments: Vec<OsString> = arguments.collect();
    if !arguments.iter().any(|argument| argument == TAKE_OVER) {
        arguments.push(TAKE_OVER.into());
    }
    Ok((program, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_called_as_this_one_was_and_takes_over() {
        let called = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in ["weft proxy --sidecar-for web", "weft proxy --sidecar-for web --take-over"] {
            let (program, arguments) = successor_of(called(line)).expect("a name");
            assert_eq!(program, "weft");
            assert_eq!(arguments, called("proxy --sidecar-for web --take-over"));
        }
        successor_of(Vec::new()).expect_err("no name");
    }
}
