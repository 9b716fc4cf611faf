//! Requests on to the local instance, if the caller may.

use std::rc::Rc;
use std::time::Duration;

use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_core::traffic::RequestView;
use weft_runtime::{clock, net};

use super::authorize::{is_allowed, refusal};
use crate::http::h1::{MeshFields, RequestRef, RequestWriter};
use crate::http::{Hop, Outcome, Refusal, Reuse};
use crate::listen::{Local, Worker};
use crate::observe::AccessRecord;
use crate::transport::Lease;

/// The local instance, as one caller's connection sees it.
pub(crate) struct LocalApp {
    worker: Rc<Worker>,
    local: Rc<Local>,
    caller: SpiffeId,
    service: ServiceName,
    /// Under `local`'s intentions.
    is_allowed: bool,
    /// `x-forwarded-client-cert`, ready to be written.
    added_lines: Vec<u8>,
}

/// What was decided for one request.
pub(crate) struct Plan {
    pub(super) worker: Rc<Worker>,
    pub(super) local: Rc<Local>,
    logged: Option<Box<(String, String)>>,
}

impl LocalApp {
    /// Makes the view of one caller.
    pub(super) fn new(
        worker: Rc<Worker>,
        local: Rc<Local>,
        caller: SpiffeId,
        service: ServiceName,
    ) -> Self {
        let snapshot = &local.workload.snapshot;
        let is_allowed = is_allowed(&snapshot.inbound.intentions, &service);
        let own = &snapshot.spiffe_id;
        let added_lines = format!("x-forwarded-client-cert: By={own};URI={caller}\r\n");
        let added_lines = added_lines.into_bytes();
        Self { worker, local, caller, service, is_allowed, added_lines }
    }

    /// Lets a request in, or says why not; judges anew when the workload has changed.
    pub(super) fn admit<R: RequestView>(&mut self, request: &R) -> Result<Plan, Refusal> {
        if !self.worker.is_current(&self.local) {
            self.local = self.worker.current();
            let intentions = &self.local.workload.snapshot.inbound.intentions;
            self.is_allowed = is_allowed(intentions, &self.service);
        }
        let snapshot = &self.local.workload.snapshot;
        if !self.is_allowed {
            self.local.inbound.denied.add(1);
            return Err(refusal(&snapshot.inbound.intentions, &self.caller, &snapshot.service));
        }
        let logged = self.worker.log.is_some().then(|| {
            let path = String::from_utf8_lossy(request.path()).into_owned();
            Box::new((request.method().to_owned(), path))
        });
        Ok(Plan { worker: self.worker.clone(), local: self.local.clone(), logged })
    }

    /// Returns the value of `x-forwarded-client-cert`.
    pub(super) fn certificate_field(&self) -> String {
        let own = &self.local.workload.snapshot.spiffe_id;
        format!("By={own};URI={}", self.caller)
    }

    /// Counts and logs how a request ended.
    pub(super) fn note(&self, plan: Option<&Plan>, outcome: &Outcome) {
        self.local.inbound.request(outcome);
        if let (Some(log), Some(logged)) =
            (&self.worker.log, plan.and_then(|plan| plan.logged.as_ref()))
        {
            log.write(AccessRecord {
                at: clock::wall(),
                direction: "inbound",
                peer: self.caller.to_string(),
                method: logged.0.clone(),
                path: logged.1.clone(),
                status: outcome.status,
                cause: outcome.cause,
                duration: outcome.duration,
                request_bytes: outcome.request_bytes,
                response_bytes: outcome.response_bytes,
            });
        }
    }
}

impl Hop for LocalApp {
    type Wire = net::TcpStream;
    type Plan = Plan;

    const MESH_FIELDS: MeshFields = MeshFields::Strip;

    fn plan(&mut self, request: RequestRef<'_>, out: &mut Vec<u8>) -> Result<Plan, Refusal> {
        let plan = self.admit(&request)?;
        let writer = RequestWriter {
            rewrite: None,
            host_default: self.local.workload.snapshot.service.as_str().as_bytes(),
            added_lines: &self.added_lines,
        };
        writer.write(request, out);
        Ok(plan)
    }

    async fn connect(
        &mut self,
        plan: &mut Plan,
        reuse: Reuse,
    ) -> Result<Lease<net::TcpStream>, Refusal> {
        let app = &plan.local.app;
        let mut lease = match reuse {
            Reuse::Allowed => app.lease_reused(),
            Reuse::Fresh => app.lease(),
        };
        if lease.wire.is_none() {
            let limit = plan.local.workload.snapshot.inbound.connect_timeout;
            let connected = net::connect_tcp(app.address, limit).await.map_err(|error| {
                let message = format!("cannot reach the local instance: {error}");
                Refusal::new(503, "app-unreachable", message).unreached()
            })?;
            lease.wire = Some(connected);
        }
        Ok(lease)
    }

    fn has_alternative(&self, _plan: &Plan) -> bool {
        false
    }

    fn answer_limit(&self, plan: &Plan) -> Option<Duration> {
        plan.local.workload.snapshot.inbound.request_timeout
    }

    fn record(&mut self, plan: Option<&Plan>, outcome: &Outcome) {
        self.note(plan, outcome);
    }
}
