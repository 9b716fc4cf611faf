//! Questions of an API server and their answers, and the certificates of the webhook.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weft_core::time::Timestamp;
use weft_runtime::tls::server_config_outside;

use super::certificate::Authorities;
use super::review::{Outcome, answer};
use crate::inject::{Settings, SidecarKind, Switch};

/// As the API server of 1.20 asks when a ReplicaSet makes a pod, shortened.
const REVIEW: &str = include_str!("../../testdata/reviews/replicaset.json");

fn asked(review: &Value) -> (Value, Outcome) {
    let body = review.to_string();
    answer(body.as_bytes(), Switch::Enabled, &Settings::default()).expect("it is a question")
}

fn review() -> Value {
    serde_json::from_str(REVIEW).expect("it is JSON")
}

#[test]
fn the_patch_fits_the_pod_and_asking_again_changes_nothing() {
    let review = review();
    let (told, outcome) = asked(&review);
    assert_eq!(outcome, Outcome::Injected);
    let response = &told["response"];
    assert_eq!((&told["apiVersion"], &told["kind"]), (&review["apiVersion"], &review["kind"]));
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = STANDARD.decode(response["patch"].as_str().expect("a text")).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch of RFC 6902");
    let mut again = review.clone();
    let pod = &mut again["request"]["object"];
    json_patch::patch(pod, &patch).expect("it fits the pod");
    assert_eq!(pod["spec"]["containers"][0], review["request"]["object"]["spec"]["containers"][0]);
    assert_eq!(pod["spec"]["initContainers"][1]["name"], "weft-proxy");
    // As with `reinvocationPolicy: IfNeeded`.
    let (told, outcome) = asked(&again);
    assert_eq!(outcome, Outcome::LeftAlone);
    assert_eq!(told["response"], json!({ "uid": review["request"]["uid"], "allowed": true }));
}

#[test]
fn a_dry_run_is_answered_as_any_other() {
    let mut dry = review();
    dry["request"]["dryRun"] = true.into();
    assert_eq!(asked(&dry), asked(&review()));
}

#[test]
fn refusals_and_warnings_reach_whoever_made_the_pod() {
    let mut wrong = review();
    wrong["request"]["object"]["metadata"]["annotations"]["weft.dev/port"] = "none of them".into();
    let (told, outcome) = asked(&wrong);
    assert_eq!((outcome, &told["response"]["allowed"]), (Outcome::Refused, &json!(false)));
    let status = &told["response"]["status"];
    assert_eq!(status["code"], 422);
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("weft: metadata.annotations[\"weft.dev/port\"]: "), "{message}");

    let mut host = review();
    host["request"]["object"]["spec"]["hostNetwork"] = true.into();
    let (told, outcome) = asked(&host);
    assert_eq!((outcome, &told["response"]["allowed"]), (Outcome::LeftAlone, &json!(true)));
    let warning = told["response"]["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with("weft: no sidecar: it has hostNetwork: true"), "{warning}");

    let mut misspelt = review();
    for at in 0..20 {
        let key = format!("weft.dev/{}{at}", "\u{e4}".repeat(200));
        misspelt["request"]["object"]["metadata"]["annotations"][key] = "x".into();
    }
    let (told, _) = asked(&misspelt);
    let warnings = told["response"]["warnings"].as_array().expect("there are some");
    assert_eq!(warnings.len(), 8);
    assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.len() <= 256)));
}

#[test]
fn what_is_no_new_pod_is_let_through() {
    let mut other = review();
    other["request"]["kind"]["kind"] = "Deployment".into();
    let mut update = review();
    update["request"]["operation"] = "UPDATE".into();
    for review in [other, update] {
        let (told, outcome) = asked(&review);
        assert_eq!(outcome, Outcome::LeftAlone);
        assert_eq!(told["response"], json!({ "uid": review["request"]["uid"], "allowed": true }));
    }
}

