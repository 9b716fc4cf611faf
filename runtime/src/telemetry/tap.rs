//! Copies of what is logged, for whoever watches: at a level of their own, and lost rather than
//! waited for.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::log::LogFormat;

/// Who watches at once: each costs the formatting of every line.
const TAPS_MAX: usize = 8;
/// Lines that wait for one of them; those beyond are lost, and counted.
const LINES_MAX: usize = 512;

/// Those who watch. One list, as there is one subscriber of events in a process.
static TAPS: Mutex<Vec<Sink>> = Mutex::new(Vec::new());
/// The most talkative level that somebody watches at, by format; 0 for nobody.
static LEVELS: [AtomicU8; 2] = [AtomicU8::new(0), AtomicU8::new(0)];
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Sink {
    id: u64,
    format: LogFormat,
    level: u8,
    lines: mpsc::Sender<Bytes>,
    lost: u64,
}

/// Lines as they are logged; nothing more is copied once it is dropped.
#[derive(Debug)]
pub struct Tap {
    id: u64,
    lines: mpsc::Receiver<Bytes>,
}

/// States that as many watch as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{TAPS_MAX} watch the log already; end one of them")]
pub struct TooManyTaps;

impl Tap {
    /// Starts copying lines of a level and worse; of libraries only warnings and errors.
    ///
    /// # Errors
    /// [`TooManyTaps`].
    pub fn open(level: Level, format: LogFormat) -> Result<Self, TooManyTaps> {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut taps = TAPS.lock();
        if taps.len() >= TAPS_MAX {
            return Err(TooManyTaps);
        }
        taps.push(Sink { id, format, level: rank(level), lines: sender, lost: 0 });
        drop(taps);
        note_levels();
        Ok(Self { id, lines })
    }

    /// Waits for the next line, with its end.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.lines.recv().await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        TAPS.lock().retain(|sink| sink.id != self.id);
        note_levels();
    }
}

/// Levels by how much they say: 1 for errors to 5 for everything.
fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        _ => 5,
    }
}

fn slot(format: LogFormat) -> &'static AtomicU8 {
    match format {
        LogFormat::Json => &LEVELS[0],
        LogFormat::Text => &LEVELS[1],
    }
}

/// Has the places where events are made ask again whether anybody wants them.
fn note_levels() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let taps = TAPS.lock();
        let most = taps.iter().filter(|sink| sink.format == format).map(|sink| sink.level).max();
        slot(format).store(most.unwrap_or(0), Ordering::Relaxed);
    }
    callsite::rebuild_interest_cache();
}

/// The layer that copies lines of one format.
pub(super) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let lines = fmt::layer().with_ansi(false).with_writer(Lines(format));
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(Watched(format)).boxed(),
        LogFormat::Text => lines.with_filter(Watched(format)).boxed(),
    }
}

/// Lets pass what somebody watches.
#[derive(Debug, Clone, Copy)]
struct Watched(LogFormat);

impl Watched {
    fn wants(self, event: &Metadata<'_>) -> bool {
        let rank = rank(*event.level());
        rank <= slot(self.0).load(Ordering::Relaxed)
            && (event.target().starts_with("weft") || rank <= 2)
    }
}

impl<S> Filter<S> for Watched {
    fn enabled(&self, event: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(event)
    }

    fn callsite_enabled(&self, event: &'static Metadata<'static>) -> Interest {
        if self.wants(event) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match slot(self.0).load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Lines(LogFormat);

/// One line while it is written; it goes out when it is dropped.
#[derive(Debug)]
struct Line {
    format: LogFormat,
    level: u8,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { format: self.0, level: 1, text: Vec::new() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line { format: self.0, level: rank(*event.level()), text: Vec::new() }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = Bytes::from(std::mem::take(&mut self.text));
        for sink in TAPS.lock().iter_mut() {
            if sink.format != self.format || self.level > sink.level {
                continue;
            }
            if sink.lost > 0 && sink.format == LogFormat::Text {
                let note = format!("[{} lines were lost: they were not read in time]\n", sink.lost);
                if sink.lines.try_send(note.into()).is_ok() {
                    sink.lost = 0;
                }
            }
            if sink.lines.try_send(line.clone()).is_err() {
                sink.lost += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::prelude::*;

    #[tokio::test]
    async fn lines_are_copied_at_the_level_asked_for() {
        let subscriber = tracing_subscriber::registry()
            .with(layer(LogFormat::Text))
            .with(layer(LogFormat::Json));
        let _default = tracing::subscriber::set_default(subscriber);
        let mut text = Tap::open(Level::INFO, LogFormat::Text).expect("room");
        let mut json = Tap::open(Level::DEBUG, LogFormat::Json).expect("room");
        tracing::debug!(target: "weft_test", "quiet");
        tracing::info!(target: "weft_test", service = "web", "loud");
        tracing::info!(target: "hyper", "of a library");
        let line = text.next().await.expect("a line");
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.contains("INFO weft_test: loud service=\"web\"\n"), "{line}");
        let quiet = json.next().await.expect("a line");
        let quiet: serde_json::Value = serde_json::from_slice(&quiet).expect("JSON");
        assert_eq!((&quiet["message"], &quiet["level"]), (&"quiet".into(), &"DEBUG".into()));
        assert!(json.lines.try_recv().is_ok() && json.lines.try_recv().is_err());
        assert!(text.lines.try_recv().is_err());
        let more: Vec<_> = (0..TAPS_MAX).map(|_| Tap::open(Level::INFO, LogFormat::Text)).collect();
        assert!(more.iter().any(Result::is_err));
    }
}
