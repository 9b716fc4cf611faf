//! Tasks with a parent, a name and an end. The only place that spawns.
//!
//! A tree is cancelled from the top: a child ends with its parent. What a task does, and how it
//! reacts to cancellation, is its owner's affair.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Names shown of unfinished tasks: enough to find the culprit, short enough for one log line.
const UNFINISHED_NAMES_MAX: usize = 16;

/// A node in the tree of everything that runs.
///
/// Clones are the same node. Dropping every clone ends nothing: tasks end by themselves or by
/// cancellation.
#[derive(Clone)]
pub struct TaskTree {
    node: Arc<Node>,
}

/// A task that panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {name} panicked: {message}")]
pub struct TaskFailure {
    /// The names from the root to the task, joined by `/`.
    pub name: String,
    /// What the panic said.
    pub message: String,
}

/// Tasks that had not ended when the grace was over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} tasks did not end in time: {}", names.join(", "))]
pub struct Unfinished {
    /// How many there are.
    pub count: usize,
    /// The names of some of them.
    pub names: Vec<String>,
}

struct Node {
    path: String,
    token: CancellationToken,
    parent: Option<(Arc<Node>, Failures)>,
    /// Tasks here and below.
    live: AtomicUsize,
    idle: Notify,
    next_id: AtomicU64,
    tasks: Mutex<BTreeMap<u64, Running>>,
    children: Mutex<Vec<Weak<Node>>>,
    failure: watch::Sender<Option<TaskFailure>>,
}

/// What becomes of the failures of a child.
#[derive(Clone, Copy, PartialEq)]
enum Failures {
    /// They end at the child.
    Kept,
    /// They are reported to the parent too.
    Passed,
}

struct Running {
    name: Cow<'static, str>,
    abort: Option<AbortHandle>,
}

impl TaskTree {
    /// Makes the root of a new tree.
    pub fn root(name: &str) -> Self {
        Self { node: Node::new(name.to_owned(), CancellationToken::new(), None) }
    }

    /// Makes a child, which is cancelled with its parent.
    pub fn child(&self, name: impl Into<String>) -> Self {
        self.child_of(name.into(), Failures::Passed)
    }

    /// Makes a child whose tasks' panics go no further than to itself: for work on behalf of
    /// one peer, which may cost that peer its connection but never the process.
    pub fn isolated(&self, name: impl Into<String>) -> Self {
        self.child_of(name.into(), Failures::Kept)
    }

    fn child_of(&self, name: String, failures: Failures) -> Self {
        let path = format!("{}/{name}", self.node.path);
        let token = self.node.token.child_token();
        let node = Node::new(path, token, Some((self.node.clone(), failures)));
        let mut children = self.node.children.lock();
        if children.len() == children.capacity() {
            children.retain(|child| child.strong_count() > 0);
        }
        children.push(Arc::downgrade(&node));
        Self { node }
    }

