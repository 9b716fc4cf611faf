//! One run: a cluster is born, things break while clients work, all is healed, and what was seen
//! is judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::seq::IndexedRandom;
use weft_core::time::Timestamp;

use crate::cluster::{self, Board, SharedBoard};
use crate::faults::{self, Counts, Fault};
use crate::history::{History, Outcome, SharedHistory};
use crate::invariants;
use crate::sim::Sim;
use crate::workload::{self, Control, Desk, SharedControl, Store};
use crate::{entropy, history};

/// How long the servers may take to form a cluster.
const BIRTH: Duration = Duration::from_secs(60);
/// Within this every server answers again after all is healed: ten election timeouts and the
/// time in which the servers notice a dead connection.
const HEALED: Duration = Duration::from_secs(30);
/// Of a thousand writes that a leader carried out for another server, those whose answer does not
/// reach it in half of all runs: they are sent again.
const ANSWERS_LOST: u64 = 150;
/// The quiet time after the last write. Sessions that nobody renews end in it, at twice their
/// TTL of [`workload::TTL`].
const QUIET: Duration = Duration::from_secs(5);

/// A bug that is planted to prove that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Commands are applied twice, on every server.
    AppliesTwice,
    /// Watchers are not told of changes.
    DropsWatchEvents,
    /// A lock is free as soon as its session has ended.
    ForgetsLockDelays,
    /// Syncs do nothing.
    ForgetsSyncs,
    /// A write that is sent again, as nobody heard what came of it, is carried out again.
    RepeatsWrites,
    /// A read in default mode is answered from whatever the server has.
    StaleReads,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many servers.
    pub servers: usize,
    /// How long things break.
    pub chaos: Duration,
    /// The kinds of faults that come.
    pub faults: Vec<Fault>,
    /// A bug to plant.
    pub bug: Option<Bug>,
}

impl Scenario {
    /// The scenario of a seed: every eighth has five servers.
    pub fn of(seed: u64) -> Self {
        let servers = if seed.is_multiple_of(8) { 5 } else { 3 };
        Self {
            seed,
            servers,
            chaos: Duration::from_secs(15),
            faults: faults::ALL.to_vec(),
            bug: None,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Every breach of an invariant.
    pub breaches: Vec<String>,
    /// Figures of the run, for people.
    pub summary: String,
}

/// Runs a scenario; to be called on a thread of its own, and once in a process if the run is to
/// repeat another one exactly: the runtime counts how many there were.
pub fn run(scenario: &Scenario) -> Verdict {
    entropy::seed_thread(scenario.seed);
    let dir = scratch();
    let verdict = Run::new(scenario, dir.path()).play();
    drop(dir);
    verdict
}

/// Files that are synced and read once: in memory where the system has such a place.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = tempfile::Builder::new().prefix("weft-sim").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).expect("a directory for the servers' files")
}

struct Run {
    sim: Sim,
    servers: usize,
    chaos: Duration,
    faults: Vec<Fault>,
    board: SharedBoard,
    control: SharedControl,
    history: SharedHistory,
    counts: Counts,
    /// When the first wall clock jumped.
    clocks_right_until: Timestamp,
}

impl Run {
    fn new(scenario: &Scenario, dir: &Path) -> Self {
        let mut sim = Sim::new(scenario.seed);
        let board = Arc::new(Mutex::new(Board::default()));
        let servers = scenario.servers;
        let control = Arc::new(Mutex::new(Control { servers, ..Control::default() }));
        let history = SharedHistory::default();
        // Rare paths are made common.
        let entries = *[128, 16_384].choose(&mut sim.rng).expect("there are some");
        let lost = *[0, ANSWERS_LOST].choose(&mut sim.rng).expect("there are some");
        for at in 0..servers {
            sim.add(cluster::server(at, dir, entries, board.clone()));
        }
        for host in &mut sim.hosts {
            host.set_knob("answers lost, per mille", lost);
            match scenario.bug {
                Some(Bug::AppliesTwice) => host.set_knob("bug: commands are applied twice", 1),
                Some(Bug::DropsWatchEvents) => host.set_knob("bug: watch events are dropped", 1),
                Some(Bug::ForgetsLockDelays) => host.set_knob("bug: locks have no delay", 1),
                Some(Bug::ForgetsSyncs) => host.forget_syncs(),
                Some(Bug::RepeatsWrites) => {
                    host.set_knob("answers lost, per mille", ANSWERS_LOST);
                    host.set_knob("bug: writes are repeated", 1);
                }
                Some(Bug::StaleReads) => host.set_knob("bug: a stale read as default", 1),
                None => {}
            }
        }
        let desk = Desk {
            board: board.clone(),
            control: control.clone(),
            history: history.clone(),
            seed: scenario.seed,
        };
        sim.add(workload::clients(desk));
        let (chaos, faults) = (scenario.chaos, scenario.faults.clone());
        let (counts, clocks_right_until) = (Counts::new(), Timestamp(u64::MAX));
        Self { sim, servers, chaos, faults, board, control, history, counts, clocks_right_until }
    }

