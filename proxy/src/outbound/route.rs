//! Where one request goes: the chain's routes and splits, asked for each request.

use std::fmt::Display;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::chain::REQUEST_TIMEOUT_DEFAULT;
use weft_core::config_entry::{ForwardClientCert, Protocol};
use weft_core::local_address::LocalAddress;
use weft_core::log_format::{CalledLatency, LatencySplit, LogRecord, TIMING_FIELD};
use weft_core::name::ServiceName;
use weft_core::traffic::deadline::{TIMEOUT_FIELD, timeout_ms};
use weft_core::traffic::proxy_protocol::Header;
use weft_core::traffic::{AttemptEnd, BodyKept, Edited, RequestView, Rewrite, Routed, Throttle};
use weft_runtime::clock;
use weft_runtime::tls::rustls::ClientConfig;

use super::breaker::Admitted;
use super::connect::connect;
use super::endpoint::{Called, Said, Tried};
use super::outside::own_host;
use super::own::OwnPart;
use super::retry::Further;
use crate::http::h1::{ClientCert, MeshFields, RequestRef, RequestWriter, ResponseHead};
use crate::http::{
    BodyCopy, CAUSE_FIELD, Changes, Edits, Hop, Outcome, Own, PROTO_HTTP, Refusal, Reuse, Told,
    from_outside, says_overload,
};
use crate::listen::{InFlight, Live, Local, LocalTarget, LocalUpstream, Worker};
use crate::observe::{Flow, FlowKey, From, Lines, Logged, Observed, Party, Side, SpanKind, Traced};
use crate::transport::{HopWire, Lease};
use crate::workload::{Upstream, UpstreamTarget};

/// The upstream behind one listener, as one connection of the local instance sees it.
pub(crate) struct HttpUpstream {
    worker: Rc<Worker>,
    local: Rc<Local>,
    bind: LocalAddress,
    number: usize,
    lines: Box<Lines>,
    /// Where the caller is.
    remote: Option<IpAddr>,
    /// Who is at the other end, where a proxy has said so.
    told: Option<Box<Header>>,
}

/// What was decided for one request.
pub(crate) struct Plan {
    pub(super) worker: Rc<Worker>,
    pub(super) local: Rc<Local>,
    pub(super) upstream: usize,
    pub(super) target: usize,
    pub(super) connect_timeout: Duration,
    /// `None` for ever.
    pub(super) request_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) tried: Tried,
    /// What it has taken of what its target is limited to; `None` before it is sent.
    pub(super) admitted: Option<Box<Admitted>>,
    /// Further attempts; `None` where the route has none.
    pub(super) further: Option<Box<Further>>,
    /// `None` for what nobody waits for.
    _in_flight: Option<InFlight>,
    /// The number of the route of the router, from 1; 0 without one.
    pub(super) route: u32,
    pub(super) observed: Observed,
    edited: Edited,
    /// What the route does besides sending it on, where it does something.
    pub(super) own: Option<Box<OwnPart>>,
}

/// By what the head is written that the next hop gets.
pub(super) struct Written<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) target: &'a UpstreamTarget,
    pub(super) rewrite: Option<Rewrite<'a>>,
    pub(super) edits: Option<&'a Edits>,
    /// The host that stands in place of the caller's.
    pub(super) host: Option<&'a str>,
    pub(super) changes: Changes<'a>,
    pub(super) ask: Ask,
}

impl Plan {
    /// Makes that of a copy of the request, if its route wants one.
    pub(super) fn mirrored(&self) -> Option<Self> {
        let mirror = self.mirror()?;
        Some(Self {
            worker: self.worker.clone(),
            local: self.local.clone(),
            upstream: self.upstream,
            target: mirror.target,
            connect_timeout: mirror.connect_timeout,
            request_timeout: Some(mirror.request_timeout).filter(|limit| !limit.is_zero()),
            idle_timeout: None,
            tried: Tried::default(),
            admitted: None,
            further: None,
            _in_flight: None,
            route: self.route,
            observed: Observed::new(None, None),
            edited: Edited::default(),
            own: None,
        })
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.local.workload.upstreams[self.upstream]
    }

    pub(super) fn target(&self) -> &UpstreamTarget {
        &self.upstream().targets[self.target]
    }

    pub(super) fn local_target(&self) -> &LocalTarget {
        &self.local.upstreams[self.upstream].targets[self.target]
    }

    pub(super) fn called(&self) -> Called<'_> {
        let Self { worker, local, upstream, target, .. } = self;
        Called { worker, local, upstream: *upstream, target: *target }
    }

    pub(super) fn tls(&self) -> &std::sync::Arc<ClientConfig> {
        &self.target().tls.http1
    }
}

