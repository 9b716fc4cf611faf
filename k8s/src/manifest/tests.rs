//! Files and what becomes of them. The files that come out lie beside those that go in:
//! `testdata/*.injected.yaml`; with `WEFT_WRITE_GOLDEN=1` they are written anew.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::document::split;
use super::tree::{Node, Style};
use super::{Done, Injection, ManifestError, Outcome, inject_file, read, write};
use crate::inject::{Settings, Switch, Why};

pub(crate) fn settings() -> Settings {
    Settings {
        image: "registry.example/weft:1.0".to_owned(),
        capture_image: "registry.example/weft-capture:1.0".to_owned(),
        servers: vec!["weft-server.weft-system.svc:8300".to_owned()],
        root_fingerprint: "aa".repeat(32),
        ..Settings::default()
    }
}

fn run(text: &str) -> Result<Done, ManifestError> {
    let settings = settings();
    let injection =
        Injection { settings: &settings, by_default: Switch::Enabled, namespace: "default" };
    inject_file(text, &injection)
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn golden(name: &str) -> Done {
    let given = fs::read_to_string(data(&format!("{name}.yaml"))).expect("the file is there");
    let done = run(&given).expect("it is right");
    let path = data(&format!("{name}.injected.yaml"));
    if std::env::var_os("WEFT_WRITE_GOLDEN").is_some() {
        fs::write(&path, &done.yaml).expect("it can be written");
    }
    let wanted = fs::read_to_string(&path).expect("the file is there");
    assert_eq!(done.yaml, wanted, "{name}");
    // What has its sidecar stays as it is, to the byte.
    let again = run(&done.yaml).expect("it is right still");
    assert_eq!(again.yaml, done.yaml, "{name}");
    done
}

#[test]
fn bookinfo_gets_sidecars_and_keeps_the_rest() {
    let done = golden("bookinfo");
    assert!(done.yaml.starts_with("# Copyright of whoever wrote it stays where it is.\n"));
    assert!(done.yaml.contains("  name: reviews   # with a comment\n"), "an untouched document");
    assert!(done.yaml.contains("          defaultMode: 0755\n"), "octal as it was");
    assert!(done.yaml.contains("        version: \"1\"\n"), "a text stays a text");
    assert_eq!(done.reports.len(), 1);
    assert_eq!(done.reports[0].object, "Deployment/reviews-v1");
}

#[test]
fn probes_of_every_kind_go_through_the_sidecar() {
    golden("probes");
}

#[test]
fn lists_are_gone_through_and_namespaces_of_the_file_count() {
    let done = golden("cronjob");
    let outcomes: Vec<&Outcome> = done.reports.iter().map(|report| &report.outcome).collect();
    assert!(matches!(outcomes[0], Outcome::Injected(_)));
    assert_eq!(outcomes[1], &Outcome::LeftAlone(Why::Disabled));
}

#[test]
fn a_pod_with_a_sidecar_of_istio_is_left_alone_to_the_byte() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: productpage\nspec:\n  containers:\n  \
                - name: productpage        # the application\n    image: productpage:v1\n    \
                ports:\n    - containerPort: 9080\n  - name: istio-proxy        # the sidecar\n    \
                image: proxyv2:1.20.0\n";
    let done = run(text).expect("it is right");
    assert_eq!(done.yaml, text);
    let why = Why::Present { mesh: "Istio", container: "istio-proxy" };
    assert_eq!(done.reports[0].outcome, Outcome::LeftAlone(why));
}

#[test]
fn json_is_yaml() {
    let text =
        r#"{"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}}"#;
    let done = run(text).expect("it is right");
    assert_eq!(done.objects[0]["spec"]["initContainers"][1]["name"], "weft-proxy");
}

#[test]
fn faults_name_the_line_or_the_object() {
    let check = |text: &str, wanted: &str| {
        let error = run(text).expect_err("it is wrong").to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check("a: b\n---\nc:\n  - d\n e: f\n", "line 5: ");
    check("a: [1, 2\n", "line ");
    check("a: 1\na: 2\n", "line 2: this key stands in the map already");
    check(
        "kind: Deployment\nmetadata: {name: web}\n",
        "Deployment/web: spec.template: there is no",
    );
    check(
        "kind: Pod\nmetadata: {name: web}\nspec: {}\n",
        "Pod/web: spec.containers: there is no list",
    );
    check("? [a]\n: b\n", "a key of a map has to be a text");
    check(&"[".repeat(1000), "line 1: ");
    let bomb = (1..20).fold("a0: &a0 [x, x]\n".to_owned(), |text, at| {
        let before = at - 1;
        format!("{text}a{at}: &a{at} [*a{before}, *a{before}, *a{before}]\n")
    });
    check(&bomb, "too large once aliases are resolved");
}

#[test]
fn files_are_cut_and_put_together_to_the_byte() {
    for text in [
        "",
        "a: b",
        "---\na: b\n---\n",
        "%YAML 1.2\n---\na: b\n",
        "# only\n--- # a comment\nb: c\n--- {d: e}\n--- |\n text\n...\n",
        "a: |\n  ---x\n---\r\nb: c\r\n",
    ] {
        let documents = split(text);
        let whole: String =
            documents.iter().flat_map(|document| [document.marker, document.body]).collect();
        assert_eq!(whole, text);
        assert_eq!(run(text).expect("it is right").yaml, text);
    }
}

fn scalar() -> impl Strategy<Value = Node> {
    let style =
        prop_oneof![Just(Style::Block), Just(Style::DoubleQuoted), Just(Style::SingleQuoted)];
    let any = ("[ -~\n\t\u{e4}\u{85}\u{2028}]{0,12}", style)
        .prop_map(|(text, style)| Node::Scalar { text, style, tag: None });
    prop_oneof![
        any,
        "[a-z][a-z0-9/.-]{0,8}".prop_map(|text| Node::Scalar {
            text,
            style: Style::Plain,
            tag: None
        }),
        Just(Node::Scalar { text: String::new(), style: Style::Plain, tag: None }),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        let fields = prop::collection::btree_map("[a-z \n:#-]{1,5}", inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Node::Sequence),
            fields.prop_map(|fields| {
                let key = |text| Node::Scalar { text, style: Style::DoubleQuoted, tag: None };
                Node::Map(fields.into_iter().map(|(text, it)| (key(text), it)).collect())
            }),
        ]
    })
}

/// Forgets how scalars were written, but whether they stand plain.
fn meaning(node: &Node) -> serde_json::Value {
    node.to_json()
}

proptest! {
    #[test]
    fn what_is_written_always_reads_as_the_same(node in node()) {
        let text = write::write(&node);
        let read = read::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        prop_assert_eq!(read.as_ref().map(meaning).unwrap_or_default(), meaning(&node), "{}", text);
    }
}
