//! Ends a process with the one that started it.
//!
//! The demo's children hold the reading end of a pipe as their standard input. However the demo
//! ends, by `kill -9` too, the kernel closes the pipe, and the children leave.

use std::io::{self, Read};

/// The variable by which a parent asks for it.
pub(crate) const VARIABLE: &str = "WEFT_EXIT_WITH_PARENT";

/// Starts to watch standard input if the environment asks for it: the process exits when it ends.
///
/// This is a plain thread, because it must work in every subcommand, before any runtime starts
/// and while one is blocked.
pub(crate) fn arm() {
    if std::env::var_os(VARIABLE).is_none_or(|value| value != "1") {
        return;
    }
    let watch = || {
        wait_for_end(io::stdin().lock());
        std::process::exit(0);
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch) {
        eprintln!("weft: cannot watch the parent process: {error}");
        std::process::exit(1);
    }
}

/// Reads until there is no more, whatever comes.
fn wait_for_end(mut input: impl Read) {
    let mut buffer = [0; 64];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_ignored_until_the_end() {
        let mut input = io::Cursor::new(vec![0; 1_000]);
        wait_for_end(&mut input);
        assert_eq!(input.position(), 1_000);
    }
}
