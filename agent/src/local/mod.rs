//! The services and checks of this host: the truth that the catalog is kept to.
//!
//! A registration is checked (`definition`, `check_plan`, `sidecar`), entered (`book`) and seen by all
//! who subscribed, and acknowledged when it is on disk (`kept`, `commit`, `journal`). Never the catalog of
//! others (`views`), never probing (`checks`).

mod book;
mod check_plan;
mod commit;
mod configured;
mod definition;
mod exposure;
mod faults;
mod journal;
mod kept;
mod probe;
mod shared_ports;
mod shelf;
mod sidecar;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use imbl::OrdMap;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::catalog::{CheckDefinition, CheckStatus, HealthCheck, Service, ServiceDefinition};
use weft_core::name::{CheckId, InstanceId, NodeName};
use weft_proto::text::Fault;
use weft_runtime::task::{TaskFailure, TaskTree};

use crate::config::Scripts;
use book::Book;
use commit::Committer;
use definition::{Registration, Surroundings};
use kept::Disk;

pub use book::{ExistingChecks, Plans};
pub use check_plan::CheckPlan;
pub use configured::{Definitions, Placed};
pub use definition::check;
pub(crate) use exposure::CheckDoors;
pub use kept::check_alone;
pub(crate) use kept::resolve_check_of_node as plan_of;
pub(crate) use probe::is_probeable;
pub use probe::{AliasProbe, GrpcProbe, HttpProbe, Probe, TlsProbe};

/// What is registered on this host at one moment.
///
/// The maps are persistent: those who hold an older moment share with this one all that is the
/// same, so that one result among thousands of checks costs no copy of the others.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LocalServices {
    /// Applications and sidecars.
    pub services: OrdMap<InstanceId, Service>,
    /// Checks of them and of the node itself, with their present state.
    pub checks: OrdMap<CheckId, HealthCheck>,
}

/// The registrations of this host; clones share them.
#[derive(Debug, Clone)]
pub struct Local {
    inner: Arc<Inner>,
    tasks: TaskTree,
}

/// Where the host's registrations belong.
#[derive(Debug, Clone)]
pub struct Place {
    /// The host's name in the catalog.
    pub node: NodeName,
    /// Where sidecars listen unless told otherwise.
    pub bind_addr: IpAddr,
    /// Ports of doors for checks.
    pub expose_ports: RangeInclusive<u16>,
    /// Registrations are kept in folders of this directory.
    pub data_dir: PathBuf,
    /// Whose checks may run commands.
    pub scripts: Scripts,
}

