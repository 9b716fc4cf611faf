//! Which fields a filter may name, by record, and what can be asked of each.

use super::evaluate::{number, truth};
use super::{Absent, Condition, Expression, FilterError, Test};

/// The fields of a record.
///
/// **Shape**: each path is the way through the record's JSON, with `*` for any key of a map.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// What the record is called in messages.
    pub record: &'static str,
    /// The fields.
    pub fields: &'static [(&'static str, FieldKind)],
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// True or false.
    Bool,
    /// Several values.
    List,
    /// Values by key.
    Map,
    /// A number.
    Number,
    /// A text.
    Text,
}

use FieldKind::{Bool, List, Map, Number, Text};

/// A node, as `/v1/catalog/nodes` lists it.
pub const NODE: Schema = Schema {
    record: "a node",
    fields: &[
        ("Address", Text),
        ("Datacenter", Text),
        ("ID", Text),
        ("Meta", Map),
        ("Meta.*", Text),
        ("Node", Text),
        ("TaggedAddresses", Map),
        ("TaggedAddresses.*", Text),
    ],
};

/// A node with what is on it, as `/v1/internal/ui/nodes` lists it.
pub const NODE_DUMP: Schema = Schema {
    record: "a node",
    fields: &[
        ("Address", Text),
        ("Checks", List),
        ("Datacenter", Text),
        ("ID", Text),
        ("Meta", Map),
        ("Meta.*", Text),
        ("Node", Text),
        ("Services", List),
        ("TaggedAddresses", Map),
        ("TaggedAddresses.*", Text),
    ],
};

/// A service with its numbers, as `/v1/internal/ui/services` lists it.
pub const SERVICE_SUMMARY: Schema = Schema {
    record: "a service",
    fields: &[
        ("ChecksCritical", Number),
        ("ChecksPassing", Number),
        ("ChecksWarning", Number),
        ("ConnectNative", Bool),
        ("ConnectedWithGateway", Bool),
        ("ConnectedWithProxy", Bool),
        ("Datacenter", Text),
        ("ExternalSources", List),
        ("InstanceCount", Number),
        ("Kind", Text),
        ("Name", Text),
        ("Tags", List),
    ],
};

/// An instance with its node's fields, as `/v1/catalog/service/:name` lists it.
pub const CATALOG_SERVICE: Schema = Schema {
    record: "a service",
    fields: &[
        ("Address", Text),
        ("Datacenter", Text),
        ("ID", Text),
        ("Node", Text),
        ("NodeMeta", Map),
        ("NodeMeta.*", Text),
        ("ServiceAddress", Text),
        ("ServiceConnect.Native", Bool),
        ("ServiceEnableTagOverride", Bool),
        ("ServiceID", Text),
        ("ServiceKind", Text),
        ("ServiceMeta", Map),
        ("ServiceMeta.*", Text),
        ("ServiceName", Text),
        ("ServicePort", Number),
        ("ServiceProxy.DestinationServiceID", Text),
        ("ServiceProxy.DestinationServiceName", Text),
        ("ServiceProxy.LocalServiceAddress", Text),
        ("ServiceProxy.LocalServicePort", Number),
        ("ServiceProxy.Upstreams", List),
        ("ServiceTaggedAddresses", Map),
        ("ServiceTaggedAddresses.*.Address", Text),
        ("ServiceTaggedAddresses.*.Port", Number),
        ("ServiceTags", List),
        ("ServiceWeights.Passing", Number),
        ("ServiceWeights.Warning", Number),
        ("TaggedAddresses", Map),
        ("TaggedAddresses.*", Text),
    ],
};

/// An intention, as `/v1/connect/intentions` lists it.
pub const INTENTION: Schema = Schema {
    record: "an intention",
    fields: &[
        ("Action", Text),
        ("Description", Text),
        ("DestinationNS", Text),
        ("DestinationName", Text),
        ("ID", Text),
        ("Meta", Map),
        ("Meta.*", Text),
        ("Precedence", Number),
        ("SourceNS", Text),
        ("SourceName", Text),
        ("SourceType", Text),
    ],
};

/// A service instance alone, as `/v1/agent/services` lists it.
pub const SERVICE: Schema = Schema {
    record: "a service",
    fields: &[
        ("Address", Text),
        ("Connect.Native", Bool),
        ("EnableTagOverride", Bool),
        ("ID", Text),
        ("Kind", Text),
        ("Locality.Region", Text),
        ("Locality.Zone", Text),
        ("Meta", Map),
        ("Meta.*", Text),
        ("Port", Number),
        ("Proxy.DestinationServiceID", Text),
        ("Proxy.DestinationServiceName", Text),
        ("Proxy.LocalServiceAddress", Text),
        ("Proxy.LocalServicePort", Number),
        ("Proxy.Upstreams", List),
        ("Service", Text),
        ("TaggedAddresses", Map),
        ("TaggedAddresses.*.Address", Text),
        ("TaggedAddresses.*.Port", Number),
        ("Tags", List),
        ("Weights.Passing", Number),
        ("Weights.Warning", Number),
    ],
};

