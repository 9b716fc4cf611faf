//! One question of the API server and its answer.
//!
//! **Source**: Kubernetes: admission.k8s.io/v1 AdmissionReview.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weft_proto::text::Fault;

use crate::inject::{Settings, Switch, Verdict, inject};

/// The only form of questions and answers.
const API_VERSION: &str = "admission.k8s.io/v1";
/// The most bytes of a warning: the API server cuts longer ones.
const WARNING_BYTES_MAX: usize = 256;
/// The most warnings: the API server takes 4096 bytes of them.
const WARNINGS_MAX: usize = 8;

/// What came of a question, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The pod gets a sidecar.
    Injected,
    /// The pod stays as it is.
    LeftAlone,
    /// The question was none.
    Malformed,
    /// The pod asks for what cannot be.
    Refused,
}

impl Outcome {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::LeftAlone => "left_alone",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is no JSON.
    #[error("the body is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Something is missing or another kind of thing.
    #[error("{0}: {1}")]
    Field(&'static str, String),
}

/// Answers a question. Changes nothing anywhere, so a dry run is answered as any other.
///
/// # Errors
/// [`Malformed`] for what is no question: there is nothing to answer then.
pub fn answer(
    body: &[u8],
    namespace: Switch,
    settings: &Settings,
) -> Result<(Value, Outcome), Malformed> {
    let review: Value = serde_json::from_slice(body)?;
    let text = |field: &'static str, value: &Value| {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| Malformed::Field(field, "there is none".to_owned()))
    };
    let version = text("apiVersion", &review["apiVersion"])?;
    if version != API_VERSION {
        let reason = format!("{version:?} is not {API_VERSION:?}, the only one that is answered");
        return Err(Malformed::Field("apiVersion", reason));
    }
    let request = &review["request"];
    let uid = text("request.uid", &request["uid"])?;
    let kind = text("request.kind.kind", &request["kind"]["kind"])?;
    if kind != "Pod" || request["operation"].as_str() != Some("CREATE") {
        // Somebody has widened the rules; only new pods can get a sidecar.
        return Ok((response(json!({ "uid": uid, "allowed": true })), Outcome::LeftAlone));
    }
    let pod = &request["object"];
    if !pod.is_object() {
        let reason = "a pod that is created has one".to_owned();
        return Err(Malformed::Field("request.object", reason));
    }
    let (mut told, outcome) = judge(pod, namespace, settings);
    told["uid"] = uid.into();
    Ok((response(told), outcome))
}

fn judge(pod: &Value, namespace: Switch, settings: &Settings) -> (Value, Outcome) {
    let verdict = match inject(pod, namespace, settings) {
        Ok(verdict) => verdict,
        Err(faults) => {
            let message = format!("weft: {}", Fault::line(&faults));
            let status = json!({ "code": 422, "reason": "Invalid", "message": message });
            return (json!({ "allowed": false, "status": status }), Outcome::Refused);
        }
    };
    match verdict {
        Verdict::LeftAlone(why) => {
            let mut told = json!({ "allowed": true });
            if why.is_surprising() {
                told["warnings"] = warnings(&[format!("weft: no sidecar: {why}")]);
            }
            (told, Outcome::LeftAlone)
        }
        Verdict::Injected(injected) => {
            let patch = serde_json::to_vec(&injected.patch)
                .expect("a patch has only texts as keys, so it is JSON");
            let mut told = json!({
                "allowed": true,
                "patchType": "JSONPatch",
                "patch": STANDARD.encode(patch),
            });
            if !injected.warnings.is_empty() {
                told["warnings"] = warnings(&injected.warnings);
            }
            (told, Outcome::Injected)
        }
    }
}

fn response(response: Value) -> Value {
    json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response })
}

fn warnings(sentences: &[String]) -> Value {
    let cut = |sentence: &String| {
        let mut end = sentence.len().min(WARNING_BYTES_MAX);
        while !sentence.is_char_boundary(end) {
            end -= 1;
        }
        Value::from(&sentence[..end])
    };
    Value::Array(sentences.iter().take(WARNINGS_MAX).map(cut).collect())
}
