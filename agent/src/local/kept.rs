//! What of the registrations is on disk, and how a restart makes the book from it.
//!
//! Checks are written before the service that they belong to and removed after it: a crash in
//! between leaves checks without a service, which the next start drops, and never a service
//! without its checks.

use std::io;

use serde::{Deserialize, Serialize};
use tracing::{error, warn};
use weft_core::catalog::{CheckDefinition, Service, ServiceDefinition};
use weft_core::name::{CheckId, InstanceId};
use weft_proto::text::Fault;

use super::book::{Book, ExistingChecks};
use super::check_plan::CheckPlan;
use super::definition::{self, Registration};
use super::faults::Faults;
use super::shelf::{DamagedFile, Shelf};
use super::{Place, checks_dir, services_dir};

/// The version of the files written.
const VERSION: u32 = 1;

/// A file in `services/`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptService {
    version: u32,
    service: ServiceDefinition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sidecar_of: Option<InstanceId>,
    /// Whether it stood in the agent's configuration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_configured: bool,
}

/// A file in `checks/`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptCheck {
    version: u32,
    check: CheckDefinition,
    /// Whether it stood in the agent's files for itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_configured: bool,
    /// Whether it is there to put its service or the node out of use; the notes say why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    maintenance: bool,
}

/// Both folders.
#[derive(Debug)]
pub(super) struct Disk {
    services: Shelf,
    checks: Shelf,
}

impl Disk {
    /// Opens both folders and enters into the book what they hold.
    pub(super) fn open(place: &Place, book: &mut Book) -> io::Result<Self> {
        let data_dir = &place.data_dir;
        let (services, kept_services, damaged) =
            Shelf::open(services_dir(data_dir), |kept: &KeptService| kept.service.id.clone())?;
        log_damaged(&damaged);
        let (checks, kept_checks, damaged) =
            Shelf::open(checks_dir(data_dir), |kept: &KeptCheck| kept.check.check_id.clone())?;
        log_damaged(&damaged);
        let mut disk = Self { services, checks };
        for kept in kept_services {
            enter_service(kept, book);
        }
        for kept in kept_checks {
            disk.enter_check(kept, place, book)?;
        }
        Ok(disk)
    }

    fn enter_check(&mut self, kept: KeptCheck, place: &Place, book: &mut Book) -> io::Result<()> {
        let definition = &kept.check;
        let services = book.services.clone();
        let service = services.services.get(definition.service_id.as_str());
        if service.is_none() && !definition.service_id.is_empty() {
            let (check, service) = (&definition.check_id, &definition.service_id);
            warn!(%check, %service, "check dropped: its service is not registered");
            return self.checks.remove(&definition.check_id);
        }
        if kept.maintenance {
            book.put_maintenance(service.map(|service| &service.id), &definition.notes);
            return Ok(());
        }
        let is_of_files = kept.is_configured
            || service.is_some_and(|service| book.configured.contains(&service.id));
        let permitted = resolve_check(definition, service).and_then(|plan| {
            place.refuse_commands(&plan, is_of_files)?;
            Ok(plan)
        });
        match permitted {
            Ok(plan) => {
                if kept.is_configured {
                    book.configured_checks.insert(plan.id.clone());
                }
                book.put_check(plan);
            }
            Err(faults) => {
                let (check, reason) = (&definition.check_id, Fault::line(&faults));
                error!(%check, %reason, "kept check is not registered: its file is not valid");
            }
        }
        Ok(())
    }

    /// Keeps a service and its checks.
    pub(super) fn put(&mut self, registration: &Registration) -> io::Result<()> {
        for plan in &registration.checks {
            self.put_check(plan, false)?;
        }
        let service = definition::kept_form(&registration.service);
        let sidecar_of = registration.sidecar_of.clone();
        let is_configured = registration.is_configured;
        let kept = KeptService { version: VERSION, service, sidecar_of, is_configured };
        self.services.put(registration.service.id.as_str(), &kept)
    }

    /// Keeps a check.
    pub(super) fn put_check(&mut self, plan: &CheckPlan, is_configured: bool) -> io::Result<()> {
        let check = plan.definition.clone();
        let kept = KeptCheck { version: VERSION, check, is_configured, maintenance: false };
        self.checks.put(plan.id.as_str(), &kept)
    }

    /// Keeps that a service or the node is out of use.
    pub(super) fn put_maintenance(
        &mut self,
        service: Option<&InstanceId>,
        id: &CheckId,
        reason: &str,
    ) -> io::Result<()> {
        let check = CheckDefinition {
            check_id: id.to_string(),
            service_id: service.map(ToString::to_string).unwrap_or_default(),
            notes: reason.to_owned(),
            ..CheckDefinition::default()
        };
        let kept = KeptCheck { version: VERSION, check, is_configured: false, maintenance: true };
        self.checks.put(id.as_str(), &kept)
    }

    /// Forgets services; their checks are to be removed after.
    pub(super) fn remove_services(&mut self, ids: &[InstanceId]) -> io::Result<()> {
        ids.iter().try_for_each(|id| self.services.remove(id.as_str()))
    }

    /// Forgets checks.
    pub(super) fn remove_checks(&mut self, ids: &[CheckId]) -> io::Result<()> {
        ids.iter().try_for_each(|id| self.checks.remove(id.as_str()))
    }
}

fn enter_service(kept: KeptService, book: &mut Book) {
    match definition::resolve_kept(&kept.service) {
        Ok(mut registration) => {
            registration.sidecar_of = kept.sidecar_of;
            registration.is_configured = kept.is_configured;
            book.register(registration, ExistingChecks::Kept);
        }
        Err(faults) => {
            let (service, reason) = (&kept.service.id, Fault::line(&faults));
            error!(%service, %reason, "kept service is not registered: its file is not valid");
        }
    }
}

fn log_damaged(damaged: &[DamagedFile]) {
    for file in damaged {
        error!(path = %file.path.display(), set_aside = %file.set_aside.display(),
            reason = %file.source, "kept registration is damaged and was set aside");
    }
}

/// Checks a definition that stands for itself.
///
/// # Errors
/// Every fault, by field.
pub(super) fn resolve_check(
    definition: &CheckDefinition,
    service: Option<&Service>,
) -> Result<CheckPlan, Vec<Fault>> {
    let mut faults = Faults::default();
    let plan = CheckPlan::resolve(definition, service, None, &mut faults);
    faults.unless_any(plan)
}

/// The same for a check that belongs to no service here.
pub(crate) fn resolve_check_of_node(definition: &CheckDefinition) -> Result<CheckPlan, Vec<Fault>> {
    resolve_check(definition, None)
}
