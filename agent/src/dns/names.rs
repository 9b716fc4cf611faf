//! The services whose names are asked for, by DNS or HTTP: watched from the first query on, and for
//! as long as queries come.
//!
//! Anybody may ask for anything, so names without instances are kept apart: few of them, and
//! not for long. Random names push out each other and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use weft_core::catalog::{Node, ServiceInstance};
use weft_core::limits;
use weft_core::name::ServiceName;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use crate::views::{Slot, View, Views};

/// How long the first value of a name is waited for: resolvers ask again after that.
const FIRST_LIMIT: Duration = Duration::from_secs(2);
/// How long a name with instances stays after its last query.
const KNOWN_IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a name without instances stays: some asked once more are answered from memory.
const UNKNOWN_IDLE_MAX: Duration = Duration::from_secs(10);
/// How often idle names are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// A query this soon after another does not count as use, which spares reordering.
const USE_RESOLUTION: Duration = Duration::from_secs(1);

/// What is watched for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Connect(ServiceName),
    Service(ServiceName),
}

type Instances = Vec<ServiceInstance>;
type Nodes = Vec<Arc<Node>>;

/// The names in use; clones share them.
#[derive(Clone)]
pub(crate) struct Names {
    views: Views,
    nodes: View<Nodes>,
    table: Arc<Mutex<Table>>,
    /// Queries that wait for a first value.
    waiting: Arc<Semaphore>,
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<Wanted, Entry>,
    /// Names with instances and names without, each by last use.
    known: BTreeMap<(Instant, u64), Wanted>,
    unknown: BTreeMap<(Instant, u64), Wanted>,
    uses: u64,
}

struct Entry {
    view: View<Instances>,
    /// What the last answers were made from, with a view that tells when there is more.
    shown: Option<(Arc<Instances>, Arc<View<Instances>>)>,
    used: (Instant, u64),
    is_known: bool,
}

impl Names {
    /// Starts with no names; what is not asked for any more is forgotten until the tasks are
    /// cancelled.
    pub(crate) fn start(views: Views, tasks: &TaskTree) -> Self {
        let names = Self::new(views);
        tasks.spawn("names", names.clone().sweep_until_cancelled(tasks.clone()));
        names
    }

    pub(super) fn new(views: Views) -> Self {
        let waiting = Arc::new(Semaphore::new(limits::DNS_WAITING_QUERIES_MAX));
        let nodes = views.nodes();
        Self { views, nodes, table: Arc::default(), waiting }
    }

    /// Returns the instances behind a name, with the view that tells when there are others, and
    /// that is gone with the name; `None` when no server ever said anything about it, after a wait.
    pub(crate) async fn instances(
        &self,
        wanted: Wanted,
    ) -> Option<(Arc<Instances>, Weak<View<Instances>>)> {
        let (slot, view) = self.answered(self.view(&wanted)).await?;
        let has_instances = slot.value.as_ref().is_some_and(|instances| !instances.is_empty());
        let mut table = self.table.lock();
        table.used(&wanted, has_instances, clock::instant());
        let instances = slot.value?;
        let shown = table.shown(&wanted, (&instances, view));
        Some((instances, shown))
    }

    /// Returns every node; `None` as with [`Names::instances`].
    pub(super) async fn nodes(&self) -> Option<(Arc<Nodes>, View<Nodes>)> {
        let (slot, view) = self.answered(self.nodes.clone()).await?;
        Some((slot.value?, view))
    }

    /// Returns what is known, after a wait when that is nothing.
    async fn answered<T>(&self, mut view: View<T>) -> Option<(Slot<T>, View<T>)> {
        let slot = view.latest();
        if slot.is_answered() {
            return Some((slot, view));
        }
        // With that many waiting already, servers are away or somebody plays: no more wait.
        let _waits = self.waiting.try_acquire().ok()?;
        Some((view.first(FIRST_LIMIT).await, view))
    }

    fn view(&self, wanted: &Wanted) -> View<Instances> {
        let mut table = self.table.lock();
        if let Some(entry) = table.entries.get(wanted) {
            return entry.view.clone();
        }
        let view = match wanted {
            Wanted::Connect(name) => self.views.connect(name),
            Wanted::Service(name) => self.views.service(name),
        };
        table.add(wanted, view.clone(), clock::instant());
        view
    }

