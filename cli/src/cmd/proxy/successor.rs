//! A new process of the program, started by the running one at a signal, so that it belongs to the
//! same unit of the service manager. It is nobody's child here: the service manager takes its place as the
//! parent, and so hears of its end even while this process still carries connections.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tracing::{error, info, warn};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::notify::{Report, notify};

use crate::lifecycle::OnSignal;

/// The program of this process, also when its file has been replaced: it is asked only to start the other one.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// More than the number of a process takes, with the end of its line.
const NUMBER_BYTES_MAX: u64 = 64;
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
            if let Err(error) = start(std::env::args_os().collect(), &tasks, is_starting.clone()) {
                error!(%error, "no new process can be started; this one goes on");
                notify(Report::Ready);
                is_starting.store(false, Ordering::SeqCst);
            }
        })
    })
}

fn start(
    arguments: Vec<OsString>,
    tasks: &TaskTree,
    is_starting: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (program, arguments) = successor_of(arguments)?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(THIS_PROGRAM);
    command.args(["detach", "--"]).arg(program).args(arguments);
    for name in OWN_VARIABLES {
        command.env_remove(name);
    }
    // It outlives this process, and its standard input tells of nobody's end.
    command.env_remove(crate::cmd::demo::watchdog::VARIABLE);
    // For the program behind it, the two are exchanged.
    let mut child = command.stdin(Stdio::from(output)).stdout(Stdio::piped()).spawn()?;
    let token = tasks.token();
    tasks.spawn("successor", async move {
        tokio::select! {
            // It lives on by itself when this process ends.
            () = watch(&mut child) => {}
            () = token.cancelled() => return,
        }
        // Counts only as long as this one is the main process.
        notify(Report::Ready);
        is_starting.store(false, Ordering::SeqCst);
    });
    Ok(())
}

/// Returns once the new process has ended, or has not even begun.
async fn watch(child: &mut Child) {
    let Some(life) = child.stdout.take() else { return };
    let mut life = BufReader::new(life.take(NUMBER_BYTES_MAX));
    let mut number = String::new();
    // A pipe that breaks has ended.
    let _ = life.read_line(&mut number).await;
    let _ = child.wait().await;
    match number.trim().parse::<u32>() {
        Ok(pid) => info!(pid, "a new process starts, to take over"),
        Err(_) => {
            error!("no new process can be started; this one goes on");
            return;
        }
    }
    // Nobody writes any more: it ends with the process that holds the other side.
    let _ = life.read_to_string(&mut number).await;
    warn!("the new process has ended");
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
