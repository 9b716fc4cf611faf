//! Kubernetes without a cluster: manifests get sidecars, and the webhook looks after its own
//! certificates at an API server and answers over HTTPS.

mod api_server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::process::{Daemon, run_weft, weft};
use weft_tests::{eventually, tools};

use self::api_server::ApiServer;

/// Longer than any of it takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The webhook's configuration, at the API server.
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/weft-webhook";
/// The Secret with its authorities.
const SECRET: &str = "/api/v1/namespaces/weft-system/secrets/weft-webhook-authorities";
/// Its name for the API server.
const NAME: &str = "weft-webhook.weft-system.svc";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/testdata").join(name)
}

/// Runs `weft` and returns what it wrote on standard output alone, and on standard error.
fn weft_apart(args: &[&str], input: &str) -> (String, String) {
    use std::io::Write;
    let mut child = Command::new(weft())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(input.as_bytes()).expect("the program reads");
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
    (text(done.stdout), text(done.stderr))
}

#[test]
fn manifests_go_in_and_come_out_with_sidecars() {
    let given = fs::read_to_string(data("bookinfo.yaml")).expect("the file is there");
    let (yaml, told) = weft_apart(&["inject", "-f", "-"], &given);
    assert_eq!(told, "Deployment/reviews-v1: injected\n");
    assert!(yaml.starts_with("# Copyright") && yaml.contains("- name: weft-proxy\n"), "{yaml}");
    // Its own output is injected already.
    let (again, told) = weft_apart(&["inject", "-f", "-"], &yaml);
    assert_eq!(again, yaml);
    assert!(told.contains("left alone: it has a sidecar of Weft already"), "{told}");
    // Only where somebody asks for it.
    let (same, _) = weft_apart(&["inject", "-f", "-", "--only-marked"], &given);
    assert_eq!(same, given);
    let (json, _) = weft_apart(&["inject", "-f", "-", "--json"], &given);
    let objects: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(objects.as_array().map(Vec::len), Some(3));
    let wrong =
        "kind: Pod\nmetadata: {name: a, annotations: {weft.dev/port: x}}\nspec: {containers: []}\n";
    let (none, told) = weft_apart(&["inject", "-f", "-"], wrong);
    assert_eq!(none, "");
    assert!(told.contains("Pod/a: metadata.annotations[\"weft.dev/port\"]: \"x\""), "{told}");
    let unit = ["inject", "--systemd", "web.service", "--service", "web", "--port", "80"];
    assert!(run_weft(&unit, LIMIT).output.contains("Wants=weft-proxy@web.service"));
}

#[test]
fn the_manifests_of_packaging_are_those_that_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes/weft.yaml");
    let kept = fs::read_to_string(&path).expect("the file is there");
    let (printed, _) = weft_apart(&["k8s", "install", "--dry-run"], "");
    assert_eq!(kept, printed, "weft k8s install --dry-run > packaging/kubernetes/weft.yaml");
}

/// Asks the webhook as the API server does: by its name, trusting what it was told to.
fn ask(address: &str, bundle: &Path, path: &str, body: &str) -> Result<(u16, String), String> {
    let port = address.rsplit(':').next().unwrap_or_default();
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let (url, bundle) = (format!("https://{NAME}:{port}{path}"), bundle.to_string_lossy());
    let body = format!("@{body}");
    let out = tools::run(
        "curl",
        &[
            "-sS",
            "--resolve",
            &resolve,
            "--cacert",
            &bundle,
            "--data-binary",
            &body,
            "-H",
            "content-type: application/json",
            "-w",
            "\n%{http_code}",
            &url,
        ],
    );
    let text = out.ok()?;
    let (text, status) = text.trim_end().rsplit_once('\n').unwrap_or(("", &text));
    Ok((status.trim().parse().map_err(|_| text.to_owned())?, text.trim_end().to_owned()))
}

#[test]
fn the_webhook_is_trusted_by_the_api_server_and_injects_over_https() {
    const TEST: &str = "the_webhook_is_trusted_by_the_api_server_and_injects_over_https";
    if !tools::have(TEST, &["curl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let api = ApiServer::start();
    api.put("/version", json!({ "major": "1", "minor": "20" }));
    let printed = weft_apart(&["inject", "--json", "--only-marked", "-f", "-"], &{
        weft_apart(&["k8s", "install", "--dry-run"], "").0
    });
    let objects: Value = serde_json::from_str(&printed.0).expect("it is JSON");
    let objects = objects.as_array().expect("a list").clone();
    let is_ours = |object: &&Value| object["kind"] == "MutatingWebhookConfiguration";
    let configuration = objects.iter().find(is_ours).expect("it is among them").clone();
    api.put(CONFIGURATION, configuration);

    let url = api.url();
    let arguments = ["k8s", "webhook", "--addr", "127.0.0.1:0", "--api-server", &url];
    let mut webhook = Daemon::weft("webhook", folder.path(), &arguments);
    let address = webhook.ready_field("https");
    // It has made an authority, and told the API server to trust it, for each of its webhooks.
    assert!(api.get(SECRET).is_some());
    let configuration = api.get(CONFIGURATION).expect("it is there");
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert_eq!(configuration["webhooks"][1]["clientConfig"]["caBundle"], bundle);
    let pem = folder.path().join("bundle.pem");
    fs::write(&pem, api_server::decoded(&bundle)).expect("it can be written");

    let review = data("reviews/replicaset.json");
    let review = review.to_string_lossy();
    let (status, text) = ask(&address, &pem, "/inject/enabled", &review).expect("an answer");
    let told: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((status, &told["response"]["allowed"]), (200, &json!(true)), "{text}");
    let patch = api_server::decoded(&told["response"]["patch"]);
    // A cluster of 1.20 has no sidecars of its own.
    assert!(patch.contains("/spec/containers/-") && patch.contains("weft-proxy"), "{patch}");
    let (_, text) = ask(&address, &pem, "/inject/unsaid", &review).expect("an answer");
    assert!(!text.contains("patch"), "{text}");

    // What is no question gets one sentence, and a body without end is not taken.
    let odd = folder.path().join("odd");
    fs::write(&odd, "{}").expect("it can be written");
    let (status, text) =
        ask(&address, &pem, "/inject/enabled", &odd.to_string_lossy()).expect("an answer");
    assert_eq!((status, text.as_str()), (400, "apiVersion: there is none"));
    fs::write(&odd, vec![b' '; 5 << 20]).expect("it can be written");
    let large = ask(&address, &pem, "/inject/enabled", &odd.to_string_lossy());
    assert!(large.is_err() || large.is_ok_and(|(status, _)| status == 413));

    a_second_replica_shares_the_authority(&api, folder.path(), &review);
    webhook.terminate();
}

/// Another process finds the authority and is trusted by the same bundle.
fn a_second_replica_shares_the_authority(api: &ApiServer, folder: &Path, review: &str) {
    let url = api.url();
    let arguments = ["k8s", "webhook", "--addr", "127.0.0.1:0", "--api-server", &url];
    let replica = Daemon::weft("replica", folder, &arguments);
    let address = replica.ready_field("https");
    let pem = folder.join("bundle.pem");
    let told = eventually(LIMIT, "the replica is trusted", || {
        ask(&address, &pem, "/inject/enabled", review)
    });
    assert_eq!(told.0, 200);
}