/// Says why the registrations of an earlier run could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the registrations kept in {}", directory.display())]
pub struct OpenError {
    /// The data directory.
    pub directory: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Says why a change of the registrations was not made. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The work was cut short by the shutdown of the agent.
    #[error("the agent is shutting down")]
    Stopped(#[source] TaskFailure),
    /// The definition is wrong.
    #[error("{}", Fault::line(.0))]
    Refused(Vec<Fault>),
    /// There is no check with that id.
    #[error("no check with id {0:?} is registered here")]
    UnknownCheck(String),
    /// There is no service with that id.
    #[error("no service with id {0:?} is registered here")]
    UnknownService(String),
    /// The registration could not be kept.
    #[error("cannot write the registration to {}", directory.display())]
    Unkept {
        /// The data directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug)]
struct Inner {
    place: Place,
    /// Taken before the two below, by who keeps changes; only blocking threads wait for it.
    committer: Mutex<Committer>,
    /// Taken for the whole of a change, so that disk and book see changes in the same order;
    /// `book` is taken inside it for moments. Nothing is written to disk meanwhile.
    disk: Mutex<Disk>,
    book: Mutex<Book>,
    services: watch::Sender<Arc<LocalServices>>,
    plans: watch::Sender<Arc<Plans>>,
    check_doors: watch::Sender<Arc<CheckDoors>>,
    /// Checks from an earlier run without a result in this one.
    unproven: Mutex<BTreeSet<CheckId>>,
}

#[cfg(test)]
impl Place {
    /// The host of tests, with its data in a directory.
    pub(crate) fn of_test(data_dir: &std::path::Path, scripts: Scripts) -> Self {
        Self {
            node: "host-1".parse().expect("a node name"),
            bind_addr: IpAddr::from([127, 0, 0, 1]),
            expose_ports: 21_500..=21_502,
            data_dir: data_dir.to_owned(),
            scripts,
        }
    }
}

impl Place {
    /// Refuses a check that runs commands unless that is switched on.
    ///
    /// # Errors
    /// A fault in Consul's words.
    fn refuse_commands(&self, plan: &CheckPlan, is_configured: bool) -> Result<(), Vec<Fault>> {
        let reason = match (plan.probe.runs_commands(), self.scripts, is_configured) {
            (false, ..) | (true, Scripts::Everyone, _) | (true, Scripts::Files, true) => {
                return Ok(());
            }
            (true, Scripts::Files, false) => {
                "Scripts are disabled on this agent from remote calls; to enable, configure \
                 'enable_script_checks' to true"
            }
            (true, Scripts::Nobody, _) => {
                "Scripts are disabled on this agent; to enable, configure \
                 'enable_script_checks' or 'enable_local_script_checks' to true"
            }
        };
        Err(vec![Fault::new("Args", reason)])
    }
}

impl Local {
    /// Opens the registrations of an earlier run, or starts with none.
    ///
    /// Files that hold no readable record are set aside and logged, the others load. Blocks
    /// its thread.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be read or written.
    pub fn open(place: Place, tasks: &TaskTree) -> Result<Self, OpenError> {
        let failed = |source| OpenError { directory: place.data_dir.clone(), source };
        let mut book = Book::new(&place);
        let (disk, journal) = Disk::open(&place, &mut book).map_err(failed)?;
        let durable = disk.durable(book.clone());
        let inner = Inner {
            services: watch::Sender::new(book.services.clone()),
            plans: watch::Sender::new(book.plans.clone()),
            check_doors: watch::Sender::new(book.exposed.doors.clone()),
            unproven: Mutex::new(book.plans.keys().cloned().collect()),
            committer: Mutex::new(Committer { journal, durable }),
            disk: Mutex::new(disk),
            book: Mutex::new(book),
            place,
        };
        Ok(Self { inner: Arc::new(inner), tasks: tasks.child("local") })
    }

    /// Returns the name of this host.
    pub fn node(&self) -> &NodeName {
        &self.inner.place.node
    }

    /// Returns what is registered now.
    pub fn current(&self) -> Arc<LocalServices> {
        self.inner.services.borrow().clone()
    }

    /// Returns a receiver that always holds the newest registrations.
    pub fn subscribe(&self) -> watch::Receiver<Arc<LocalServices>> {
        self.inner.services.subscribe()
    }

    /// Returns a receiver that always holds the checks to be run.
    pub fn plans(&self) -> watch::Receiver<Arc<Plans>> {
        self.inner.plans.subscribe()
    }

    /// Registers a service with its checks, and the sidecar that it asks for.
    ///
    /// # Errors
    /// [`LocalError::Refused`] with every fault of the definition, or that it could not be kept.
    ///
    /// # Cancel safety
    /// Safe: once begun, the change is made whole even if nobody waits for it. So with every
    /// change below.
    pub async fn register(
        &self,
        definition: ServiceDefinition,
        existing: ExistingChecks,
    ) -> Result<(), LocalError> {
        self.change(move |inner, disk| inner.register(disk, &definition, existing, false)).await
    }

    /// Deregisters a service with its checks and its sidecar.
    ///
    /// # Errors
    /// [`LocalError::UnknownService`], or that the change could not be kept.
    pub async fn deregister(&self, id: String) -> Result<(), LocalError> {
        self.change(move |inner, disk| inner.deregister(disk, &id)).await
    }

    /// Registers a check of a service that is registered, or of the node.
    ///
    /// # Errors
    /// As [`Local::register`]; [`LocalError::UnknownService`] when its service is not there.
    pub async fn register_check(&self, definition: CheckDefinition) -> Result<(), LocalError> {
        self.change(move |inner, disk| inner.register_check(disk, definition, false)).await
    }

    /// Deregisters a check.
    ///
    /// # Errors
    /// [`LocalError::UnknownCheck`], or that the change could not be kept.
    pub async fn deregister_check(&self, id: String) -> Result<(), LocalError> {
        self.change(move |inner, disk| inner.deregister_check(disk, &id)).await
    }

    /// Puts a service, or the whole node, out of use with a reason, or with `None` back in.
    ///
    /// # Errors
    /// [`LocalError::UnknownService`], or that the change could not be kept.
    pub async fn set_maintenance(
        &self,
        service: Option<String>,
        reason: Option<String>,
    ) -> Result<(), LocalError> {
        self.change(move |inner, disk| inner.set_maintenance(disk, service.as_deref(), reason))
            .await
    }

    /// Sets how a check stands. Ids that are not known (any more) are passed over.
    pub fn set_status(&self, id: &CheckId, status: CheckStatus, output: &str) {
        self.inner.unproven.lock().remove(id);
        let mut book = self.inner.book.lock();
        if book.set_status(id, status, output) {
            self.inner.publish(&book);
        }
    }

    /// Takes the catalog's word for checks of an earlier run that had no result in this one, so
    /// that a restart of the agent does not turn healthy services critical.
    pub fn adopt(&self, catalog: &[HealthCheck]) {
        let unproven = self.inner.unproven.lock();
        let mut book = self.inner.book.lock();
        let mut changed = false;
        for check in catalog.iter().filter(|check| unproven.contains(&check.id)) {
            changed |= book.set_status(&check.id, check.status, &check.output);
        }
        if changed {
            self.inner.publish(&book);
        }
    }

    async fn change(
        &self,
        change: impl FnOnce(&Inner, &mut Disk) -> Result<(), LocalError> + Send + 'static,
    ) -> Result<(), LocalError> {
        let inner = self.inner.clone();
        self.tasks.blocking(move || inner.change(change)).await.map_err(LocalError::Stopped)?
    }
}

impl Inner {
    /// Makes a change and keeps it, also the part of one that came to an end before its own.
    fn change(
        &self,
        change: impl FnOnce(&Self, &mut Disk) -> Result<(), LocalError>,
    ) -> Result<(), LocalError> {
        let mut disk = self.disk.lock();
        let made = change(self, &mut disk);
        let group = disk.seal();
        drop(disk);
        if let Some(group) = group {
            self.commit(&group)?;
        }
        made
    }

    fn register(
        &self,
        disk: &mut Disk,
        definition: &ServiceDefinition,
        existing: ExistingChecks,
        is_configured: bool,
    ) -> Result<(), LocalError> {
        let surroundings = self.surroundings(definition);
        let mut registrations =
            definition::resolve(definition, &surroundings).map_err(LocalError::Refused)?;
        for registration in &mut registrations {
            registration.is_configured = is_configured;
        }
        self.refuse_foreign_checks(&registrations)?;
        for plan in registrations.iter().flat_map(|registration| &registration.checks) {
            self.place.refuse_commands(plan, is_configured).map_err(LocalError::Refused)?;
        }
        for registration in &mut registrations {
            let book = self.book.lock();
            registration.checks.iter_mut().for_each(|plan| book.keep_port(plan));
            drop(book);
            disk.put(registration);
        }
        let mut gone = Vec::new();
        let mut book = self.book.lock();
        for registration in registrations {
            shared_ports::warn_of(&registration.service, &book.services.services);
            gone.extend(book.register(registration, existing));
        }
        self.settle(&mut book, disk);
        disk.remove_checks(&gone);
        Ok(())
    }

    /// What the sidecar of a definition needs to know: its port stays when it had one.
    fn surroundings(&self, definition: &ServiceDefinition) -> Surroundings {
        let services = &self.book.lock().services.services;
        let id = if definition.id.is_empty() { &definition.name } else { &definition.id };
        let before = InstanceId::parse(id)
            .ok()
            .and_then(|id| services.get(sidecar::id_of(&id).as_str()))
            .map(|sidecar| sidecar.port);
        Surroundings {
            bind_addr: self.place.bind_addr,
            sidecar_port: before.or_else(|| sidecar::free_port(services.values())),
        }
    }

    /// A check id belongs to the service that had it first.
    fn refuse_foreign_checks(&self, registrations: &[Registration]) -> Result<(), LocalError> {
        let checks = &self.book.lock().services.checks;
        let mut faults = Vec::new();
        for plan in registrations.iter().flat_map(|registration| &registration.checks) {
            if let Some(other) = checks.get(&plan.id)
                && other.service_id != plan.service
            {
                let owner = match &other.service_id {
                    Some(service) => format!("service {service:?}"),
                    None => "the node".to_owned(),
                };
                faults.push(Fault::new("CheckID", format!("{:?} is a check of {owner}", plan.id)));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(LocalError::Refused(faults)) }
    }

    fn deregister(&self, disk: &mut Disk, id: &str) -> Result<(), LocalError> {
        let mut book = self.book.lock();
        let id = self.known_service(&book, id)?;
        let removed = book.remove_service(&id);
        self.settle(&mut book, disk);
        disk.remove_services(&removed.services);
        disk.remove_checks(&removed.checks);
        Ok(())
    }

    fn register_check(
        &self,
        disk: &mut Disk,
        mut definition: CheckDefinition,
        is_configured: bool,
    ) -> Result<(), LocalError> {
        let services = self.book.lock().services.clone();
        let service = match definition.service_id.as_str() {
            "" => None,
            id => match services.services.get(id) {
                Some(service) => Some(service),
                None => return Err(LocalError::UnknownService(id.to_owned())),
            },
        };
        if definition.check_id.is_empty() {
            definition.check_id.clone_from(&definition.name);
        }
        let mut plan = kept::resolve_check(&definition, service).map_err(LocalError::Refused)?;
        self.place.refuse_commands(&plan, is_configured).map_err(LocalError::Refused)?;
        if let Some(other) = services.checks.get(&plan.id)
            && other.service_id != plan.service
        {
            let reason = format!("{:?} is the id of a check of something else", plan.id);
            return Err(LocalError::Refused(vec![Fault::new("CheckID", reason)]));
        }
        let mut book = self.book.lock();
        book.keep_port(&mut plan);
        disk.put_check(&plan, is_configured);
        match is_configured {
            true => book.configured_checks.insert(plan.id.clone()),
            false => book.configured_checks.remove(&plan.id),
        };
        book.put_check(plan);
        self.settle(&mut book, disk);
        Ok(())
    }

    fn deregister_check(&self, disk: &mut Disk, id: &str) -> Result<(), LocalError> {
        let mut book = self.book.lock();
        let known = book.services.checks.get_key_value(id).map(|(id, _)| id.clone());
        let id = known.ok_or_else(|| LocalError::UnknownCheck(id.to_owned()))?;
        book.remove_check(&id);
        self.settle(&mut book, disk);
        disk.remove_checks(std::slice::from_ref(&id));
        Ok(())
    }

    fn set_maintenance(
        &self,
        disk: &mut Disk,
        service: Option<&str>,
        reason: Option<String>,
    ) -> Result<(), LocalError> {
        let service = match service {
            Some(id) => Some(self.known_service(&self.book.lock(), id)?),
            None => None,
        };
        let check = match &service {
            Some(service) => book::maintenance_id(service),
            None => book::node_maintenance_id(),
        };
        match reason {
            Some(reason) => {
                disk.put_maintenance(service.as_ref(), &check, &reason);
                let mut book = self.book.lock();
                book.put_maintenance(service.as_ref(), &reason);
                self.publish(&book);
            }
            None => {
                disk.remove_checks(std::slice::from_ref(&check));
                let mut book = self.book.lock();
                book.remove_check(&check);
                self.publish(&book);
            }
        }
        Ok(())
    }

    fn known_service(&self, book: &Book, id: &str) -> Result<InstanceId, LocalError> {
        let known = book.services.services.get_key_value(id).map(|(id, _)| id.clone());
        known.ok_or_else(|| LocalError::UnknownService(id.to_owned()))
    }

    fn publish(&self, book: &Book) {
        self.services.send_if_modified(|seen| replace(seen, &book.services));
        self.plans.send_if_modified(|seen| replace(seen, &book.plans));
        self.check_doors.send_if_modified(|seen| replace(seen, &book.exposed.doors));
    }

    fn unkept(&self, source: io::Error) -> LocalError {
        LocalError::Unkept { directory: self.place.data_dir.clone(), source }
    }
}

fn replace<T>(seen: &mut Arc<T>, newest: &Arc<T>) -> bool {
    let differs = !Arc::ptr_eq(seen, newest);
    if differs {
        seen.clone_from(newest);
    }
    differs
}

#[cfg(test)]
mod tests;