    /// Returns the view of a name's instances, which is watched from now on.
    pub(crate) fn look(&self, wanted: &Wanted) -> View<Instances> {
        self.view(wanted)
    }

    /// Forgets idle names until the agent stops.
    async fn sweep_until_cancelled(self, tasks: TaskTree) {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = tasks.cancelled() => return,
                _ = interval.tick() => self.sweep_at(clock::instant()),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let table = self.table.lock();
        assert_eq!(table.entries.len(), table.known.len() + table.unknown.len());
        (table.known.len(), table.unknown.len())
    }

    pub(super) fn sweep_at(&self, now: Instant) {
        // What is forgotten while servers are away cannot be asked for again.
        let known_idle_max = self.views.is_connected().then_some(KNOWN_IDLE_MAX);
        self.table.lock().sweep(now, known_idle_max);
    }
}

impl Table {
    fn add(&mut self, wanted: &Wanted, view: View<Instances>, now: Instant) {
        self.uses += 1;
        let used = (now, self.uses);
        self.entries.insert(wanted.clone(), Entry { view, shown: None, used, is_known: false });
        self.unknown.insert(used, wanted.clone());
        self.trim();
    }

    /// Returns the view of what was found, one for all who found the same.
    fn shown(
        &mut self,
        wanted: &Wanted,
        (found, view): (&Arc<Instances>, View<Instances>),
    ) -> Weak<View<Instances>> {
        let Some(entry) = self.entries.get_mut(wanted) else { return Weak::new() };
        match &entry.shown {
            Some((shown, view)) if Arc::ptr_eq(shown, found) && !view.has_news() => {
                Arc::downgrade(view)
            }
            Some(_) | None => {
                let view = Arc::new(view);
                let shown = Arc::downgrade(&view);
                entry.shown = Some((found.clone(), view));
                shown
            }
        }
    }

    /// Takes note of a use, and of what the name turned out to be.
    fn used(&mut self, wanted: &Wanted, is_known: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(wanted) else { return };
        let is_recent = now.duration_since(entry.used.0) < USE_RESOLUTION;
        if entry.is_known == is_known && is_recent {
            return;
        }
        self.uses += 1;
        let before = std::mem::replace(&mut entry.used, (now, self.uses));
        let from = if entry.is_known { &mut self.known } else { &mut self.unknown };
        from.remove(&before);
        entry.is_known = is_known;
        let used = entry.used;
        let to = if is_known { &mut self.known } else { &mut self.unknown };
        to.insert(used, wanted.clone());
        self.trim();
    }

    fn trim(&mut self) {
        while self.unknown.len() > limits::DNS_UNKNOWN_NAMES_MAX {
            let oldest = self.unknown.pop_first();
            self.forget(oldest.map(|(_, wanted)| wanted));
        }
        while self.known.len() > limits::DNS_KNOWN_NAMES_MAX {
            let oldest = self.known.pop_first();
            self.forget(oldest.map(|(_, wanted)| wanted));
        }
    }

    fn sweep(&mut self, now: Instant, known_idle_max: Option<Duration>) {
        let known_idle_max = known_idle_max.unwrap_or(Duration::MAX);
        for (by_use, idle_max) in
            [(&mut self.unknown, UNKNOWN_IDLE_MAX), (&mut self.known, known_idle_max)]
        {
            while let Some(oldest) = by_use.first_entry()
                && now.duration_since(oldest.key().0) >= idle_max
            {
                let entry = self.entries.remove(&oldest.remove());
                if let Some(entry) = entry {
                    entry.retire();
                }
            }
        }
    }

    fn forget(&mut self, wanted: Option<Wanted>) {
        if let Some(entry) = wanted.and_then(|wanted| self.entries.remove(&wanted)) {
            entry.retire();
        }
    }
}

impl Entry {
    /// Ends the watch; answers that were made from it are none any more.
    fn retire(self) {
        drop(self.shown);
        self.view.retire();
    }
}
