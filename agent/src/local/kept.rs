//! What of the registrations is on disk, and how a restart makes the book from it.
//!
//! A change is entered here first, and is kept once its group is: `commit` writes those that came at
//! the same time together. A change is one line of the journal, so it is found whole or not at all.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use weft_core::catalog::{CheckDefinition, Service, ServiceDefinition};
use weft_core::name::{CheckId, InstanceId};
use weft_proto::text::Fault;
use weft_runtime::disk;

use super::Place;
use super::book::{Book, ExistingChecks};
use super::check_plan::CheckPlan;
use super::commit::{Durable, Group};
use super::definition::{self, Registration};
use super::faults::Faults;
use super::journal::{Change, Journal, Key, Kind, Records};
use super::shelf::{self, DamagedFile};

/// The version of the records written.
const VERSION: u32 = 1;

/// The folders of earlier releases.
const OLD_SERVICES: &str = "services";
const OLD_CHECKS: &str = "checks";

/// The record of a service.
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

/// The record of a check.
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
    /// The port of its proxy's door for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exposed_port: Option<u16>,
}

/// What is to be on disk.
#[derive(Debug)]
pub(super) struct Disk {
    records: Records,
    /// Bytes of all records.
    bytes: u64,
    /// What the present change has entered so far.
    change: Change,
    /// Lines of changes that are not on disk yet, and those who wait for that.
    waiting: Vec<u8>,
    group: Arc<Group>,
}

/// Changes to be written together.
pub(super) struct Taken {
    pub(super) group: Arc<Group>,
    pub(super) lines: Vec<u8>,
    /// What all changes so far come to.
    pub(super) durable: Durable,
}

impl Disk {
    /// Opens the journal, takes over what earlier releases kept, and enters all of it into the
    /// book.
    pub(super) fn open(place: &Place, book: &mut Book) -> io::Result<(Self, Journal)> {
        let directory = &place.data_dir;
        let (mut journal, found) = Journal::open(disk::system(), directory)?;
        if let Some(aside) = &found.set_aside {
            error!(set_aside = %aside.display(),
                "kept registrations are damaged in part; what can be read counts");
        }
        let mut disk = Self {
            records: Records::new(),
            bytes: 0,
            change: Change::default(),
            waiting: Vec::new(),
            group: Arc::default(),
        };
        match found.records {
            Some(records) => {
                disk.bytes = records.values().map(|record| record.len() as u64).sum();
                disk.records = records;
            }
            None => disk.take_over(directory, &mut journal)?,
        }
        let records = disk.records.clone();
        let of_kind = |wanted| records.iter().filter(move |((kind, _), _)| *kind == wanted);
        for ((_, id), record) in of_kind(Kind::Service) {
            match serde_json::from_str(record) {
                Ok(kept) => enter_service(kept, book),
                Err(error) => error!(service = %id, %error, "kept service cannot be read"),
            }
        }
        for ((_, id), record) in of_kind(Kind::Check) {
            match serde_json::from_str(record) {
                Ok(kept) => disk.enter_check(kept, place, book),
                Err(error) => error!(check = %id, %error, "kept check cannot be read"),
            }
        }
        for plan in book.settle_doors() {
            disk.put_check(&plan, book.configured_checks.contains(&plan.id));
        }
        // Nobody waits for what was dropped: it is written with the next change.
        drop(disk.seal());
        Ok((disk, journal))
    }

    /// Takes what lies in folders into the journal.
    fn take_over(&mut self, directory: &Path, journal: &mut Journal) -> io::Result<()> {
        let (services, checks) = (directory.join(OLD_SERVICES), directory.join(OLD_CHECKS));
        let (kept, damaged) = shelf::read_folder::<KeptService>(&services)?;
        log_damaged(&damaged);
        for record in kept {
            self.set(Kind::Service, record.service.id.clone(), &record);
        }
        let (kept, damaged) = shelf::read_folder::<KeptCheck>(&checks)?;
        log_damaged(&damaged);
        for record in kept {
            self.set(Kind::Check, record.check.check_id.clone(), &record);
        }
        let count = self.records.len();
        if count > 0 {
            self.change = Change::default();
            journal.commit(&[], (&self.records, self.bytes))?;
            info!(count, "registrations of an earlier release were taken over");
        }
        shelf::set_aside(&services)?;
        shelf::set_aside(&checks)
    }