    /// Starts a task. Its panic is logged and reported to [`TaskTree::failed`] of every ancestor.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = self.enter(name.into());
        let (node, id) = (self.node.clone(), guard.id);
        let handle = tokio::spawn(guard.run(future));
        node.set_abort(id, handle.abort_handle());
    }

    /// Starts a task on the current thread.
    ///
    /// # Panics
    /// Outside a `LocalSet` or a local runtime.
    pub fn spawn_local(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + 'static,
    ) {
        // On its way into the task the future goes through several hands: as a pointer.
        let future = Box::pin(future);
        let guard = self.enter(name.into());
        let (node, id) = (self.node.clone(), guard.id);
        let handle = tokio::task::spawn_local(guard.run(future));
        node.set_abort(id, handle.abort_handle());
    }

    /// Runs work that blocks its thread (disk, key generation) apart from the async threads.
    ///
    /// The work starts at once and cannot be interrupted.
    ///
    /// # Errors
    /// [`TaskFailure`] when the work panicked, or the process is shutting down.
    pub fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, TaskFailure>> + Send + 'static {
        let guard = self.enter("blocking".into());
        let name = format!("{}/blocking", self.node.path);
        let handle = start_blocking(move || {
            let _guard = guard;
            work()
        });
        async move {
            handle.await.map_err(|failure| {
                let message = match failure.try_into_panic() {
                    Ok(payload) => panic_message(&*payload),
                    Err(_) => "the process is shutting down".to_owned(),
                };
                TaskFailure { name, message }
            })
        }
    }

    /// Runs work on a thread of its own, for as long as the process or until it sees that the tree
    /// is cancelled. Inside, tasks can be started.
    ///
    /// Its panic is logged and reported as that of a task.
    ///
    /// # Errors
    /// Those of the system when it has no thread to give.
    pub fn thread(
        &self,
        name: impl Into<String>,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let name = name.into();
        let guard = self.enter(name.clone().into());
        let runtime = tokio::runtime::Handle::current();
        let run = move || {
            let _runtime = runtime.enter();
            if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
                guard.report(panic_message(&*payload));
            }
        };
        std::thread::Builder::new().name(name).spawn(run).map(drop)
    }

    /// Starts a worker that blocks its thread (disk): it takes what waits in a queue, at most
    /// `group_max` at a time and in order, and ends when the queue is closed.
    ///
    /// Its panic is logged and reported as that of a task; what comes to the queue afterwards
    /// is refused.
    pub fn worker<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        mut queue: mpsc::Receiver<T>,
        group_max: usize,
        mut handle: impl FnMut(Vec<T>) + Send + 'static,
    ) {
        let name = name.into();
        #[cfg(feature = "sim")]
        if let Some(world) = crate::world::current() {
            return self.spawn(name, async move {
                while let Some(first) = queue.recv().await {
                    tokio::time::sleep(world.disk_pause()).await;
                    handle(group_of(first, &mut queue, group_max));
                }
            });
        }
        let work = self.blocking(move || {
            while let Some(first) = queue.blocking_recv() {
                handle(group_of(first, &mut queue, group_max));
            }
        });
        self.spawn(name, async move {
            if let Err(failure) = work.await {
                std::panic::resume_unwind(Box::new(failure.message));
            }
        });
    }

    /// Tells every task here and below to end.
    pub fn cancel(&self) {
        self.node.token.cancel();
    }

    /// Whether the tasks have been told to end.
    pub fn is_cancelled(&self) -> bool {
        self.node.token.is_cancelled()
    }

    /// Returns the token that [`TaskTree::cancel`] triggers.
    pub fn token(&self) -> CancellationToken {
        self.node.token.clone()
    }

    /// Waits until the tasks are told to end.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn cancelled(&self) {
        self.node.token.cancelled().await;
    }

    /// Waits until every task here and below has ended.
    ///
    /// # Errors
    /// [`Unfinished`] when some still run after `grace`.
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn join(&self, grace: Duration) -> Result<(), Unfinished> {
        let all_ended = async {
            loop {
                let idle = self.node.idle.notified();
                tokio::pin!(idle);
                // Enabled before the look at the count, so that no end is missed in between.
                idle.as_mut().enable();
                if self.node.live.load(Ordering::Acquire) == 0 {
                    return;
                }
                idle.await;
            }
        };
        match tokio::time::timeout(grace, all_ended).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let mut names = Vec::new();
                self.node.collect_names(&mut names);
                Err(Unfinished { count: self.node.live.load(Ordering::Acquire), names })
            }
        }
    }

    /// Ends every task here and below at its next await point, without its consent.
    pub fn abort(&self) {
        self.cancel();
        self.node.abort();
    }

    /// Waits until a task here or below panics.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time; the first failure is kept.
    pub async fn failed(&self) -> TaskFailure {
        let mut failure = self.node.failure.subscribe();
        match failure.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(failure)) => failure.clone(),
            // The sender is in the node that `self` holds: neither arm can come.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Returns the number of tasks here and below that have not ended.
    pub fn live(&self) -> usize {
        self.node.live.load(Ordering::Acquire)
    }

    fn enter(&self, name: Cow<'static, str>) -> Guard {
        for node in self.node.line() {
            node.live.fetch_add(1, Ordering::AcqRel);
        }
        let id = self.node.next_id.fetch_add(1, Ordering::Relaxed);
        self.node.tasks.lock().insert(id, Running { name, abort: None });
        Guard { node: self.node.clone(), id }
    }
}

