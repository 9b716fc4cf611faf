//! The objects that put Weft into a cluster, as one file of manifests.

mod webhooks;

use crate::inject::Settings;

/// What is the same for every installation; `@NAME@` stands for what is not.
const OBJECTS: &str = include_str!("objects.yaml");

/// What an installation is told.
#[derive(Debug, Clone)]
pub struct Installation<'a> {
    /// The namespace of servers and webhook.
    pub namespace: &'a str,
    /// The datacenter's name.
    pub datacenter: &'a str,
    /// The size of the servers' volume, as Kubernetes writes quantities.
    pub storage: &'a str,
    /// What goes into pods.
    pub settings: &'a Settings,
    /// Flags of the webhook, each with its value, that say the same as `settings`.
    pub flags: Vec<String>,
}

/// Writes the manifests.
pub fn manifests(installation: &Installation<'_>) -> String {
    let Installation { namespace, datacenter, storage, settings, flags } = installation;
    let flags: String = flags.iter().map(|flag| format!("        - {}\n", quoted(flag))).collect();
    OBJECTS
        .replace("        - \"@FLAGS@\"\n", &flags)
        .replace("@NAMESPACE@", namespace)
        .replace("@DATACENTER@", datacenter)
        .replace("@STORAGE@", storage)
        .replace("@IMAGE@", &settings.image)
        + &webhooks::configuration(namespace, settings.foreign)
}

/// A text in YAML; JSON's form of texts is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::{Foreign, Switch};
    use crate::manifest::{Injection, inject_file};

    fn printed(foreign: Foreign) -> Vec<serde_json::Value> {
        let settings = Settings { foreign, ..Settings::default() };
        let installation = Installation {
            namespace: "weft-system",
            datacenter: "dc1",
            storage: "1Gi",
            settings: &settings,
            flags: vec!["--image=weft:latest".to_owned()],
        };
        let text = manifests(&installation);
        assert!(!text.contains('@'), "{text}");
        let injection =
            Injection { settings: &settings, by_default: Switch::Unsaid, namespace: "default" };
        let done = inject_file(&text, &injection).expect("it is YAML");
        // The mesh's own pods are never injected.
        assert_eq!(done.yaml, text);
        done.objects
    }

    #[test]
    fn every_object_stands_in_the_namespace_and_the_webhook_spares_it() {
        let objects = printed(Foreign::default());
        assert_eq!(objects[0]["kind"], "Namespace");
        for object in &objects[1..] {
            let kind = object["kind"].as_str().unwrap_or_default();
            let is_global = kind.starts_with("Cluster") || kind == "MutatingWebhookConfiguration";
            let namespace = &object["metadata"]["namespace"];
            assert_eq!(namespace.is_null(), is_global, "{object}");
        }
        let configuration = objects.last().expect("there are objects");
        let webhooks = configuration["webhooks"].as_array().expect("a list");
        assert_eq!(webhooks.len(), 2);
        for webhook in webhooks {
            assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
            assert_eq!(webhook["sideEffects"], "None");
            let spared = webhook["namespaceSelector"]["matchExpressions"].to_string();
            assert!(spared.contains("kube-system") && spared.contains("weft-system"), "{spared}");
        }
    }

    #[test]
    fn marks_of_other_meshes_have_webhooks_of_their_own() {
        let names = |foreign| -> Vec<String> {
            let objects = printed(foreign);
            let webhooks = objects.last().expect("there are objects")["webhooks"].clone();
            let names = webhooks.as_array().into_iter().flatten();
            names.map(|webhook| webhook["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let istio = Foreign { istio: true, ..Foreign::default() };
        assert_eq!(names(istio).len(), 4);
        let consul = Foreign { consul: true, ..Foreign::default() };
        assert_eq!(names(consul)[2], "annotated.inject.weft.dev");
    }
}
