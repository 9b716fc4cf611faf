//! A pod as far as injection looks into it; what is missing or of another kind reads as absent.

use serde_json::Value;

/// A pod, or the template of pods of a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod<'a>(pub(super) &'a Value);

/// One container and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Container<'a> {
    /// A JSON pointer into the pod.
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Pod<'a> {
    pub(super) fn metadata(self) -> &'a Value {
        &self.0["metadata"]
    }

    pub(super) fn spec(self) -> &'a Value {
        &self.0["spec"]
    }

    pub(super) fn label(self, key: &str) -> Option<&'a str> {
        self.metadata()["labels"].get(key)?.as_str()
    }

    /// The containers of the application.
    pub(super) fn containers(self) -> Vec<Container<'a>> {
        self.listed("containers")
    }

    pub(super) fn init_containers(self) -> Vec<Container<'a>> {
        self.listed("initContainers")
    }

    fn listed(self, list: &str) -> Vec<Container<'a>> {
        let containers = self.spec()[list].as_array().into_iter().flatten().enumerate();
        containers
            .map(|(at, value)| Container { path: format!("/spec/{list}/{at}"), value })
            .collect()
    }

    /// The first port that the application declares.
    pub(super) fn first_port(self) -> Option<u16> {
        let containers = self.containers();
        containers.iter().find_map(|container| container.ports().next().map(|(_, port)| port))
    }

    /// The port of this name, in any container.
    pub(super) fn port_named(self, name: &str) -> Option<u16> {
        let containers = self.containers();
        containers.iter().find_map(|container| container.port_named(name))
    }
}

impl<'a> Container<'a> {
    pub(super) fn name(&self) -> &'a str {
        self.value["name"].as_str().unwrap_or_default()
    }

    /// The declared ports that TCP uses, with their names.
    fn ports(&self) -> impl Iterator<Item = (&'a str, u16)> + use<'a> {
        let ports = self.value["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| {
            let is_tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
            let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
            is_tcp.then_some((port["name"].as_str().unwrap_or_default(), number))
        })
    }

    pub(super) fn port_named(&self, name: &str) -> Option<u16> {
        self.ports().find(|(own, _)| *own == name).map(|(_, port)| port)
    }

    /// The user it runs as, its own or the pod's.
    pub(super) fn user(&self, pod: Pod<'_>) -> Option<u64> {
        let own = &self.value["securityContext"]["runAsUser"];
        own.as_u64().or_else(|| pod.spec()["securityContext"]["runAsUser"].as_u64())
    }
}
