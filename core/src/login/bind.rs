//! Which rules take somebody, and what these come to.

use std::collections::BTreeSet;

use super::{NameTemplate, NameTemplateFault, Subject, Variables};
use crate::acl::{
    AuthConfig, BindType, BindingRule, BindingRuleId, Grants, Link, NodeIdentity, PolicyName,
    RoleName, ServiceIdentity, Template, TemplateVariables, TemplatedPolicy,
};
use crate::filter::{Filter, FilterError};
use crate::name::{Datacenter, NodeName, ServiceName};

/// States why a rule cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The name is no name.
    #[error("BindName {0}")]
    BindName(#[source] NameTemplateFault),
    /// What is filled into the template is no name.
    #[error("BindVars.Name {0}")]
    BindVariable(#[source] NameTemplateFault),
    /// The binding's type has no variables.
    #[error("BindVars: only a templated-policy has variables")]
    NoVariables,
    /// The selector is no expression.
    #[error("Selector: {0}")]
    Selector(#[source] FilterError),
    /// The selector looks at something that the method does not say.
    #[error("Selector: the auth method does not know {selector}; it knows {known}")]
    UnknownSelector {
        /// What it looks at.
        selector: String,
        /// What there is.
        known: String,
    },
    /// There is no such template, or its variables are not those that it has.
    #[error("BindName: {0}")]
    Template(String),
}

/// States that a rule took somebody and could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("binding rule {rule} computes {name:?}, which is not a name of a {bind_type}")]
pub struct BindFault {
    /// The rule.
    pub rule: BindingRuleId,
    /// What it comes to.
    pub name: String,
    /// What it was to be the name of.
    pub bind_type: BindType,
}

/// Checks a rule against what its method can say.
///
/// # Errors
/// [`RuleFault`], which names the field.
pub fn check_rule(rule: &BindingRule, config: &AuthConfig) -> Result<(), RuleFault> {
    let variables = Variables::of(config);
    if !rule.selector.is_empty() {
        let filter = Filter::parse(&rule.selector).map_err(RuleFault::Selector)?;
        let unknown = filter.selectors().into_iter().find(|it| !variables.selectors.contains(it));
        if let Some(selector) = unknown {
            let known: Vec<&str> = variables.selectors.iter().map(String::as_str).collect();
            return Err(RuleFault::UnknownSelector { selector, known: known.join(", ") });
        }
    }
    let parse = |text: &str| NameTemplate::parse(text, &variables);
    if rule.bind_type != BindType::TemplatedPolicy {
        if !rule.bind_variable.is_empty() {
            return Err(RuleFault::NoVariables);
        }
        return parse(&rule.bind_name).map(drop).map_err(RuleFault::BindName);
    }
    let template: Template = rule
        .bind_name
        .parse()
        .map_err(|error: crate::acl::UnknownTemplate| RuleFault::Template(error.to_string()))?;
    match (template.needs_name(), rule.bind_variable.is_empty()) {
        (true, true) => Err(RuleFault::Template(format!("{template} needs BindVars with a Name"))),
        (false, false) => Err(RuleFault::Template(format!("{template} has no variables"))),
        (false, true) => Ok(()),
        (true, false) => parse(&rule.bind_variable).map(drop).map_err(RuleFault::BindVariable),
    }
}

/// Puts together what the rules of a method grant to somebody. Nothing when none takes them.
///
/// Roles and policies that do not exist are left for the state to pass over: whether they do is
/// known only there.
///
/// # Errors
/// [`BindFault`] when a rule that takes them computes a text that is no name. Nobody is let in
/// with less than the rules say.
pub fn bind<'a>(
    rules: impl IntoIterator<Item = &'a BindingRule>,
    config: &AuthConfig,
    subject: &Subject,
    datacenter: &Datacenter,
) -> Result<Grants, BindFault> {
    let variables = Variables::of(config);
    let mut grants = Grants::default();
    let mut seen = BTreeSet::new();
    for rule in rules {
        if !takes(rule, subject) {
            continue;
        }
        let text = match rule.bind_type {
            BindType::TemplatedPolicy => &rule.bind_variable,
            _ => &rule.bind_name,
        };
        let name = if text.is_empty() {
            String::new()
        } else {
            let filled = NameTemplate::parse(text, &variables).ok();
            match filled.and_then(|template| template.fill(subject)) {
                Some(name) => name,
                None => return Err(fault(rule, text)),
            }
        };
        if seen.insert((rule.bind_type, rule.bind_name.as_str(), name.clone())) {
            add(&mut grants, rule, &name, datacenter).ok_or_else(|| fault(rule, &name))?;
        }
    }
    Ok(grants)
}

fn fault(rule: &BindingRule, name: &str) -> BindFault {
    BindFault { rule: rule.id.clone(), name: name.to_owned(), bind_type: rule.bind_type }
}

fn takes(rule: &BindingRule, subject: &Subject) -> bool {
    rule.selector.is_empty()
        || Filter::parse(&rule.selector).is_ok_and(|filter| filter.matches(subject.fields()))
}

fn add(grants: &mut Grants, rule: &BindingRule, name: &str, datacenter: &Datacenter) -> Option<()> {
    match rule.bind_type {
        BindType::Node => {
            let node_name = NodeName::parse(name).ok()?;
            let datacenter = datacenter.clone();
            grants.node_identities.push(NodeIdentity { node_name, datacenter });
        }
        BindType::Policy => grants.policies.push(Link::Name(PolicyName::parse(name).ok()?)),
        BindType::Role => grants.roles.push(Link::Name(RoleName::parse(name).ok()?)),
        BindType::Service => {
            let service_name = ServiceName::parse(name).ok()?;
            let identity = ServiceIdentity { service_name, datacenters: Vec::new() };
            grants.service_identities.push(identity);
        }
        BindType::TemplatedPolicy => {
            let template_name: Template = rule.bind_name.parse().ok()?;
            let is_name = ServiceName::parse(name).is_ok();
            if template_name.needs_name() && !is_name {
                return None;
            }
            let template_variables =
                template_name.needs_name().then(|| TemplateVariables { name: name.to_owned() });
            let datacenters = Vec::new();
            let policy = TemplatedPolicy { template_name, template_variables, datacenters };
            grants.templated_policies.push(policy);
        }
    }
    Some(())
}