    fn enter_check(&mut self, kept: KeptCheck, place: &Place, book: &mut Book) {
        let definition = &kept.check;
        let services = book.services.clone();
        let service = services.services.get(definition.service_id.as_str());
        if service.is_none() && !definition.service_id.is_empty() {
            let (check, service) = (&definition.check_id, &definition.service_id);
            warn!(%check, %service, "check dropped: its service is not registered");
            self.remove((Kind::Check, definition.check_id.clone()));
            return;
        }
        if kept.maintenance {
            book.put_maintenance(service.map(|service| &service.id), &definition.notes);
            return;
        }
        let is_of_files = kept.is_configured
            || service.is_some_and(|service| book.configured.contains(&service.id));
        let permitted = resolve_check(definition, service).and_then(|plan| {
            place.refuse_commands(&plan, is_of_files)?;
            Ok(plan)
        });
        match permitted {
            Ok(mut plan) => {
                plan.exposed_port = kept.exposed_port;
                book.restore_port(&plan);
                if kept.is_configured {
                    book.configured_checks.insert(plan.id.clone());
                }
                book.put_check(plan);
            }
            Err(faults) => {
                let (check, reason) = (&definition.check_id, Fault::line(&faults));
                error!(%check, %reason, "kept check is not registered: its record is not valid");
            }
        }
    }

    /// Enters a service and its checks.
    pub(super) fn put(&mut self, registration: &Registration) {
        for plan in &registration.checks {
            self.put_check(plan, false);
        }
        let service = definition::kept_form(&registration.service);
        let sidecar_of = registration.sidecar_of.clone();
        let is_configured = registration.is_configured;
        let kept = KeptService { version: VERSION, service, sidecar_of, is_configured };
        self.set(Kind::Service, registration.service.id.to_string(), &kept);
    }

    /// Enters a check.
    pub(super) fn put_check(&mut self, plan: &CheckPlan, is_configured: bool) {
        let check = plan.definition.clone();
        let kept = KeptCheck {
            version: VERSION,
            check,
            is_configured,
            maintenance: false,
            exposed_port: plan.exposed_port,
        };
        self.set(Kind::Check, plan.id.to_string(), &kept);
    }

    /// Enters that a service or the node is out of use.
    pub(super) fn put_maintenance(
        &mut self,
        service: Option<&InstanceId>,
        id: &CheckId,
        reason: &str,
    ) {
        let check = CheckDefinition {
            check_id: id.to_string(),
            service_id: service.map(ToString::to_string).unwrap_or_default(),
            notes: reason.to_owned(),
            ..CheckDefinition::default()
        };
        let kept = KeptCheck {
            version: VERSION,
            check,
            is_configured: false,
            maintenance: true,
            exposed_port: None,
        };
        self.set(Kind::Check, id.to_string(), &kept);
    }

    /// Forgets services.
    pub(super) fn remove_services(&mut self, ids: &[InstanceId]) {
        ids.iter().for_each(|id| self.remove((Kind::Service, id.to_string())));
    }

    /// Forgets checks.
    pub(super) fn remove_checks(&mut self, ids: &[CheckId]) {
        ids.iter().for_each(|id| self.remove((Kind::Check, id.to_string())));
    }

    fn set<T: Serialize>(&mut self, kind: Kind, id: String, record: &T) {
        let text = serde_json::to_string(record).expect("records serialise to memory");
        let key = (kind, id);
        self.change.set(&key, &text);
        self.bytes += text.len() as u64;
        self.forget_bytes(&key);
        self.records.insert(key, text.into());
    }

    fn remove(&mut self, key: Key) {
        self.forget_bytes(&key);
        if self.records.remove(&key).is_some() {
            self.change.remove(&key);
        }
    }

    fn forget_bytes(&mut self, key: &Key) {
        self.bytes -= self.records.get(key).map_or(0, |record| record.len() as u64);
    }

    /// Ends the present change; the group says when it is kept. `None` when nothing changed.
    pub(super) fn seal(&mut self) -> Option<Arc<Group>> {
        let change = std::mem::take(&mut self.change);
        if change.is_empty() {
            return None;
        }
        change.write(&mut self.waiting);
        Some(self.group.clone())
    }

    /// Takes all changes that are not on disk yet; `book` is what they come to.
    pub(super) fn take(&mut self, book: Book) -> Taken {
        Taken {
            group: std::mem::take(&mut self.group),
            lines: std::mem::take(&mut self.waiting),
            durable: self.durable(book),
        }
    }

    /// Returns all that was entered, with the book that it belongs to.
    pub(super) fn durable(&self, book: Book) -> Durable {
        Durable { records: self.records.clone(), bytes: self.bytes, book }
    }

    /// Goes back to what is on disk. Returns those whose changes are gone with that.
    pub(super) fn go_back(&mut self, durable: &Durable) -> Arc<Group> {
        self.records = durable.records.clone();
        self.bytes = durable.bytes;
        self.waiting.clear();
        std::mem::take(&mut self.group)
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
            error!(%service, %reason, "kept service is not registered: its record is not valid");
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

/// Tells what is wrong with the definition of a check that belongs to no service; commands are
/// another question.
pub fn check_alone(definition: &CheckDefinition) -> Vec<Fault> {
    resolve_check(definition, None).err().unwrap_or_default()
}

/// The same for a check that belongs to no service here.
pub(crate) fn resolve_check_of_node(definition: &CheckDefinition) -> Result<CheckPlan, Vec<Fault>> {
    resolve_check(definition, None)
}