    fn play(mut self) -> Verdict {
        let mut breaches = Vec::new();
        if self.be_born() {
            self.break_things();
            breaches.extend(self.heal());
            breaches.extend(self.judge());
        } else {
            let failed = self.board.lock().failed_starts.clone();
            breaches.push(format!("no cluster within {BIRTH:?}: {failed:?}"));
        }
        breaches.extend(self.board.lock().panics.iter().map(|text| format!("panic: {text}")));
        Verdict { summary: self.summary(), breaches }
    }

    /// Every server serves, and the clients have begun.
    fn be_born(&mut self) -> bool {
        let (board, control) = (self.board.clone(), self.control.clone());
        self.sim.run_until(BIRTH, |_| {
            board.lock().servers.iter().all(Option::is_some) && control.lock().busy > 0
        })
    }

    fn break_things(&mut self) {
        let until = self.sim.now + self.chaos;
        while self.sim.now < until {
            let pause = self.sim.rng.random_range(100..1_500);
            self.sim.run_for(Duration::from_millis(pause));
            let before = self.sim.wall();
            faults::episode(&mut self.sim, self.servers, &self.faults, &mut self.counts);
            if self.counts.contains_key(&Fault::ClockJump) {
                self.clocks_right_until = self.clocks_right_until.min(before);
            }
        }
    }

    /// All is whole again: every server must serve writes within the limit.
    fn heal(&mut self) -> Vec<String> {
        faults::end(&mut self.sim, self.servers);
        let healed_at = self.sim.now;
        self.control.lock().next_epoch();
        let (history, board) = (self.history.clone(), self.board.clone());
        let (servers, since) = (self.servers, self.history.lock().now());
        let serves = |history: &History, server: usize| {
            history.objects.values().flatten().any(|it| {
                it.server == server
                    && it.called > since
                    && it.outcome == Outcome::Done
                    && matches!(it.call, history::Call::Write(..) | history::Call::Cas { .. })
            })
        };
        let healed = self.sim.run_until(HEALED, |_| {
            let history = history.lock();
            (0..servers).all(|server| serves(&history, server))
        });
        if healed {
            tracing::info!(took = ?(self.sim.now - healed_at), "healed");
            return Vec::new();
        }
        let dead: Vec<usize> =
            (0..servers).filter(|at| !serves(&history.lock(), *at)).map(|at| at + 1).collect();
        let failed = board.lock().failed_starts.clone();
        vec![format!("{HEALED:?} after healing, servers {dead:?} have served no write; {failed:?}")]
    }

    /// Lets the clients end, waits, and looks at everything.
    fn judge(&mut self) -> Vec<String> {
        self.control.lock().is_over = true;
        let control = self.control.clone();
        let mut breaches = Vec::new();
        if !self.sim.run_until(Duration::from_secs(30), |_| control.lock().busy == 0) {
            breaches.push("a client's call did not end".to_owned());
        }
        self.sim.run_for(QUIET);
        let states: Vec<(String, u64, Vec<u8>)> = self
            .board
            .lock()
            .servers
            .iter()
            .enumerate()
            .filter_map(|(at, handle)| {
                let (index, state) = handle.as_ref()?.state_written();
                Some((format!("s{}", at + 1), index, state))
            })
            .collect();
        if states.len() != self.servers {
            breaches.push(format!("only {} servers serve at the end", states.len()));
        }
        breaches.extend(invariants::check_replicas(&states));
        breaches.extend(self.left_over());
        let last = self.last_values();
        let history = self.history.lock();
        breaches.extend(invariants::check_history(&history, self.clocks_right_until));
        breaches.extend(invariants::check_watches(&history, &last));
        breaches
    }

    /// Sessions that nobody renews, and the lock, if nobody is there who holds it.
    fn left_over(&self) -> Option<String> {
        let board = self.board.lock();
        let state = board.servers.iter().flatten().next()?.state();
        let sessions = state.sessions().list().count();
        let holder = state.kv().get(workload::LOCK).1.and_then(|entry| entry.session);
        let is_left = sessions > 0 || holder.is_some();
        is_left.then(|| format!("{QUIET:?} later there are {sessions} sessions, {holder:?} holds"))
    }

    /// What the registers of the last epoch hold, by the newest state of a server. They came
    /// into use when all was whole.
    fn last_values(&self) -> BTreeMap<String, Option<u64>> {
        let board = self.board.lock();
        let Some(handle) = board.servers.iter().flatten().next() else { return BTreeMap::new() };
        let state = handle.state();
        let history = self.history.lock();
        let registers = workload::registers(self.control.lock().epoch);
        let used = registers.into_iter().filter(|it| history.objects.contains_key(&it.object));
        used.map(|place| {
            let value = Store::of(&place.object).held(&state, &place);
            (place.object, value)
        })
        .collect()
    }

    fn summary(&self) -> String {
        let history = self.history.lock();
        let (calls, known) = history.counts();
        let watched: usize = history.watched.values().map(|it| it.steps.len()).sum();
        // Two runs of a seed are the same if this is.
        let digest = history.digest();
        format!(
            "{:.0} simulated seconds, {calls} calls ({known} answered), {} sights, {watched} watch \
             answers, {} locks, {} late segments, history {digest:016x}, faults {:?}",
            self.sim.now.as_secs_f64(),
            history.sights.len(),
            history.locks.taken(),
            self.sim.network.lock().faults_felt,
            self.counts,
        )
    }
}
