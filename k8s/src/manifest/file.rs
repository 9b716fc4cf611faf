//! A whole file: every pod in it injected, or told why not.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_proto::text::Fault;

use super::document::{Document, split};
use super::tree::{Misfit, Node};
use super::{kinds, read, write};
use crate::inject::{Settings, Switch, Verdict, Why, inject};

/// How a file is injected.
#[derive(Debug, Clone)]
pub struct Injection<'a> {
    /// What goes into pods.
    pub settings: &'a Settings,
    /// What counts for pods of namespaces that the file says nothing of.
    pub by_default: Switch,
    /// The namespace of objects that name none.
    pub namespace: &'a str,
}

/// What became of one object with a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its kind and name: `Deployment/web`.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It has a sidecar now; sentences for its owner.
    Injected(Vec<String>),
    /// It is as it was.
    LeftAlone(Why),
}

/// A file that was gone through.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The file: what was not changed, to the byte.
    pub yaml: String,
    /// The objects, as JSON, in their order.
    pub objects: Vec<Value>,
    /// What became of those with pods.
    pub reports: Vec<Report>,
}

/// Why a file is not injected. Nothing of it is, then.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// An object asks for what cannot be.
    #[error("{object}: {}", Fault::line(faults))]
    Refused {
        /// Its kind and name.
        object: String,
        /// What is wrong with it.
        faults: Vec<Fault>,
    },
    /// A change does not fit the tree of the document.
    #[error("{object}: {reason}")]
    Unfit {
        /// Its kind and name.
        object: String,
        /// Where.
        reason: String,
    },
    /// The text is no YAML.
    #[error("line {line}: {reason}")]
    Unreadable {
        /// The line in the file, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
}

/// Injects every pod of a file of YAML or JSON with any number of documents.
///
/// # Errors
/// [`ManifestError`]: the first fault of the file.
pub fn inject_file(text: &str, injection: &Injection<'_>) -> Result<Done, ManifestError> {
    let documents = split(text);
    let mut trees = Vec::with_capacity(documents.len());
    for document in &documents {
        trees.push(tree(*document)?);
    }
    let namespaces = namespaces(&mut trees, injection)?;
    let mut done = Done { yaml: String::new(), objects: Vec::new(), reports: Vec::new() };
    for (document, tree) in documents.into_iter().zip(&mut trees) {
        done.yaml.push_str(document.marker);
        let before = done.reports.len();
        if let Some(tree) = tree {
            kinds::each_object(tree, &mut |object| {
                done.reports.extend(treat(object, &namespaces, injection)?);
                Ok(())
            })?;
            done.objects.push(tree.to_json());
        }
        let is_changed = |report: &Report| matches!(report.outcome, Outcome::Injected(_));
        match tree {
            Some(tree) if done.reports[before..].iter().any(is_changed) => {
                if !document.marker.is_empty() && !document.marker.ends_with('\n') {
                    done.yaml.push('\n');
                }
                done.yaml.push_str(document.preface());
                done.yaml.push_str(&write::write(tree));
            }
            Some(_) | None => done.yaml.push_str(document.body),
        }
    }
    Ok(done)
}

fn tree(document: Document<'_>) -> Result<Option<Node>, ManifestError> {
    let Some(content) = document.content() else { return Ok(None) };
    read::read(content).map_err(|error| ManifestError::Unreadable {
        line: error.line + document.lines_before,
        reason: error.reason,
    })
}

/// What the namespaces that stand in the file say.
fn namespaces(
    trees: &mut [Option<Node>],
    injection: &Injection<'_>,
) -> Result<BTreeMap<String, Switch>, ManifestError> {
    let mut found = BTreeMap::new();
    for tree in trees.iter_mut().flatten() {
        kinds::each_object(tree, &mut |object| {
            if kinds::text(object, &["kind"]) != Some("Namespace") {
                return Ok(());
            }
            let metadata = object.get("metadata").map(Node::to_json).unwrap_or_default();
            let switch =
                Switch::of_namespace(&metadata, injection.settings.foreign).map_err(|fault| {
                    ManifestError::Refused { object: title(object), faults: vec![fault] }
                })?;
            let name = metadata["name"].as_str().unwrap_or_default().to_owned();
            found.insert(name, switch);
            Ok(())
        })?;
    }
    Ok(found)
}

fn treat(
    object: &mut Node,
    namespaces: &BTreeMap<String, Switch>,
    injection: &Injection<'_>,
) -> Result<Option<Report>, ManifestError> {
    let path = kinds::text(object, &["kind"]).and_then(kinds::pod_path);
    let Some(path) = path else { return Ok(None) };
    let title = title(object);
    let namespace = kinds::text(object, &["metadata", "namespace"]);
    let namespace = namespace.unwrap_or(injection.namespace);
    let said = namespaces.get(namespace).copied().unwrap_or(Switch::Unsaid);
    let switch = if said == Switch::Unsaid { injection.by_default } else { said };
    let mut pod = &mut *object;
    for key in path {
        let Some(inner) = pod.get_mut(key) else {
            let faults = vec![Fault::new(path.join("."), "there is no template of pods")];
            return Err(ManifestError::Refused { object: title, faults });
        };
        pod = inner;
    }
    let verdict = inject(&pod.to_json(), switch, injection.settings)
        .map_err(|faults| ManifestError::Refused { object: title.clone(), faults })?;
    let outcome = match verdict {
        Verdict::LeftAlone(why) => Outcome::LeftAlone(why),
        Verdict::Injected(injected) => {
            let unfit = |error: Misfit| ManifestError::Unfit {
                object: title.clone(),
                reason: error.to_string(),
            };
            for operation in &injected.patch.operations {
                pod.apply(operation).map_err(unfit)?;
            }
            Outcome::Injected(injected.warnings)
        }
    };
    Ok(Some(Report { object: title, outcome }))
}

fn title(object: &Node) -> String {
    let part = |path: &[&str]| kinds::text(object, path).unwrap_or("?").to_owned();
    format!("{}/{}", part(&["kind"]), part(&["metadata", "name"]))
}
