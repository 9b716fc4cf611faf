//! The script check: a command of this host, in a process group of its own, so that its end is
//! the end of all that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::Finding;
use super::tail::Tail;

/// How long the output of a command is read on after its end, as what it left running in the
/// background may keep it open for ever.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(200);

/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// A running command; dropping it kills its process group.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(args: &[String]) -> io::Result<Self> {
        let (program, rest) = args.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self { child, group: id.and_then(Pid::from_raw) })
    }

    /// Waits for the end of the command, with the end of its output.
    async fn finish(&mut self, tail: &mut Tail) -> io::Result<ExitStatus> {
        let mut stdout = self.child.stdout.take();
        let mut stderr = self.child.stderr.take();
        let mut buffers = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
        let status = loop {
            // Each reads into its own buffer and is cancel-safe; `wait` is as well.
            tokio::select! {
                read = read(&mut stdout, &mut buffers.0) => tail.push(&buffers.0[..read]),
                read = read(&mut stderr, &mut buffers.1) => tail.push(&buffers.1[..read]),
                status = self.child.wait() => break status?,
            }
        };
        // It was reaped, and what it left in the background is not ours to end.
        self.group = None;
        let last_words = async {
            while stdout.is_some() || stderr.is_some() {
                tokio::select! {
                    read = read(&mut stdout, &mut buffers.0) => tail.push(&buffers.0[..read]),
                    read = read(&mut stderr, &mut buffers.1) => tail.push(&buffers.1[..read]),
                }
            }
        };
        // What comes later is of a process that was not waited for.
        let _ = tokio::time::timeout(LAST_WORDS_LIMIT, last_words).await;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads what there is; a stream that has ended is put away and never ready again.
async fn read<R: AsyncRead + Unpin>(stream: &mut Option<R>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else { return std::future::pending().await };
    match open.read(buffer).await {
        Ok(0) | Err(_) => {
            *stream = None;
            0
        }
        Ok(read) => read,
    }
}

pub(super) async fn run(args: &[String], bytes_max: usize, limit: Duration) -> Finding {
    let mut running = match Running::start(args) {
        Ok(running) => running,
        Err(error) => {
            let program = args.first().map(String::as_str).unwrap_or_default();
            return Finding::critical(format!("cannot run {program:?}: {error}"));
        }
    };
    let mut tail = Tail::new(bytes_max);
    match tokio::time::timeout(limit, running.finish(&mut tail)).await {
        Ok(Ok(status)) => {
            let mut output = tail.into_text();
            if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
                output.push_str(&format!("ended by signal {signal}"));
            }
            Finding::of_exit(status.code().map(i64::from), output)
        }
        Ok(Err(error)) => Finding::critical(format!("the command was lost: {error}")),
        Err(_) => {
            drop(running);
            let limit = limit.as_millis();
            Finding::critical(format!(
                "timed out after {limit} ms, and was killed with all that it started: {}",
                tail.into_text()
            ))
        }
    }
}
