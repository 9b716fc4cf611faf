//! Where one request goes: the chain's routes and splits, asked for each request.

use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use weft_core::local_address::LocalAddress;
use weft_core::traffic::{RequestView, Rewrite};
use weft_runtime::clock;
use weft_runtime::tls::rustls::ClientConfig;

use super::connect::connect;
use super::endpoint::Tried;
use super::outside::own_host;
use crate::http::h1::{MeshFields, RequestRef, RequestWriter};
use crate::http::{Edits, Hop, Outcome, Refusal, Reuse};
use crate::listen::{InFlight, Local, LocalTarget, LocalUpstream, Worker};
use crate::observe::{AccessRecord, SpanKind, Traced};
use crate::transport::{HopWire, Lease};
use crate::workload::{Upstream, UpstreamTarget};

/// The upstream behind one listener, as one connection of the local instance sees it.
pub(crate) struct HttpUpstream {
    worker: Rc<Worker>,
    local: Rc<Local>,
    bind: LocalAddress,
    number: usize,
}

/// What was decided for one request.
pub(crate) struct Plan {
    pub(super) worker: Rc<Worker>,
    pub(super) local: Rc<Local>,
    pub(super) upstream: usize,
    pub(super) target: usize,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) tried: Tried,
    _in_flight: InFlight,
    logged: Option<Box<(String, String)>>,
    /// Taken when the request has ended.
    traced: RefCell<Option<Box<Traced>>>,
}

impl Plan {
    pub(super) fn upstream(&self) -> &Upstream {
        &self.local.workload.upstreams[self.upstream]
    }

    pub(super) fn target(&self) -> &UpstreamTarget {
        &self.upstream().targets[self.target]
    }

    pub(super) fn local_target(&self) -> &LocalTarget {
        &self.local.upstreams[self.upstream].targets[self.target]
    }

    pub(super) fn tls(&self) -> &std::sync::Arc<ClientConfig> {
        &self.target().tls.http1
    }
}

impl HttpUpstream {
    /// Makes the view of a connection that came in at `bind`.
    pub(super) fn new(
        worker: Rc<Worker>,
        local: Rc<Local>,
        bind: LocalAddress,
        number: usize,
    ) -> Self {
        Self { worker, local, bind, number }
    }

    /// Walks the chain for one request; `write` puts down what the next hop gets.
    pub(super) fn decide<R: RequestView>(
        &mut self,
        request: &R,
        write: impl FnOnce((&Upstream, &UpstreamTarget), Option<Rewrite<'_>>, Option<&Edits>),
    ) -> Result<Plan, Refusal> {
        self.refresh()?;
        let in_flight = self
            .worker
            .load
            .admit()
            .ok_or_else(|| overloaded(&self.local.upstreams[self.number]))?;
        let upstream = &self.local.workload.upstreams[self.number];
        let splits = &mut *self.local.upstreams[self.number].splits.borrow_mut();
        let routed = upstream.table.route(Some(request), splits);
        let mut edits = None;
        let traced = self.local.workload.tracing.as_ref().map(|config| {
            let random = &mut self.worker.random.borrow_mut();
            Traced::new(config, request, random, edits.insert(Edits::default()))
        });
        let target = &upstream.targets[routed.target];
        write((upstream, target), routed.rewrite, edits.as_ref());
        let logged = self.worker.log.is_some().then(|| {
            let path = String::from_utf8_lossy(request.path()).into_owned();
            Box::new((request.method().to_owned(), path))
        });
        Ok(Plan {
            worker: self.worker.clone(),
            local: self.local.clone(),
            upstream: self.number,
            target: routed.target,
            connect_timeout: routed.connect_timeout,
            request_timeout: routed.request_timeout,
            tried: Tried::default(),
            _in_flight: in_flight,
            logged,
            traced: RefCell::new(traced),
        })
    }

    /// Takes the workload in force, which may have changed since the last request.
    fn refresh(&mut self) -> Result<(), Refusal> {
        if self.worker.is_current(&self.local) {
            return Ok(());
        }
        self.local = self.worker.current();
        self.number = self.local.workload.upstream_at(&self.bind).ok_or_else(|| {
            Refusal::new(503, "upstream-removed", "this upstream was taken out of the registration")
        })?;
        Ok(())
    }
}

/// Refuses a request because there is too much to do, and counts it where it would have gone.
fn overloaded(upstream: &LocalUpstream) -> Refusal {
    if let Some(target) = upstream.targets.first() {
        target.series.cause("overload");
    }
    let message = "this proxy has more to do than it can: ask again later";
    Refusal::new(503, "overload", message).with_retry_after()
}

impl Hop for HttpUpstream {
    type Wire = HopWire;
    type Plan = Plan;
    type Ready = ();

    const MESH_FIELDS: MeshFields = MeshFields::Keep;

    fn plan(
        &mut self,
        request: RequestRef<'_>,
        _ready: (),
        out: &mut Vec<u8>,
    ) -> Result<Plan, Refusal> {
        self.decide(&request, |(upstream, target), rewrite, edits| {
            let host_default = upstream.service.as_str().as_bytes();
            let host = target.outside.as_ref().and_then(|outside| own_host(outside));
            let host = host.as_deref().map(str::as_bytes);
            let writer = RequestWriter { rewrite, edits, host_default, host, ..Default::default() };
            writer.write(request, out);
        })
    }

    async fn connect(&mut self, plan: &mut Plan, reuse: Reuse) -> Result<Lease<HopWire>, Refusal> {
        connect(&self.worker, plan, reuse).await
    }

    fn has_alternative(&self, plan: &Plan) -> bool {
        plan.tried.count() + 1 < plan.local_target().endpoints.len()
    }

    fn answer_limit(&self, plan: &Plan) -> Option<Duration> {
        (!plan.request_timeout.is_zero()).then_some(plan.request_timeout)
    }

    fn record(&mut self, plan: Option<&Plan>, outcome: &Outcome) {
        if let Some(plan) = plan {
            plan.record(outcome);
        }
    }
}

impl Plan {
    /// Counts and logs how the request ended.
    pub(super) fn record(&self, outcome: &Outcome) {
        let plan = self;
        plan.local_target().series.request(outcome);
        let own = plan.local.workload.snapshot.service.as_str();
        let told = (SpanKind::Client, own, &plan.target().id as &dyn Display);
        plan.worker.spans.end(&mut plan.traced.borrow_mut(), outcome, told);
        if let (Some(log), Some(logged)) = (&plan.worker.log, &plan.logged) {
            log.write(AccessRecord {
                at: clock::wall(),
                direction: "outbound",
                peer: plan.target().id.to_string(),
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
