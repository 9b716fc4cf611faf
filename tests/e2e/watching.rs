//! `weft watch` against real agents: each type of view, handed to a program and posted to an URL,
//! over a restart of the agent too.

use std::process::Command;

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::process::weft;
use weft_tests::{Answer, App, Cluster, Daemon, eventually};

/// A view that is watched twice: by a program, and by an application at an URL.
struct Watched {
    name: &'static str,
    program: Daemon,
    _poster: Daemon,
}

impl Watched {
    fn start(cluster: &Cluster, app: &App, name: &'static str, view: &str) -> Self {
        let addr = cluster.agent.api().addr().to_string();
        let watch = || {
            let mut command = Command::new(weft());
            command.args(["watch", "--http-addr", &addr, "--type"]).args(view.split(' '));
            command
        };
        let folder = cluster.folder.path();
        // One line for each view: the index, and what the program reads.
        let mut program = watch();
        program.arg("printf '%s ' $CONSUL_INDEX; cat; echo");
        let mut poster = watch();
        poster.args(["--http", &format!("http://{}/{name}", app.addr())]);
        Self {
            name,
            program: Daemon::program(&format!("watch-{name}"), folder, program),
            _poster: Daemon::program(&format!("post-{name}"), folder, poster),
        }
    }

    /// Waits until the last view at both handlers is one such.
    fn shows(&self, app: &App, what: &str, is_so: impl Fn(&Value) -> bool) {
        eventually(SPREAD_LIMIT, &format!("the program is told: {what}"), || {
            match self.handed_over().pop() {
                Some((_, view)) if is_so(&view) => Ok(()),
                _ => Err(self.program.log()),
            }
        });
        eventually(SPREAD_LIMIT, &format!("the URL is told: {what}"), || {
            let posted = app.last_posted(&format!("/{}", self.name)).unwrap_or_default();
            let view = serde_json::from_str(posted["body"].as_str().unwrap_or_default());
            let (kind, index) =
                (&posted["headers"]["content-type"], &posted["headers"]["x-consul-index"]);
            let is_whole = kind == "application/json" && index.is_string();
            if is_whole && view.is_ok_and(|view| is_so(&view)) {
                return Ok(());
            }
            Err(posted.to_string())
        });
    }

    /// Every view that the program got, with its index.
    fn handed_over(&self) -> Vec<(u64, Value)> {
        let log = self.program.log();
        let lines = log.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter_map(|(index, view)| {
                Some((index.parse().ok()?, serde_json::from_str(view).ok()?))
            })
            .collect()
    }
}

/// Whether a list has an element whose field is this.
fn has(view: &Value, field: &str, wanted: &Value) -> bool {
    view.as_array().is_some_and(|list| list.iter().any(|it| it.pointer(field) == Some(wanted)))
}

#[test]
fn every_type_of_view_reaches_programs_and_urls() {
    let mut cluster = Cluster::start();
    cluster.agent.process.expect_log("");
    let app = App::start("told");
    let [key, prefix, services, service, checks, event] = [
        ("key", "key --key app/a"),
        ("keyprefix", "keyprefix --prefix app/"),
        ("services", "services"),
        ("service", "service --service web --passingonly"),
        ("checks", "checks --state critical"),
        ("event", "event --name deploy"),
    ]
    .map(|(name, view)| Watched::start(&cluster, &app, name, view));
    // Whatever there is at first is a view as well.
    key.shows(&app, "no such key", Value::is_null);
    for empty in [&prefix, &service, &checks, &event] {
        empty.shows(&app, "nothing yet", |view| *view == json!([]));
    }

    let api = cluster.agent.api();
    let put = |path: &str, body: &str| {
        let done = api.request("PUT", path, &[], body).and_then(Answer::ok);
        done.unwrap_or_else(|error| panic!("{path}: {error}"));
    };
    put("/v1/kv/app/a", "new");
    key.shows(&app, "the key", |view| view["Value"] == "bmV3");
    prefix.shows(&app, "the keys", |view| has(view, "/Key", &json!("app/a")));
    put("/v1/event/fire/deploy", "now");
    event.shows(&app, "the event", |view| has(view, "/Payload", &json!("bm93")));

    cluster.agent.register(&json!({ "Name": "web", "ID": "web-1", "Port": 80, "Tags": ["v1"],
        "Check": { "CheckID": "life", "TTL": "1m" } }));
    services.shows(&app, "the service", |view| view["web"] == json!(["v1"]));
    checks.shows(&app, "its check", |view| has(view, "/CheckID", &json!("life")));
    put("/v1/agent/check/pass/life", "");
    service.shows(&app, "it passes", |view| has(view, "/Service/ID", &json!("web-1")));
    checks.shows(&app, "none is critical", |view| *view == json!([]));

    // They go on when the agent is back.
    cluster.agent.process.kill();
    cluster.agent.restart();
    cluster.agent.process.expect_log("");
    put("/v1/agent/check/fail/life", "");
    put("/v1/kv/app/b", "more");
    put("/v1/kv/app/a", "newer");
    service.shows(&app, "it fails", |view| *view == json!([]));
    prefix.shows(&app, "another key", |view| has(view, "/Key", &json!("app/b")));
    key.shows(&app, "another value", |view| view["Value"] == "bmV3ZXI=");

    for watched in [&key, &prefix, &services, &service, &checks] {
        let views = watched.handed_over();
        let pairs = views.iter().zip(views.iter().skip(1));
        for ((before, was), (after, is)) in pairs {
            assert!(before <= after, "{}: {views:?}", watched.name);
            assert_ne!(was, is, "{}: nothing changed, and it was told", watched.name);
        }
    }
}