impl HttpUpstream {
    /// Makes the view of a connection that came in at `bind`.
    pub(super) fn new(
        (worker, local): (Rc<Worker>, Rc<Local>),
        (bind, number): (LocalAddress, usize),
        (live, remote, told): (&Live, Option<SocketAddr>, Option<Box<Header>>),
    ) -> Self {
        let (direction, connection) = ("outbound", live.number());
        let lines = Lines::new(From { direction, connection, remote, local: bind.clone() });
        let remote = remote.map(|remote| remote.ip());
        Self { worker, local, bind, number, lines, remote, told }
    }

    /// Whether the local instance may say what stands in `x-forwarded-client-cert`.
    pub(super) fn keeps_client_cert(&self) -> bool {
        let headers = &self.local.workload.snapshot.forwarded_headers;
        headers.forward_client_cert_details == ForwardClientCert::AlwaysForwardOnly
    }

    /// Returns what the upstream speaks.
    pub(super) fn speaks(&self) -> Protocol {
        self.local.workload.upstreams[self.number].protocol
    }

    /// Walks the chain for one request; `write` puts down what the next hop gets.
    pub(super) fn decide<R: RequestView>(
        &mut self,
        request: &R,
        write: impl FnOnce(Written<'_>),
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
        if let Some(told) = &self.told {
            let from = (told.ends.map(|(from, _)| from.ip()), told.ssl.is_some());
            let hops = self.local.workload.snapshot.forwarded_headers.xff_num_trusted_hops;
            from_outside(request, from, hops, edits.get_or_insert_default());
        }
        let number = routed.standing_in(|target| upstream.is_usable(target));
        let target = &upstream.targets[number];
        let random = &self.worker.random;
        let (key, given) = target.balance.key(Some(request), self.remote, &mut random.borrow_mut());
        let tried = Tried::keyed(key);
        let called = || target.spiffe_id.service_name().unwrap_or(&upstream.service);
        let mut logged = self.begin_line(request, called);
        if let Some(line) = &mut logged {
            line.takes(&upstream.service, routed.route);
        }
        let observed = Observed::new(logged, traced);
        // Outside the mesh nobody could answer.
        let is_told =
            routed.request_timeout != REQUEST_TIMEOUT_DEFAULT && !routed.request_timeout.is_zero();
        let ask = Ask {
            timing: observed.wants_latency() && target.outside.is_none(),
            within: (is_told && target.outside.is_none()).then_some(routed.request_timeout),
        };
        let facts = self.facts(request, (&routed, target));
        let changes = Changes::new(upstream.table.request_headers(routed.edited), facts.as_deref());
        let (rewrite, host, edits) = (routed.rewrite, routed.host, edits.as_ref());
        write(Written { upstream, target, rewrite, host, edits, changes, ask });
        let changes =
            Changes::new(upstream.table.response_headers(routed.edited), facts.as_deref());
        let given = routed.cookie.into_iter().chain(given);
        let own = OwnPart::of(request, (&routed, given), (&changes, &mut random.borrow_mut()));
        let own = OwnPart::telling(own, facts);
        Ok(Plan {
            worker: self.worker.clone(),
            local: self.local.clone(),
            upstream: self.number,
            target: number,
            connect_timeout: routed.connect_timeout,
            request_timeout: Some(routed.request_timeout).filter(|limit| !limit.is_zero()),
            idle_timeout: routed.idle_timeout,
            tried,
            admitted: None,
            further: Further::of(&routed),
            _in_flight: Some(in_flight),
            observed,
            route: route_number(&routed),
            edited: routed.edited,
            own,
        })
    }

    /// Keeps what headers tell that the route writes; `None` where they tell nothing.
    fn facts<R: RequestView + ?Sized>(
        &self,
        request: &R,
        (routed, target): (&Routed<'_>, &UpstreamTarget),
    ) -> Option<Box<LogRecord>> {
        let upstream = &self.local.workload.upstreams[self.number];
        let (table, edited) = (&upstream.table, routed.edited);
        let has_operators = table.request_headers(edited).has_operators()
            || table.response_headers(edited).has_operators();
        if !has_operators {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
        let mut record = Box::<LogRecord>::default();
        self.lines.tell(&mut record);
        record.start_ns = clock::unix_nanos();
        record.protocol = Some(request.protocol());
        record.method = request.method().into();
        record.path = text(request.path());
        record.query = request.query().map(text);
        request.each_header("host", &mut |host| record.authority = text(host));
        record.cluster = target.sni.as_str().into();
        record.upstream_peer = Some(target.spiffe_id.to_string().into());
        record.route = routed.route.map(|route| format!("{}#{route}", upstream.service).into());
        Some(record)
    }

    fn begin_line<'a, R: RequestView + ?Sized>(
        &self,
        request: &R,
        called: impl FnOnce() -> &'a ServiceName,
    ) -> Option<Box<Logged>> {
        let watchers = self.worker.watchers(&self.local);
        if watchers.is_nobody() {
            return None;
        }
        let own = &self.local.workload.snapshot.service;
        let random = &mut self.worker.random.borrow_mut();
        let watchers = (watchers, (Some(own), Some(called())));
        self.lines.begin(watchers, random, (request, request.path()))
    }

    /// Keeps the line of a request that is about to be refused.
    pub(super) fn refuse_line<R: RequestView + ?Sized>(&self, request: &R) {
        let called = || &self.local.workload.upstreams[self.number].service;
        self.lines.refuse(self.begin_line(request, called));
    }

    /// Tells of a request that never had a plan.
    pub(super) fn record_unplanned(&self, outcome: &Outcome) {
        let plan = self.local.workload.logs.as_ref();
        let random = &mut self.worker.random.borrow_mut();
        if let Some(line) = self.lines.refused(plan, random, outcome.cause) {
            line.end(&self.worker.log, outcome, |_| {});
        }
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

/// What the called proxy is asked for and told besides.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// It is asked where the time goes.
    pub(super) timing: bool,
    /// Within what time the head of the answer is wanted, where somebody has chosen that.
    pub(super) within: Option<Duration>,
}

/// The field that asks where the time goes, as a line.
const TIMING_LINE: &[u8] = b"x-weft-timing: 1\r\n";
/// Bytes of all that is asked and told.
const ASK_BYTES_MAX: usize = 64;

impl Ask {
    /// Writes it as lines; most requests have none.
    fn lines(self, room: &mut [u8; ASK_BYTES_MAX]) -> &[u8] {
        let timing = if self.timing { TIMING_LINE } else { &[] };
        let Some(within) = self.within else { return timing };
        let mut rest = &mut room[..];
        // There is room: a number has ten digits.
        let _ = rest.write_all(timing);
        let _ = write!(rest, "{TIMEOUT_FIELD}: {}\r\n", timeout_ms(within));
        let left = rest.len();
        &room[..ASK_BYTES_MAX - left]
    }
}

/// Returns a route's number as flows are told apart by it.
pub(super) fn route_number(routed: &Routed<'_>) -> u32 {
    routed.route.and_then(|route| u32::try_from(route).ok()).unwrap_or(0)
}

/// Returns the counts of what goes to a target by a route.
pub(super) fn flow(
    worker: &Worker,
    local: &Local,
    (upstream, target): (usize, usize),
    route: u32,
) -> Arc<Flow> {
    let flows = &local.upstreams[upstream].targets[target].flows;
    if let Some((_, flow)) = flows.borrow().iter().find(|(number, _)| *number == route) {
        return flow.clone();
    }
    let (snapshot, upstream) = (&local.workload.snapshot, &local.workload.upstreams[upstream]);
    let target = &upstream.targets[target];
    let called = target.spiffe_id.service_name().unwrap_or(&upstream.service);
    let flow = worker.flow(FlowKey {
        side: Side::Outbound,
        source: Party::of(&snapshot.service, &snapshot.spiffe_id),
        destination: Party::of(called, &target.spiffe_id),
        cluster: target.sni.as_str().into(),
        route,
        protocol: upstream.protocol,
        is_mutual: target.outside.is_none(),
    });
    flows.borrow_mut().push((route, flow.clone()));
    flow
}

/// Notes what the proxy says that has answered itself.
fn hears(plan: &Plan, (head, bytes): (&ResponseHead, &[u8])) {
    let mut said = Said { is_unreached: head.is_unreached, ..Said::default() };
    head.each_header(bytes, CAUSE_FIELD, &mut |cause| said.is_overload |= says_overload(cause));
    plan.tried.hears(said);
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
        self.refresh()?;
        let is_connect = request.is_connect();
        let keeps = self.keeps_client_cert();
        let client_cert = if keeps { ClientCert::Keep } else { ClientCert::Strip };
        self.decide(&request, |written| {
            let Written { upstream, target, rewrite, host, edits, changes, ask } = written;
            let host_default = upstream.service.as_str().as_bytes();
            let own = target.outside.as_ref().and_then(|outside| own_host(outside));
            let host = host.or(own.as_deref()).map(str::as_bytes);
            let mut room = [0; ASK_BYTES_MAX];
            let writer = RequestWriter {
                rewrite,
                edits,
                changes,
                host_default,
                host,
                added_lines: ask.lines(&mut room),
                client_cert,
                proto_line: if target.outside.is_none() { PROTO_HTTP } else { b"" },
                ..Default::default()
            };
            writer.write(request, out);
        })
        .and_then(|plan| plan.within_mesh(is_connect))
    }

    fn changes(plan: &Plan) -> Changes<'_> {
        plan.changes()
    }

    fn copy(plan: &Plan, head: &[u8]) -> Option<Box<dyn BodyCopy>> {
        plan.copy_written(head)
    }

    fn throttle(plan: &Plan) -> Option<Throttle> {
        plan.throttle()
    }

    fn own(plan: &mut Plan) -> Option<Box<Own>> {
        plan.begin_own()
    }

    async fn connect(&mut self, plan: &mut Plan, reuse: Reuse) -> Result<Lease<HopWire>, Refusal> {
        connect(&self.worker, plan, reuse).await
    }

    fn turned_away(&mut self, plan: &Plan, head: (&ResponseHead, &[u8])) {
        hears(plan, head);
    }

    fn has_alternative(&self, plan: &Plan) -> bool {
        plan.tried.count() + 1 < plan.local_target().endpoints.len()
    }

    fn may_try_again(&self, plan: &Plan) -> Option<Told> {
        plan.may_try_again().then(|| plan.told())
    }

    fn attempt_limit(&self, plan: &Plan) -> Option<Duration> {
        plan.attempt_limit()
    }

    fn attempt_ended(
        &mut self,
        plan: &mut Plan,
        end: &AttemptEnd,
        request: (BodyKept, Option<Instant>),
    ) -> Option<Duration> {
        plan.attempt_ended(end, request)
    }

    fn answer_limit(&self, plan: &Plan) -> Option<Duration> {
        plan.request_timeout
    }

    fn idle_limit(plan: &Plan) -> Option<Duration> {
        plan.idle_timeout
    }

    fn refuses(&mut self, request: RequestRef<'_>) {
        self.refuse_line(&request);
    }

    fn answered(
        &mut self,
        plan: &Plan,
        (head, bytes): (&ResponseHead, &[u8]),
        started: Instant,
    ) -> Option<CalledLatency> {
        if head.status >= 500 {
            hears(plan, (head, bytes));
        }
        plan.answered(started, |name, visit| head.each_header(bytes, name, visit));
        None
    }

    fn record(&mut self, plan: Option<&Plan>, outcome: &Outcome) {
        match plan {
            Some(plan) => plan.record(outcome),
            None => self.record_unplanned(outcome),
        }
    }
}

impl Plan {
    /// Returns what the route changes of the headers of the answer.
    pub(super) fn changes(&self) -> Changes<'_> {
        let headers = self.upstream().table.response_headers(self.edited);
        match &self.own {
            Some(own) => Changes::new(headers, own.facts()).and_cookies(own.cookies()),
            None => Changes::new(headers, None),
        }
    }