/// A member, as `/v1/agent/members` lists it.
pub const MEMBER: Schema = Schema {
    record: "a member",
    fields: &[
        ("Addr", Text),
        ("Name", Text),
        ("Port", Number),
        ("Status", Number),
        ("Tags", Map),
        ("Tags.*", Text),
    ],
};

/// A check, as `/v1/health/checks/:service` lists it.
pub const CHECK: Schema = Schema {
    record: "a check",
    fields: &[
        ("CheckID", Text),
        ("Interval", Text),
        ("Name", Text),
        ("Node", Text),
        ("Notes", Text),
        ("Output", Text),
        ("ServiceID", Text),
        ("ServiceName", Text),
        ("ServiceTags", List),
        ("Status", Text),
        ("Timeout", Text),
        ("Type", Text),
    ],
};

/// An instance with its node and checks, as `/v1/health/service/:name` lists it and as subsets
/// choose it.
pub const SERVICE_INSTANCE: Schema = Schema {
    record: "a service instance",
    fields: &[
        ("Checks", List),
        ("Node.Address", Text),
        ("Node.Datacenter", Text),
        ("Node.ID", Text),
        ("Node.Meta", Map),
        ("Node.Meta.*", Text),
        ("Node.Node", Text),
        ("Node.TaggedAddresses", Map),
        ("Node.TaggedAddresses.*", Text),
        ("Service.Address", Text),
        ("Service.Connect.Native", Bool),
        ("Service.EnableTagOverride", Bool),
        ("Service.ID", Text),
        ("Service.Kind", Text),
        ("Service.Locality.Region", Text),
        ("Service.Locality.Zone", Text),
        ("Service.Meta", Map),
        ("Service.Meta.*", Text),
        ("Service.Port", Number),
        ("Service.Proxy.DestinationServiceID", Text),
        ("Service.Proxy.DestinationServiceName", Text),
        ("Service.Proxy.LocalServiceAddress", Text),
        ("Service.Proxy.LocalServicePort", Number),
        ("Service.Proxy.Upstreams", List),
        ("Service.Service", Text),
        ("Service.TaggedAddresses", Map),
        ("Service.TaggedAddresses.*.Address", Text),
        ("Service.TaggedAddresses.*.Port", Number),
        ("Service.Tags", List),
        ("Service.Weights.Passing", Number),
        ("Service.Weights.Warning", Number),
    ],
};

impl Schema {
    /// Finds the field that a selector names.
    fn find(&self, selector: &[String]) -> Option<(&'static str, FieldKind)> {
        self.fields.iter().copied().find(|(path, _)| {
            let mut steps = path.split('.');
            let all = selector
                .iter()
                .all(|have| steps.next().is_some_and(|want| want == "*" || want == have));
            all && steps.next().is_none()
        })
    }
}

impl Expression {
    pub(super) fn check(&mut self, schema: &Schema) -> Result<(), FilterError> {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().try_for_each(|part| part.check(schema))
            }
            Self::Condition(condition) => condition.check(schema),
            Self::Not(inner) => inner.check(schema),
        }
    }
}

impl Condition {
    fn check(&mut self, schema: &Schema) -> Result<(), FilterError> {
        let name = self.selector.join(".");
        let error = |reason: String| Err(FilterError::new(self.column, reason));
        let Some((path, kind)) = schema.find(&self.selector) else {
            let record = schema.record;
            return error(match self.near(schema) {
                Some(near) => format!("{record} has no field {name}; did you mean {near}?"),
                None => format!("{record} has no field {name}"),
            });
        };
        match (kind, &self.test) {
            (Text, _)
            | (List | Map, Test::Contains(_) | Test::Empty)
            | (Number | Bool, Test::Equals(_)) => {}
            (List | Map, Test::Equals(_) | Test::Matches(_)) => {
                return error(format!("{name} has many values; write `in` or `is empty`"));
            }
            (Number | Bool, Test::Contains(_) | Test::Empty | Test::Matches(_)) => {
                return error(format!("{name} has a single value; write == or !="));
            }
        }
        if let Test::Equals(wanted) = &self.test {
            if kind == Number && number(wanted).is_none() {
                return error(format!("{name} is a number, which {wanted:?} is not"));
            }
            if kind == Bool && truth(wanted).is_none() {
                return error(format!("{name} is true or false, not {wanted:?}"));
            }
        }
        self.absent = if path.ends_with('*') { Absent::Nothing } else { Absent::Empty(kind) };
        Ok(())
    }

    /// Returns the field that was meant if only its case is wrong.
    fn near(&self, schema: &Schema) -> Option<&'static str> {
        let name = self.selector.join(".");
        schema.fields.iter().map(|(path, _)| *path).find(|path| path.eq_ignore_ascii_case(&name))
    }
}