#[test]
fn what_is_no_question_gets_one_sentence_and_never_a_panic() {
    let check = |body: &str, wanted: &str| {
        let error = answer(body.as_bytes(), Switch::Enabled, &Settings::default());
        let error = error.expect_err("it is no question").to_string();
        assert!(error.starts_with(wanted), "{body}: {error}");
    };
    check("", "the body is no JSON: ");
    check("{\"apiVersion\":", "the body is no JSON: ");
    check(&"[".repeat(100_000), "the body is no JSON: ");
    for odd in ["null", "[]", "1", "{}", "\"x\"", r#"{"apiVersion": 7}"#] {
        check(odd, "apiVersion: there is none");
    }
    check(
        r#"{"apiVersion":"admission.k8s.io/v1beta1"}"#,
        "apiVersion: \"admission.k8s.io/v1beta1\" is not",
    );
    check(r#"{"apiVersion":"admission.k8s.io/v1","request":null}"#, "request.uid: there is none");
    let without = |path: &str, field: &str| {
        let mut review = review();
        let object = review.pointer_mut(path).and_then(Value::as_object_mut);
        object.expect("it is there").remove(field);
        review.to_string()
    };
    check(&without("/request", "uid"), "request.uid: there is none");
    check(&without("/request", "kind"), "request.kind.kind: there is none");
    check(&without("/request", "object"), "request.object: a pod that is created has one");
    // Each part of the pod in turn is something else: refused or injected, never a panic.
    for path in [
        "",
        "/metadata",
        "/metadata/labels",
        "/metadata/annotations",
        "/spec",
        "/spec/containers",
        "/spec/containers/0",
    ] {
        for odd in [Value::Null, json!([]), json!({}), json!("x"), json!(7)] {
            let mut review = review();
            *review["request"]["object"].pointer_mut(path).expect("it is there") = odd;
            let _ = answer(review.to_string().as_bytes(), Switch::Enabled, &Settings::default());
        }
    }
}

#[test]
fn authorities_overlap_and_a_new_one_signs_only_when_everybody_knows_it() {
    let day = Duration::from_secs(24 * 3600);
    let start = Timestamp(1_900_000_000_000);
    let first = Authorities::default().renewed(start).expect("made").expect("due");
    assert_eq!(first.renewed(start.saturating_add(day * 29)).expect("made"), None);
    let later = start.saturating_add(day * 31);
    let second = first.renewed(later).expect("made").expect("due");
    assert_eq!(second.0.len(), 2);
    assert_eq!(second.signer(later), first.0.first(), "the old one, whom everybody trusts");
    assert_eq!(second.signer(later.saturating_add(Duration::from_secs(120))), second.0.first());
    assert_eq!(second.bundle().matches("BEGIN CERTIFICATE").count(), 2);
    let third = second.renewed(later.saturating_add(day * 31)).expect("made").expect("due");
    assert_eq!((third.0.len(), third.0.get(1)), (2, second.0.first()));
    // The cluster stood still: what has ended is not kept.
    let fresh = first.renewed(start.saturating_add(day * 100)).expect("made").expect("due");
    assert_eq!(fresh.0.len(), 1);
    // What is kept says no key when it is printed.
    assert!(!format!("{first:?}").contains("KEY"));
    let names = ["weft-webhook.weft-system.svc".to_owned()];
    let (chain, key) = first.0[0].issue(&names, start).expect("issued");
    server_config_outside(&chain, &key, None, &["h2"]).expect("it does for TLS");
}

#[test]
fn ordinary_sidecars_are_put_behind_the_application() {
    let settings = Settings { sidecar: SidecarKind::Ordinary, ..Settings::default() };
    let (told, _) =
        answer(REVIEW.as_bytes(), Switch::Enabled, &settings).expect("it is a question");
    let patch = told["response"]["patch"].as_str().expect("a text");
    let patch: Value =
        serde_json::from_slice(&STANDARD.decode(patch).expect("base64")).expect("JSON");
    let paths = patch.as_array().into_iter().flatten().map(|step| step["path"].as_str());
    assert!(paths.flatten().any(|path| path == "/spec/containers/-"));
}
