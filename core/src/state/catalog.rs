//! Registration and deregistration: the catalog's rows and the indexes that move with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::{Change, InstanceKey, NodeKey, NodeRow, Refusal, ServiceKey, State};
use crate::catalog::{CatalogDeregistration, CatalogRegistration, HealthCheck, Node, Service};
use crate::index::Index;
use crate::limits;
use crate::name::{InstanceId, NodeName};

/// What one write has touched on one node, before the index rows are moved.
#[derive(Default)]
struct Touched {
    /// The node itself or one of its checks: every instance on it is seen anew.
    whole_node: bool,
    /// The node's own record.
    node_record: bool,
    /// Any check.
    checks: bool,
    /// Names or tags of services.
    list: bool,
    /// Instances on it that are there afterwards.
    instances: BTreeSet<InstanceId>,
    /// Instances that are no longer what they were; a sidecar shows the checks of the one
    /// behind it.
    gone: BTreeSet<InstanceId>,
    /// Services that lost an instance, or whose instance is now another's.
    services: BTreeSet<ServiceKey>,
    /// Services that lost a mesh door.
    connect: BTreeSet<ServiceKey>,
}

impl State {
    pub(super) fn register(
        &mut self,
        index: Index,
        registration: CatalogRegistration,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        check_limits(&registration)?;
        let CatalogRegistration { node, services, checks } = registration;
        let key = NodeKey::from(&node.name);
        self.check_node_id(&key, &node)?;
        let mut touched = Touched::default();
        let mut row = self.write_node(index, &key, node, &mut touched);
        for service in services {
            self.write_service(index, &key, &mut row, service, &mut touched);
        }
        for check in checks {
            write_check(index, &mut row, check, &mut touched)?;
        }
        let name = row.node.name.clone();
        self.set_row(&key, row);
        self.settle(index, &key, &name, touched, changes);
        Ok(())
    }

    /// Puts a node in place of what was there, and keeps whose its id is.
    fn set_row(&mut self, key: &NodeKey, row: NodeRow) {
        let id = row.node.id.clone();
        let before = self.nodes.insert(key.clone(), row);
        let id_before = before.as_ref().map_or("", |row| row.node.id.as_str());
        if id_before == id {
            return;
        }
        self.node_ids.remove(id_before);
        if !id.is_empty() {
            self.node_ids.insert(id.into(), key.clone());
        }
    }

    /// Writes a node that no agent speaks for.
    ///
    /// Differs: Consul keeps the id that is given, and lets anyone who may write a node write any
    /// node. Here an id says that an agent speaks for the node, so that nobody else writes it.
    pub(super) fn register_external(
        &mut self,
        index: Index,
        mut registration: CatalogRegistration,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        self.check_external(&registration.node.name)?;
        registration.node.id.clear();
        self.register(index, registration, changes)
    }