impl fmt::Debug for TaskTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskTree")
            .field("path", &self.node.path)
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}

impl Node {
    fn new(
        path: String,
        token: CancellationToken,
        parent: Option<(Arc<Node>, Failures)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            path,
            token,
            parent,
            live: AtomicUsize::new(0),
            idle: Notify::new(),
            next_id: AtomicU64::new(0),
            tasks: Mutex::new(BTreeMap::new()),
            children: Mutex::new(Vec::new()),
            failure: watch::Sender::new(None),
        })
    }

    /// The node and its ancestors, upward.
    fn line(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(Some(self), |node| node.parent.as_ref().map(|(parent, _)| parent))
    }

    fn set_abort(&self, id: u64, handle: AbortHandle) {
        // The task may have ended already; then it has no entry.
        if let Some(running) = self.tasks.lock().get_mut(&id) {
            running.abort = Some(handle);
        }
    }

    fn below(&self) -> Vec<Arc<Self>> {
        self.children.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn abort(&self) {
        let handles: Vec<_> =
            self.tasks.lock().values().filter_map(|task| task.abort.clone()).collect();
        for handle in handles {
            handle.abort();
        }
        for child in self.below() {
            child.abort();
        }
    }

    fn collect_names(&self, names: &mut Vec<String>) {
        for task in self.tasks.lock().values() {
            if names.len() < UNFINISHED_NAMES_MAX {
                names.push(format!("{}/{}", self.path, task.name));
            }
        }
        for child in self.below() {
            child.collect_names(names);
        }
    }
}

/// A task's place in the tree, given back when the task's future is dropped.
struct Guard {
    node: Arc<Node>,
    id: u64,
}

impl Guard {
    /// Not an `async fn`: that would hold the future twice, as its argument and as what it waits
    /// for, for as long as the task lives.
    fn run(self, future: impl Future<Output = ()>) -> impl Future<Output = ()> {
        AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            if let Err(payload) = ended {
                self.report(panic_message(&*payload));
            }
            drop(self);
        })
    }

    fn report(&self, message: String) {
        let name = match self.node.tasks.lock().get(&self.id) {
            Some(task) => format!("{}/{}", self.node.path, task.name),
            None => self.node.path.clone(),
        };
        error!(task = %name, %message, "task panicked");
        let failure = TaskFailure { name, message };
        for node in self.node.line() {
            node.failure.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| failure.clone());
                is_first
            });
            if node.parent.as_ref().is_some_and(|(_, failures)| *failures == Failures::Kept) {
                return;
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The removed entry is dropped outside the lock.
        let _ended = self.node.tasks.lock().remove(&self.id);
        for node in self.node.line() {
            if node.live.fetch_sub(1, Ordering::AcqRel) == 1 {
                node.idle.notify_waiters();
            }
        }
    }
}

/// In a simulation the work is done on the spot: there are no other threads.
fn start_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(feature = "sim")]
    if crate::world::current().is_some() {
        let done = std::panic::catch_unwind(AssertUnwindSafe(work));
        return tokio::spawn(async move {
            done.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        });
    }
    tokio::task::spawn_blocking(work)
}