    /// Refuses a request for a tunnel that would lead outside the mesh.
    pub(super) fn within_mesh(self, is_connect: bool) -> Result<Self, Refusal> {
        if is_connect && self.target().outside.is_some() {
            let message = "CONNECT is not led to services outside the mesh";
            return Err(Refusal::new(403, "connect-not-allowed", message));
        }
        Ok(self)
    }

    /// Takes note of the head of the answer to a request that came at `started`.
    pub(super) fn answered(
        &self,
        started: Instant,
        each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
    ) {
        self.tried.answered(self.called());
        self.observed.answered(&each_header);
        let Some((proxy, since)) = self.observed.split(started) else { return };
        let mut told = None;
        // Only a proxy of ours, known by its certificate, is believed.
        if self.target().outside.is_none() {
            each_header(TIMING_FIELD, &mut |text| told = CalledLatency::parse(text));
        }
        let latency = LatencySplit::calling(proxy, since, told);
        self.local_target().series.spent(&latency);
        self.observed.spent(latency);
    }

    /// Counts and logs how the request ended.
    pub(super) fn record(&self, outcome: &Outcome) {
        let plan = self;
        plan.local_target().series.request(outcome);
        plan.tried.ended(plan.called(), outcome);
        let (attempts, attempts_flag) = plan.end_attempts(outcome);
        let (outcome, own_flag) = &plan.own_outcome(outcome);
        flow(&plan.worker, &plan.local, (plan.upstream, plan.target), plan.route).request(outcome);
        let own = plan.local.workload.snapshot.service.as_str();
        let told = (SpanKind::Client, own, &plan.target().id as &dyn Display);
        let trace = plan.observed.end_trace(&plan.worker.spans, outcome, told);
        if let Some(mut line) = plan.observed.take_line() {
            line.attempted(attempts, attempts_flag.or(*own_flag));
            line.end(&plan.worker.log, outcome, |record| {
                record.cluster = plan.target().sni.as_str().into();
                record.upstream = plan.address().map(LocalAddress::Tcp);
                record.upstream_peer = Some(plan.target().spiffe_id.to_string().into());
                (record.trace, record.span) = trace.unzip();
            });
        }
    }

    /// Returns the address of the endpoint that has the request.
    fn address(&self) -> Option<SocketAddr> {
        let endpoint = self.local_target().endpoints.get(self.tried.current()?)?;
        Some(endpoint.pools.address)
    }
}
