//! What a caller must be allowed, and the words in which it is refused.

use super::{Access, AccessorId, Resource};

/// Something that a token may or may not do.
///
/// `on` is the name of the thing, empty for resources that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission<'a> {
    /// What it is about.
    pub resource: Resource,
    /// How much is asked.
    pub access: Access,
    /// Which one.
    pub on: Breadth<'a>,
}

/// On how many things a permission is asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breadth<'a> {
    /// Everything whose name starts so: every rule below must grant it too.
    Below(&'a str),
    /// At least one thing, whichever.
    Some,
    /// The one of this name; empty for the cluster as a whole.
    This(&'a str),
}

impl<'a> Permission<'a> {
    /// Asks to read one thing; `on` is empty for the cluster as a whole.
    pub fn read(resource: Resource, on: &'a str) -> Self {
        Self { resource, access: Access::Read, on: Breadth::This(on) }
    }

    /// Asks to write one thing; `on` is empty for the cluster as a whole.
    pub fn write(resource: Resource, on: &'a str) -> Self {
        Self { resource, access: Access::Write, on: Breadth::This(on) }
    }

    /// Asks to list the keys below a prefix.
    pub fn list_keys(prefix: &'a str) -> Self {
        Self { resource: Resource::Key, access: Access::List, on: Breadth::This(prefix) }
    }

    /// Asks to write everything whose name starts so.
    pub fn write_below(resource: Resource, prefix: &'a str) -> Self {
        Self { resource, access: Access::Write, on: Breadth::Below(prefix) }
    }

    /// Asks to read everything there is of a resource.
    pub fn read_all(resource: Resource) -> Self {
        Self { resource, access: Access::Read, on: Breadth::Below("") }
    }

    /// Asks to write at least one thing of a resource.
    pub fn write_some(resource: Resource) -> Self {
        Self { resource, access: Access::Write, on: Breadth::Some }
    }

    /// Asks to save or restore the whole state: who holds a snapshot holds every secret's digest
    /// and may put tokens of its own into what is restored.
    ///
    /// **Source**: Consul: api-docs/snapshot: `acl:write`.
    pub fn snapshot() -> Self {
        Self::write(Resource::Acl, "")
    }

    /// Says who lacks this.
    pub fn denied_to(&self, accessor: Option<&AccessorId>) -> Denial {
        let on = match self.on {
            Breadth::Below(name) | Breadth::This(name) => name,
            Breadth::Some => "",
        };
        Denial {
            accessor: accessor.cloned(),
            resource: self.resource,
            access: self.access,
            on: on.chars().take(SHOWN_CHARS_MAX).collect(),
        }
    }
}

/// Characters of a name that a denial repeats: the longest service or node name.
const SHOWN_CHARS_MAX: usize = 128;

/// States that a token may not do something: who, what, on which thing.
///
/// **Source**: Consul: docs/troubleshoot/common-errors; clients look for `Permission denied`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Denial {
    /// The token; `None` when the caller is not known by one.
    pub accessor: Option<AccessorId>,
    /// What it is about.
    pub resource: Resource,
    /// How much was asked.
    pub access: Access,
    /// Which one; may be empty.
    pub on: String,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accessor, resource, access, on } = self;
        let is_anonymous = accessor.as_ref().is_some_and(|it| *it == AccessorId::anonymous());
        match accessor {
            _ if is_anonymous => f.write_str("Permission denied: anonymous token")?,
            None => f.write_str("Permission denied: provided token")?,
            Some(accessor) => {
                write!(f, "Permission denied: token with AccessorID '{accessor}'")?;
            }
        }
        write!(f, " lacks permission '{resource}:{access}'")?;
        if !on.is_empty() {
            write!(f, " on {on:?}")?;
        }
        if is_anonymous {
            f.write_str(
                ". The anonymous token is used implicitly when a request does not specify a token.",
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Denial {}
