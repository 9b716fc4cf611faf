//! Streams against a state that changes: whatever happens, the reader has the value in the end
//! and never goes back.

use crate::presence::Presences;
use std::collections::BTreeMap;

use futures::FutureExt;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use proptest::prelude::*;
use weft_core::catalog::{CatalogDeregistration, CatalogRegistration, ServiceInstance};
use weft_core::config_entry::IntentionAction;
use weft_core::state::{Command, State};
use weft_core::time::Timestamp;
use weft_core::watch::{Delta, InstancePlace};
use weft_proto::envelope;
use weft_runtime::digest;

use super::*;
use crate::raft::Audience;
use crate::watch::{VERSIONS_KEPT, fan_out};

const SERVICES: [&str; 2] = ["db", "web"];

/// A server without consensus.
struct World {
    hub: Arc<Hub>,
    service: WatchService,
    state: State,
    tasks: TaskTree,
}

impl World {
    fn new() -> Self {
        let (hub, tasks) = (Arc::<Hub>::default(), TaskTree::root("test"));
        let views = Views::new(hub.clone(), IntentionAction::Deny, tasks.clone());
        tasks.spawn("fan-out", fan_out(hub.clone(), views.clone(), tasks.clone()));
        let catch_up_limit = Duration::from_millis(200);
        let service = WatchService {
            hub: hub.clone(),
            tasks: tasks.clone(),
            views,
            catch_up_limit,
            presences: Presences::new(),
        };
        Self { hub, service, state: State::default(), tasks }
    }

    fn apply(&mut self, command: Command) {
        // 0 is shown as 1.
        let index = Index(self.state.index().0.max(1) + 1);
        let (_, changes) = self.state.apply(index, Timestamp(1), command);
        self.hub.applied(Arc::new(self.state.clone()), changes);
    }

    fn register(&mut self, node: u8, service: usize, port: u8) {
        let json = serde_json::json!({
            "node": { "Node": format!("n{node}"), "Address": "10.0.0.1", "Datacenter": "dc1" },
            "services": [{ "ID": SERVICES[service], "Service": SERVICES[service], "Port": port }],
        });
        let what: CatalogRegistration = serde_json::from_value(json).expect("a registration");
        self.apply(Command::Register(what));
    }

    fn deregister(&mut self, node: u8, service: usize) {
        let node = format!("n{node}").parse().expect("a name");
        let services = vec![SERVICES[service].parse().expect("an id")];
        self.apply(Command::Deregister(CatalogDeregistration {
            node,
            services,
            checks: Vec::new(),
        }));
    }

    fn value(&self, service: usize) -> Vec<ServiceInstance> {
        let name = SERVICES[service].parse().expect("a name");
        self.state.service_instances(&name).1
    }
}

/// An agent: what it has of each service, with the index.
#[derive(Default)]
struct Reader {
    requests: Option<mpsc::UnboundedSender<Result<wire::WatchRequest, Status>>>,
    events: Option<BoxStream<'static, Result<wire::WatchEvent, Status>>>,
    has: BTreeMap<u64, (u64, Vec<ServiceInstance>)>,
    values: usize,
    deltas: usize,
    unchanged: usize,
}

impl Reader {
    fn connect(&mut self, world: &World, takes_deltas: bool) {
        let (requests, stream) = mpsc::unbounded();
        for (id, key) in SERVICES.iter().enumerate() {
            let id = id as u64;
            let (index, instances) = self.has.get(&id).cloned().unwrap_or_default();
            let known =
                digest::of_list(instances.iter().map(|it| digest::of_bytes(&envelope::encode(it))));
            let known = if index > 0 { known.to_vec() } else { Vec::new() };
            let start = wire::WatchStart {
                id,
                topic: wire::Topic::Service.into(),
                key: (*key).to_owned(),
                known_index: index,
                known_digest: known.into(),
                takes_deltas,
            };
            let request = Some(wire::watch_request::Request::Start(start));
            requests.unbounded_send(Ok(wire::WatchRequest { request })).expect("open");
        }
        self.requests = Some(requests);
        let watcher = world.service.watcher(stream, None);
        self.events = Some(futures::stream::unfold(watcher, Watcher::next).boxed());
    }

    /// Takes events that are there, `limit` at most; returns how many.
    async fn read(&mut self, limit: usize) -> usize {
        for at in 0..limit {
            let Some(events) = &mut self.events else { return at };
            // The fan-out and the stream get their turns.
            let mut event = None;
            for _ in 0..8 {
                tokio::task::yield_now().await;
                event = events.next().now_or_never();
                if event.is_some() {
                    break;
                }
            }
            let Some(event) = event else { return at };
            self.take(event.expect("the stream goes on").expect("no error"));
        }
        limit
    }

