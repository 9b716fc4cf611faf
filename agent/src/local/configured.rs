//! What stands in the agent's files: registered at the start and at each reload, deregistered
//! when it is gone from them, and never in the way of what is right.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::catalog::{CheckDefinition, ServiceDefinition};
use weft_core::name::{CheckId, InstanceId};
use weft_proto::text::Fault;

use super::kept::Disk;
use super::{ExistingChecks, Inner, Local, LocalError, sidecar};

/// A definition and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// In words that lead to it: `web.hcl: services[0]`.
    pub place: String,
    /// The definition.
    pub definition: T,
}

/// All definitions of the agent's files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Definitions {
    /// Services, with their checks and sidecars.
    pub services: Vec<Placed<ServiceDefinition>>,
    /// Checks of the node, or of services that stand elsewhere.
    pub checks: Vec<Placed<CheckDefinition>>,
    /// What could not be read, by file and field.
    pub faults: Vec<Fault>,
}

/// The ids that stood in files before.
struct Before {
    services: BTreeSet<InstanceId>,
    checks: BTreeSet<CheckId>,
}

impl Local {
    /// Registers what stands in the agent's files, and deregisters what stood there before and
    /// is gone.
    ///
    /// A definition that is wrong is told and changes nothing: what was registered by its id
    /// stays. As long as something cannot be read, nothing counts as gone.
    ///
    /// **Shape**: the faults, by place and field, with those of [`Definitions::faults`].
    ///
    /// # Errors
    /// [`LocalError`] when the registrations cannot be kept, or the agent shuts down.
    pub async fn register_configured(
        &self,
        definitions: Definitions,
    ) -> Result<Vec<Fault>, LocalError> {
        let (tell, told) = std::sync::mpsc::channel();
        self.change(move |inner, disk| {
            let faults = inner.configure(disk, definitions)?;
            // The caller may have gone; the change counts all the same.
            let _ = tell.send(faults);
            Ok(())
        })
        .await?;
        Ok(told.try_recv().unwrap_or_default())
    }
}

impl Inner {
    fn configure(
        &self,
        disk: &mut Disk,
        definitions: Definitions,
    ) -> Result<Vec<Fault>, LocalError> {
        let Definitions { services, checks, mut faults } = definitions;
        let before = {
            let mut book = self.book.lock();
            Before {
                services: std::mem::take(&mut book.configured),
                checks: std::mem::take(&mut book.configured_checks),
            }
        };
        let is_whole = faults.is_empty();
        let mut ids = BTreeMap::new();
        for Placed { place, definition } in services {
            let id = if definition.id.is_empty() { &definition.name } else { &definition.id };
            let id = id.clone();
            if let Some(other) = ids.get(&id) {
                faults.push(Fault::new(place, format!("{id:?} is also defined in {other}")));
                continue;
            }
            let entered = self.register(disk, &definition, ExistingChecks::Replaced, true);
            if refused(entered, &place, &mut faults)? {
                let sidecar = InstanceId::parse(&id).map(|id| sidecar::id_of(&id));
                let stay = [Some(id.clone()), sidecar.ok()].into_iter().flatten();
                let stay = stay.filter_map(|id| before.services.get(id.as_str()).cloned());
                self.book.lock().configured.extend(stay);
            }
            ids.insert(id, place);
        }
        for Placed { place, definition } in checks {
            let id = match definition.check_id.as_str() {
                "" => definition.name.clone(),
                id => id.to_owned(),
            };
            if refused(self.register_check(disk, definition, true), &place, &mut faults)?
                && let Some(id) = before.checks.get(id.as_str())
            {
                self.book.lock().configured_checks.insert(id.clone());
            }
        }
        match is_whole {
            true => self.retire(disk, before)?,
            false => {
                let mut book = self.book.lock();
                book.configured.extend(before.services);
                book.configured_checks.extend(before.checks);
            }
        }
        Ok(faults)
    }

    /// Deregisters what stood in files before and does no more.
    fn retire(&self, disk: &mut Disk, before: Before) -> Result<(), LocalError> {
        for id in before.services {
            let book = self.book.lock();
            let is_gone =
                !book.configured.contains(&id) && book.services.services.contains_key(&id);
            drop(book);
            if is_gone {
                self.deregister(disk, id.as_str())?;
            }
        }
        for id in before.checks {
            let book = self.book.lock();
            let is_gone =
                !book.configured_checks.contains(&id) && book.services.checks.contains_key(&id);
            drop(book);
            if is_gone {
                self.deregister_check(disk, id.as_str())?;
            }
        }
        Ok(())
    }
}

/// Tells whether a definition was refused, and adds why; what went wrong otherwise ends it all.
fn refused(
    entered: Result<(), LocalError>,
    place: &str,
    faults: &mut Vec<Fault>,
) -> Result<bool, LocalError> {
    match entered {
        Ok(()) => Ok(false),
        Err(LocalError::Refused(found)) => {
            faults.extend(found.into_iter().map(|fault| Fault::new(place, fault.to_string())));
            Ok(true)
        }
        Err(error @ (LocalError::UnknownService(_) | LocalError::UnknownCheck(_))) => {
            faults.push(Fault::new(place, error.to_string()));
            Ok(true)
        }
        Err(error @ (LocalError::Stopped(_) | LocalError::Unkept { .. })) => Err(error),
    }
}