    /// Refuses a node for which an agent speaks.
    pub(super) fn check_external(&self, name: &NodeName) -> Result<(), Refusal> {
        match self.nodes.get(&NodeKey::from(name)) {
            Some(row) if !row.node.id.is_empty() => {
                Err(Refusal::NotExternal { node: row.node.name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn deregister(
        &mut self,
        index: Index,
        what: &CatalogDeregistration,
        changes: &mut BTreeSet<Change>,
    ) {
        let key = NodeKey::from(&what.node);
        let Some(mut row) = self.nodes.get(&key).cloned() else { return };
        let mut touched = Touched::default();
        let name = row.node.name.clone();
        if what.services.is_empty() && what.checks.is_empty() {
            for service in row.services.values() {
                self.names.remove(service);
                self.unlink(&key, service, &mut touched);
            }
            touched.checks |= !row.checks.is_empty();
            touched.node_record = true;
            self.nodes.remove(&key);
            self.node_ids.remove(row.node.id.as_str());
            self.settle(index, &key, &name, touched, changes);
            return;
        }
        for id in &what.services {
            let Some(service) = row.services.remove(id) else { continue };
            let gone: Vec<_> = row
                .checks
                .values()
                .filter(|check| check.service_id.as_ref() == Some(id))
                .map(|check| check.id.clone())
                .collect();
            touched.checks |= !gone.is_empty();
            for check in &gone {
                row.checks.remove(check);
            }
            self.names.remove(&service);
            self.unlink(&key, &service, &mut touched);
        }
        for id in &what.checks {
            let Some(check) = row.checks.remove(id) else { continue };
            touch_check(&check, &mut touched);
        }
        self.nodes.insert(key.clone(), row);
        self.settle(index, &key, &name, touched, changes);
    }

    /// A host keeps its id; two names with one id are a copied data directory.
    ///
    /// Differs: Consul refuses a new id under a known name while the older holder lives. Here a
    /// node's name is proven by its certificate, so the last valid claim wins and a rebuilt
    /// host is back at once.
    fn check_node_id(&self, key: &NodeKey, node: &Node) -> Result<(), Refusal> {
        if node.id.is_empty() || self.nodes.get(key).is_some_and(|row| row.node.id == node.id) {
            return Ok(());
        }
        let holder = self.node_ids.get(node.id.as_str()).filter(|holder| *holder != key);
        match holder.and_then(|holder| self.nodes.get(holder)) {
            Some(row) => {
                Err(Refusal::NodeIdTaken { id: node.id.clone(), holder: row.node.name.clone() })
            }
            None => Ok(()),
        }
    }

    fn write_node(
        &self,
        index: Index,
        key: &NodeKey,
        mut node: Node,
        touched: &mut Touched,
    ) -> NodeRow {
        let present = self.nodes.get(key);
        (node.create_index, node.modify_index) = (index, index);
        if let Some(row) = present {
            node.name = row.node.name.clone();
            node.create_index = row.node.create_index;
            node.modify_index = row.node.modify_index;
            // Who leaves the id out speaks of the host that is known.
            if node.id.is_empty() {
                node.id.clone_from(&row.node.id);
            }
            if *row.node == node {
                return row.clone();
            }
            node.modify_index = index;
        }
        touched.node_record = true;
        touched.whole_node = true;
        match present {
            Some(row) => NodeRow { node: Arc::new(node), ..row.clone() },
            None => {
                NodeRow { node: Arc::new(node), services: OrdMap::new(), checks: OrdMap::new() }
            }
        }
    }

    fn write_service(
        &mut self,
        index: Index,
        key: &NodeKey,
        row: &mut NodeRow,
        mut service: Service,
        touched: &mut Touched,
    ) {
        (service.create_index, service.modify_index) = (index, index);
        self.virtual_ips.tell(&mut service);
        if let Some(present) = row.services.get(&service.id).cloned() {
            service.create_index = present.create_index;
            service.modify_index = present.modify_index;
            if *present == service {
                return;
            }
            service.modify_index = index;
            touched.list |= present.tags != service.tags;
            self.names.remove(&present);
            if present.name != service.name || present.mesh_door_of() != service.mesh_door_of() {
                self.unlink(key, &present, touched);
            }
        } else {
            touched.list = true;
        }
        service.name = self.names.shared(&service.name);
        self.names.add(&service);
        let at: InstanceKey = (key.clone(), service.id.clone());
        self.instances.entry(ServiceKey::from(&service.name)).or_default().insert(at.clone());
        if let Some(destination) = service.mesh_door_of() {
            self.connect.entry(ServiceKey::from(destination)).or_default().insert(at);
            self.virtual_ips.add(destination, &service);
        }
        touched.instances.insert(service.id.clone());
        touched.checks |= follow_service(index, row, &service);
        row.services.insert(service.id.clone(), Arc::new(service));
    }

    /// Takes an instance out of the derived maps.
    fn unlink(&mut self, key: &NodeKey, service: &Service, touched: &mut Touched) {
        let at: InstanceKey = (key.clone(), service.id.clone());
        let name = ServiceKey::from(&service.name);
        remove_from(&mut self.instances, &name, &at);
        touched.services.insert(name);
        touched.gone.insert(service.id.clone());
        touched.list = true;
        if let Some(destination) = service.mesh_door_of() {
            let destination = ServiceKey::from(destination);
            remove_from(&mut self.connect, &destination, &at);
            if !self.connect.contains_key(&destination) {
                self.virtual_ips.remove(&destination);
            }
            touched.connect.insert(destination);
        }
    }

    /// Moves the index rows of what was touched and names the changes.
    fn settle(
        &mut self,
        index: Index,
        key: &NodeKey,
        name: &NodeName,
        touched: Touched,
        changes: &mut BTreeSet<Change>,
    ) {
        let Touched { whole_node, node_record, checks, list, instances, gone, services, connect } =
            touched;
        let (mut services, mut connect) = (services, connect);
        if let Some(row) = self.nodes.get(key) {
            for service in row.services.values() {
                let seen_anew = whole_node || instances.contains(&service.id);
                let app = service.proxy.destination_service_id.as_ref();
                if seen_anew {
                    services.insert(ServiceKey::from(&service.name));
                }
                if seen_anew || app.is_some_and(|app| instances.contains(app) || gone.contains(app))
                {
                    connect.extend(service.mesh_door_of().map(ServiceKey::from));
                }
            }
        }
        if services.is_empty() && connect.is_empty() && !node_record && !checks && !list {
            return;
        }
        for service in services {
            if self.instances.contains_key(&service) {
                self.rows.services.insert(service.clone(), index);
            } else {
                self.rows.services.remove(&service);
                self.rows.service_extinction = index;
            }
            changes.insert(Change::Service(service));
        }
        for service in connect {
            if self.connect.contains_key(&service) {
                self.rows.connect.insert(service.clone(), index);
            } else {
                self.rows.connect.remove(&service);
                self.rows.connect_extinction = index;
            }
            changes.insert(Change::Connect(service));
        }
        if node_record {
            self.rows.nodes = index;
            changes.insert(Change::Nodes);
        }
        if checks {
            self.rows.checks = index;
            changes.insert(Change::Checks);
        }
        if list {
            self.rows.service_list = index;
            changes.insert(Change::ServiceList);
        }
        changes.insert(Change::Node(name.clone()));
    }
}

fn remove_from(
    map: &mut OrdMap<ServiceKey, OrdSet<InstanceKey>>,
    name: &ServiceKey,
    at: &InstanceKey,
) {
    if let Some(set) = map.get_mut(name) {
        set.remove(at);
        if set.is_empty() {
            map.remove(name);
        }
    }
}

/// Carries a service's name and tags over to its checks; says whether any differed.
fn follow_service(index: Index, row: &mut NodeRow, service: &Service) -> bool {
    let stale: Vec<Arc<HealthCheck>> = row
        .checks
        .values()
        .filter(|check| check.service_id.as_ref() == Some(&service.id))
        .filter(|check| {
            check.service_name.as_ref() != Some(&service.name) || check.service_tags != service.tags
        })
        .cloned()
        .collect();
    for check in &stale {
        let mut check = HealthCheck::clone(check);
        check.service_name = Some(service.name.clone());
        check.service_tags.clone_from(&service.tags);
        check.modify_index = index;
        row.checks.insert(check.id.clone(), Arc::new(check));
    }
    !stale.is_empty()
}

fn write_check(
    index: Index,
    row: &mut NodeRow,
    mut check: HealthCheck,
    touched: &mut Touched,
) -> Result<(), Refusal> {
    check.node = row.node.name.clone();
    match &check.service_id {
        None => {
            check.service_name = None;
            check.service_tags = Vec::new();
        }
        Some(id) => {
            let service = row.services.get(id).ok_or_else(|| Refusal::UnknownService {
                check: check.id.to_string(),
                service: id.clone(),
                node: row.node.name.clone(),
            })?;
            // Shared texts, not equal ones: there are as many checks as instances.
            check.service_id = Some(service.id.clone());
            check.service_name = Some(service.name.clone());
            check.service_tags.clone_from(&service.tags);
        }
    }
    (check.create_index, check.modify_index) = (index, index);
    if let Some(present) = row.checks.get(&check.id) {
        check.create_index = present.create_index;
        check.modify_index = present.modify_index;
        if **present == check {
            return Ok(());
        }
        check.modify_index = index;
        touch_check(present, touched);
    }
    touch_check(&check, touched);
    row.checks.insert(check.id.clone(), Arc::new(check));
    Ok(())
}

fn touch_check(check: &HealthCheck, touched: &mut Touched) {
    touched.checks = true;
    match &check.service_id {
        Some(id) => {
            touched.instances.insert(id.clone());
        }
        None => touched.whole_node = true,
    }
}

fn check_limits(registration: &CatalogRegistration) -> Result<(), Refusal> {
    let CatalogRegistration { node, services, checks } = registration;
    within("Node.Meta", node.meta.len(), limits::META_PAIRS_MAX)?;
    for service in services {
        let field = |name: &str| format!("Service {:?}: {name}", service.id.as_str());
        within(&field("Tags"), service.tags.len(), limits::TAGS_MAX)?;
        within(&field("Meta"), service.meta.len(), limits::META_PAIRS_MAX)?;
        within(
            &field("Proxy.Upstreams"),
            service.proxy.upstreams.len(),
            limits::UPSTREAMS_PER_PROXY_MAX,
        )?;
        for (key, value) in &service.meta {
            within(&field("Meta key"), key.len(), limits::META_KEY_BYTES_MAX)?;
            within(&field("Meta value"), value.len(), limits::META_VALUE_BYTES_MAX)?;
        }
    }
    for check in checks {
        let field = format!("Check {:?}: Output", check.id.as_str());
        within(&field, check.output.len(), limits::CHECK_OUTPUT_BYTES_MAX)?;
    }
    Ok(())
}

fn within(field: &str, length: usize, limit: usize) -> Result<(), Refusal> {
    if length <= limit {
        Ok(())
    } else {
        Err(Refusal::Limit { field: field.to_owned(), length, limit })
    }
}