/// The first with those that wait behind it, `max` in all.
fn group_of<T>(first: T, queue: &mut mpsc::Receiver<T>, max: usize) -> Vec<T> {
    let mut group = vec![first];
    while group.len() < max
        && let Ok(next) = queue.try_recv()
    {
        group.push(next);
    }
    group
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_child_ends_with_its_parent_and_join_waits_for_it() {
        let root = TaskTree::root("test");
        let child = root.child("child");
        let tasks = child.clone();
        child.spawn("waiter", async move { tasks.cancelled().await });
        assert_eq!(root.live(), 1);
        root.cancel();
        assert!(child.is_cancelled());
        root.join(LIMIT).await.expect("the waiter ends");
        assert_eq!(root.live(), 0);
    }

    #[tokio::test]
    async fn a_panic_reaches_every_ancestor_with_the_name_of_its_task() {
        let root = TaskTree::root("test");
        let child = root.child("child");
        child.spawn("bad", async { panic!("on purpose") });
        for tree in [&root, &child] {
            let failure = tokio::time::timeout(LIMIT, tree.failed()).await.expect("reported");
            assert_eq!(failure.name, "test/child/bad");
            assert_eq!(failure.message, "on purpose");
        }
        root.join(LIMIT).await.expect("a task that panicked has ended");
    }

    #[tokio::test]
    async fn a_panic_ends_at_an_isolated_child() {
        let root = TaskTree::root("test");
        let isolated = root.isolated("peers");
        isolated.child("peer").spawn("bad", async { panic!("on purpose") });
        let failure = tokio::time::timeout(LIMIT, isolated.failed()).await.expect("reported");
        assert_eq!(failure.name, "test/peers/peer/bad");
        root.join(LIMIT).await.expect("it has ended");
        assert!(root.failed().now_or_never().is_none(), "the root knows of it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_named_and_can_be_aborted() {
        let root = TaskTree::root("test");
        root.child("child").spawn("deaf", std::future::pending());
        root.cancel();
        let unfinished = root.join(LIMIT).await.expect_err("it does not listen");
        assert_eq!(unfinished.to_string(), "1 tasks did not end in time: test/child/deaf");
        root.abort();
        root.join(LIMIT).await.expect("aborted");
    }

    #[tokio::test]
    async fn blocking_work_gives_its_result_or_its_panic() {
        let root = TaskTree::root("test");
        assert_eq!(root.blocking(|| 7).await, Ok(7));
        let failure = root.blocking(|| panic!("on purpose")).await.expect_err("it panics");
        assert_eq!(failure.message, "on purpose");
    }

    #[tokio::test]
    async fn a_worker_takes_what_waits_in_order_and_ends_with_its_queue() {
        let root = TaskTree::root("test");
        let (queue, waiting) = mpsc::channel(8);
        for n in 0..5 {
            queue.send(n).await.expect("room");
        }
        let (groups, mut seen) = mpsc::unbounded_channel();
        root.worker("worker", waiting, 2, move |group| drop(groups.send(group)));
        let mut all = Vec::new();
        while all.len() < 5 {
            let group: Vec<i32> = seen.recv().await.expect("a group");
            assert!(group.len() <= 2, "{group:?}");
            all.extend(group);
        }
        assert_eq!(all, [0, 1, 2, 3, 4]);
        drop(queue);
        root.join(LIMIT).await.expect("it ends");

        let (queue, waiting) = mpsc::channel(1);
        root.worker("bad", waiting, 1, |_: Vec<()>| panic!("on purpose"));
        queue.send(()).await.expect("room");
        let failure = tokio::time::timeout(LIMIT, root.failed()).await.expect("reported");
        assert_eq!(failure.message, "on purpose");
    }

    #[tokio::test]
    async fn local_tasks_are_counted_too() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let root = TaskTree::root("test");
                root.spawn_local("local", async {});
                assert_eq!(root.live(), 1);
                root.join(LIMIT).await.expect("it ends");
            })
            .await;
    }
}
