//! Signals of the operating system. What they mean is the caller's affair.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a process of ours reacts to.
///
/// Made once at the start: a signal that comes between two waits is kept.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user2: Signal,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGINT: end, asked from a terminal.
    Interrupt,
    /// SIGTERM: end.
    Terminate,
    /// SIGUSR2: let a new process of the same program take over.
    User2,
}

impl Signals {
    /// Starts to listen; from now on these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// Those of installing a signal handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::Terminate,
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.hangup.recv() => Received::Hangup,
            _ = self.user2.recv() => Received::User2,
        }
    }

    /// Waits for SIGTERM or SIGINT.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn shutdown(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for SIGTERM or SIGINT that comes after the call.
///
/// # Errors
/// Those of installing a signal handler.
pub async fn shutdown() -> io::Result<()> {
    Signals::listen()?.shutdown().await;
    Ok(())
}

/// Waits for a SIGHUP that comes after the call.
///
/// # Errors
/// Those of installing a signal handler.
pub async fn hangup() -> io::Result<()> {
    signal(SignalKind::hangup())?.recv().await;
    Ok(())
}