    fn take(&mut self, event: wire::WatchEvent) {
        let (last, value) = self.has.entry(event.id).or_default();
        assert!(event.index >= *last, "a step back in time");
        match event.answer.expect("an answer") {
            wire::watch_event::Answer::Value(bytes) => {
                self.values += 1;
                *value = envelope::decode(&bytes).expect("instances");
            }
            wire::watch_event::Answer::Delta(delta) => {
                self.deltas += 1;
                assert_eq!(delta.from_index, *last, "another base");
                assert!(event.index > *last, "the same index for two values");
                let changed: Vec<ServiceInstance> =
                    envelope::decode(&delta.changed).expect("instances");
                let removed: Vec<InstancePlace> = envelope::decode(&delta.removed).expect("places");
                let before = value.clone();
                Delta { changed, removed }.apply(value).expect("it fits");
                assert_ne!(before, *value, "nothing was told as something");
            }
            wire::watch_event::Answer::Unchanged(_) => self.unchanged += 1,
            wire::watch_event::Answer::Problem(problem) => panic!("{problem}"),
        }
        *last = event.index;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect { takes_deltas: bool },
    Deregister { node: u8, service: usize },
    Disconnect,
    Read(usize),
    Register { node: u8, service: usize, port: u8 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let (node, service) = (0_u8..6, 0_usize..2);
    prop_oneof![
        2 => prop::bool::weighted(0.8).prop_map(|takes_deltas| Step::Connect { takes_deltas }),
        3 => (node.clone(), service.clone())
            .prop_map(|(node, service)| Step::Deregister { node, service }),
        1 => Just(Step::Disconnect),
        6 => (0_usize..6).prop_map(Step::Read),
        8 => (node, service, 1_u8..4)
            .prop_map(|(node, service, port)| Step::Register { node, service, port }),
    ]
}

async fn run_steps(steps: Vec<Step>) {
    let mut world = World::new();
    let mut reader = Reader::default();
    for step in steps {
        match step {
            Step::Connect { takes_deltas } => reader.connect(&world, takes_deltas),
            Step::Deregister { node, service } => world.deregister(node, service),
            Step::Disconnect => reader.events = None,
            Step::Read(limit) => {
                reader.read(limit).await;
            }
            Step::Register { node, service, port } => world.register(node, service, port),
        }
    }
    if reader.events.is_none() {
        reader.connect(&world, true);
    }
    reader.read(100).await;
    for (id, service) in [(0, 0), (1, 1)] {
        let (_, value) = reader.has.get(&id).cloned().unwrap_or_default();
        assert_eq!(value, world.value(service));
    }
    // No busy loop: what is told is told once.
    assert_eq!(reader.read(1).await, 0);
    drop(reader);
    let metrics = world.hub.metrics();
    assert_eq!((metrics.streams.get(), metrics.watches.get()), (0, 0));
    world.tasks.cancel();
}

proptest! {
    #[test]
    fn a_reader_always_has_the_value_in_the_end_and_never_goes_back(
        steps in prop::collection::vec(any_step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(run_steps(steps));
    }
}

#[tokio::test]
async fn a_reader_that_stops_reading_costs_nothing_and_misses_nothing() {
    let mut world = World::new();
    for node in 0..40 {
        world.register(node, 1, 1);
    }
    let mut reader = Reader::default();
    reader.connect(&world, true);
    assert_eq!(reader.read(9).await, 2);
    for round in 0..100_000_u32 {
        world.register((round % 40) as u8, 1, 2 + (round % 7 % 3) as u8);
        if round % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(world.service.views.versions() <= 2 * VERSIONS_KEPT);
    // One event in the end, however much has happened.
    assert_eq!(reader.read(9).await, 1);
    assert_eq!(reader.has[&1].1, world.value(1));
    world.tasks.cancel();
}

#[tokio::test]
async fn who_comes_back_is_told_the_difference_or_that_there_is_none() {
    let mut world = World::new();
    for node in 0..9 {
        world.register(node, 1, 1);
    }
    let mut reader = Reader::default();
    reader.connect(&world, true);
    reader.read(9).await;
    assert_eq!((reader.values, reader.deltas, reader.unchanged), (2, 0, 0));
    reader.connect(&world, true);
    reader.read(9).await;
    assert_eq!((reader.values, reader.deltas, reader.unchanged), (2, 0, 2));
    // What happens while nobody watches is told as a difference, too.
    reader.events = None;
    tokio::task::yield_now().await;
    world.register(3, 1, 2);
    world.deregister(4, 1);
    reader.connect(&world, true);
    reader.read(9).await;
    assert_eq!((reader.values, reader.deltas, reader.unchanged), (2, 1, 3));
    assert_eq!(reader.has[&1].1, world.value(1));
    // Another server, or this one after a restart, remembers nothing, and knows the value.
    let other = World { state: world.state.clone(), ..World::new() };
    other.hub.replaced(Arc::new(world.state.clone()));
    reader.connect(&other, true);
    reader.read(9).await;
    assert_eq!((reader.values, reader.deltas, reader.unchanged), (2, 1, 5));
    world.tasks.cancel();
    other.tasks.cancel();
}

#[tokio::test]
async fn a_server_that_is_behind_says_nothing_until_it_has_caught_up() {
    let mut world = World::new();
    world.register(1, 1, 1);
    let old = World { state: world.state.clone(), ..World::new() };
    old.hub.replaced(Arc::new(old.state.clone()));
    world.register(1, 1, 2);
    let mut reader = Reader::default();
    reader.connect(&world, true);
    reader.read(9).await;

    reader.connect(&old, true);
    let mut events = reader.events.take().expect("a stream");
    let refusal = loop {
        if let Err(status) = events.next().await.expect("an event") {
            break status;
        }
    };
    assert_eq!(refusal.code(), tonic::Code::Aborted);
    assert!(events.next().await.is_none());

    reader.connect(&old, true);
    assert_eq!(reader.read(9).await, 0);
    let changes = vec![];
    old.hub.applied(Arc::new(world.state.clone()), changes);
    reader.read(9).await;
    assert_eq!(reader.has[&1].1, world.value(1));
    world.tasks.cancel();
    old.tasks.cancel();
}
