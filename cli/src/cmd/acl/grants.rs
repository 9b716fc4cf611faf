//! What tokens and roles grant, as flags.

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use super::each;

/// Flags that name what is granted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grants")]
pub(super) struct GrantArgs {
    /// A policy, by its id; repeatable
    #[arg(long, value_name = "ID")]
    policy_id: Vec<String>,
    /// A policy, by its name; repeatable
    #[arg(long, value_name = "NAME")]
    policy_name: Vec<String>,
    /// What a service and its sidecar need; repeatable
    #[arg(long, value_name = "SERVICE[:DC,…]")]
    service_identity: Vec<String>,
    /// What an agent needs; repeatable
    #[arg(long, value_name = "NODE:DC")]
    node_identity: Vec<String>,
    /// A templated policy, such as builtin/dns; repeatable, each with the --var after it
    #[arg(long, value_name = "TEMPLATE")]
    templated_policy: Vec<String>,
    /// What is filled into the templated policies
    #[arg(long, value_name = "name:VALUE")]
    var: Vec<String>,
}

impl GrantArgs {
    /// Adds what the flags name to a body.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> anyhow::Result<()> {
        let mut add = |field: &str, items: Vec<Value>| {
            if items.is_empty() {
                return;
            }
            let present = body.entry(field).or_insert_with(|| json!([]));
            if let Value::Array(present) = present {
                present.extend(
                    items.into_iter().filter(|it| !present.contains(it)).collect::<Vec<_>>(),
                );
            }
        };
        let ids = self.policy_id.iter().map(|id| json!({ "ID": id }));
        let names = self.policy_name.iter().map(|name| json!({ "Name": name }));
        add("Policies", ids.chain(names).collect());
        let services = self.service_identity.iter().map(|text| match text.split_once(':') {
            Some((name, datacenters)) => json!({
                "ServiceName": name,
                "Datacenters": datacenters.split(',').collect::<Vec<_>>(),
            }),
            None => json!({ "ServiceName": text }),
        });
        add("ServiceIdentities", services.collect());
        let mut nodes = Vec::new();
        for text in &self.node_identity {
            let Some((name, datacenter)) = text.split_once(':') else {
                bail!("--node-identity {text:?}: write NODE:DATACENTER");
            };
            nodes.push(json!({ "NodeName": name, "Datacenter": datacenter }));
        }
        add("NodeIdentities", nodes);
        add("TemplatedPolicies", self.templates()?);
        Ok(())
    }

    /// Whether any flag was given.
    pub(super) fn is_empty(&self) -> bool {
        [
            &self.policy_id,
            &self.policy_name,
            &self.service_identity,
            &self.node_identity,
            &self.templated_policy,
        ]
        .into_iter()
        .all(Vec::is_empty)
    }

    fn templates(&self) -> anyhow::Result<Vec<Value>> {
        let mut name = None;
        for var in &self.var {
            match var.split_once(':') {
                Some(("name", value)) => name = Some(value),
                _ => bail!("--var {var:?}: write name:VALUE, the one variable that there is"),
            }
        }
        let template = |text: &String| match name {
            Some(name) => json!({ "TemplateName": text, "TemplateVariables": { "Name": name } }),
            None => json!({ "TemplateName": text }),
        };
        Ok(self.templated_policy.iter().map(template).collect())
    }
}

/// Shows what a token or role grants, a line each.
pub(super) fn show(record: &Value) -> Vec<(&'static str, String)> {
    let mut shown = Vec::new();
    let mut add = |title, items: Vec<String>| {
        if !items.is_empty() {
            shown.push((title, items.join(", ")));
        }
    };
    let linked = |field: &str| {
        let (ids, names) = (each(&record[field], "ID"), each(&record[field], "Name"));
        ids.into_iter().zip(names).map(|(id, name)| format!("{name} ({id})")).collect()
    };
    add("Policies", linked("Policies"));
    add("Roles", linked("Roles"));
    add("Service Identities", each(&record["ServiceIdentities"], "ServiceName"));
    add("Node Identities", each(&record["NodeIdentities"], "NodeName"));
    let templates = record["TemplatedPolicies"].as_array().into_iter().flatten();
    let templates = templates.map(|it| {
        let name = it["TemplateVariables"]["Name"].as_str().unwrap_or_default();
        let template = it["TemplateName"].as_str().unwrap_or_default();
        if name.is_empty() { template.to_owned() } else { format!("{template} ({name})") }
    });
    add("Templated Policies", templates.collect());
    shown
}

/// Shows what a token or role grants on one line, for lists.
pub(super) fn on_one_line(record: &Value) -> String {
    let grants: Vec<String> = show(record).into_iter().map(|(_, it)| it).collect();
    grants.join("; ")
}
