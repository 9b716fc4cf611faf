//! Requests on to the local instance, if the caller may.

use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::info;
use weft_core::canonical_path::CanonicalPath;
use weft_core::config_entry::{ClientCertDetails, JwtProvider, Protocol};
use weft_core::intention::{Asked, Judgement, Standing};
use weft_core::limits::HTTP_HEADERS_MAX;
use weft_core::local_address::LocalAddress;
use weft_core::log_format::{CalledLatency, LatencySplit};
use weft_core::name::ServiceName;
use weft_core::traffic::RequestView;
use weft_runtime::{clock, net};

use super::authorize::refusal;
use super::certificate::{Shown, element};
use super::ext_authz::{Authoriser, Question};
use super::own_app::{OwnApp, open_with};
use super::passes::Pass;
use super::rates::meter;
use super::token::{self, Checked};
use super::under_way::{Entered, Kept, UnderWay, WholeRequest};
use crate::http::general::NONCE_BYTES;
use crate::http::h1::{MeshFields, RequestRef, RequestWriter, ResponseHead};
use crate::http::{
    Edits, Held, Holding, Hop, MADE_FIELDS_MAX, Outcome, PROTO_HTTPS, Refusal, Reuse,
};
use crate::listen::{Caller, InFlight, Live, Local, Worker};
use crate::observe::{From, Lines, Logged, Observed, SpanKind, Traced, Verdict};
use crate::transport::Lease;

/// The local instance, as one caller's connection sees it.
pub(crate) struct LocalApp {
    worker: Rc<Worker>,
    local: Rc<Local>,
    caller: Rc<Caller>,
    /// Under `local`'s intentions.
    standing: Standing,
    /// Of the request that was judged last.
    path: CanonicalPath,
    under_way: Rc<UnderWay>,
    /// Where its requests go, if the local instance wants to be told who calls.
    own: Option<Rc<OwnApp>>,
    /// When it was last said that a request would be refused.
    told: Option<Instant>,
    shown: Shown,
    lines: Box<Lines>,
}

/// What was decided for one request.
pub(crate) struct Plan {
    pub(super) worker: Rc<Worker>,
    pub(super) local: Rc<Local>,
    pub(super) observed: Observed,
    is_dry_run: bool,
    /// Within what time the caller wants the head of the answer.
    told_timeout: Option<Duration>,
    /// Whether the request goes on with the path that was judged.
    pub(super) is_respelled: bool,
    /// Where it goes, if not to the connections that all callers share.
    pub(super) own: Option<Rc<OwnApp>>,
    /// What else becomes of it.
    pub(super) edits: Option<Box<Edits>>,
    /// Of the content that was judged, for the next judgement.
    kept: Option<Kept>,
    /// Its room at the local instance, where that is limited.
    pass: Option<Box<Pass>>,
    _in_flight: InFlight,
    /// While it shares its connection.
    pub(super) entered: Option<Entered>,
}

/// What a request waits for before it is judged.
pub(super) struct Preparation {
    worker: Rc<Worker>,
    local: Rc<Local>,
    /// Whose tokens play a part.
    providers: Vec<JwtProvider>,
    /// Of whom somebody else is asked, where there is somebody.
    enquiry: Enquiry,
}

/// A caller of whom somebody else is asked.
struct Enquiry(Rc<Caller>);

impl Preparation {
    /// Whether there is nothing to wait for.
    pub(super) fn is_nothing(&self) -> bool {
        self.providers.is_empty() && self.local.authoriser.is_none()
    }
}

/// How much longer than it has said a calling proxy is waited for: it should find out first, and say so as its own
/// end of a request.
const GRACE: Duration = Duration::from_millis(100);
/// How often a connection says that its requests would be refused.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl LocalApp {
    /// Makes the view of one caller.
    pub(super) fn new(
        worker: Rc<Worker>,
        local: Rc<Local>,
        caller: Rc<Caller>,
        live: &Live,
    ) -> Self {
        let standing = local.workload.judge.standing(&caller.service);
        let shown = Shown::of(&local, &caller);
        let under_way = live.under_way.clone();
        let (remote, bind) = (caller.remote, local.workload.snapshot.inbound.bind);
        let (direction, connection) = ("inbound", live.number());
        let lines =
            Lines::new(From { direction, connection, remote, local: LocalAddress::Tcp(bind) });
        let own = OwnApp::of(&local, &caller);
        Self {
            worker,
            local,
            caller,
            standing,
            path: CanonicalPath::default(),
            under_way,
            own,
            told: None,
            shown,
            lines,
        }
    }

    /// Lets a request in, or says why not; by other rules when the workload has changed.
    ///
    /// A request that is judged by its content goes on with the path that was judged.
    pub(super) fn admit<R: WholeRequest>(
        &mut self,
        request: &R,
        edits: Edits,
    ) -> Result<Plan, Refusal> {
        self.follow_workload();
        let local = self.local.clone();
        let in_flight = match request.is_further_attempt() {
            true => self.worker.load.admit_further().ok_or_else(overloaded)?,
            false => admitted(&self.worker)?,
        };
        let judge = &local.workload.judge;
        let is_by_content = judge.is_by_content(self.standing);
        let checked = match is_by_content {
            true => token::check(&local, judge.providers(self.standing), request),
            false => Checked::default(),
        };
        let is_path_read = is_by_content || local.workload.limiter.is_some();
        let read = if is_path_read { self.path.read(request.path()) } else { Ok(()) };
        let path = read.map(|()| &self.path);
        let snapshot = &local.workload.snapshot;
        let asked = is_by_content.then_some(Asked { request, path, tokens: &checked.tokens });
        let call = self.caller.call(snapshot.inbound.local_app.port(), asked);
        let judgement = judge.evaluate(self.standing, &call);
        if let Some(decisions) = &local.decisions
            && let Some(verdict) = decisions.worth_telling(&judgement)
        {
            let path = path.map_or_else(|_| request.path(), CanonicalPath::as_bytes);
            let path = if is_by_content { path } else { request.path() };
            let asking = self.caller.asking(&snapshot.service, Some((request.method(), path)));
            let why = judge.explain(&judgement, &self.caller.service, &snapshot.service);
            decisions.tell(verdict, asking, why);
        }
        if !judgement.allowed {
            local.inbound.denied.add(1);
            return Err(refusal(judge, &judgement, &self.caller, &snapshot.service));
        }
        meter((&self.worker, &local), &self.caller, (request, path))?;
        let pass = Pass::take(&local, request)?;
        let is_respelled = is_by_content && path.is_ok();
        let logged_path = if is_respelled { self.path.as_bytes() } else { request.path() };
        let logged = self.begin_line(&local, request, logged_path);
        let kept = is_by_content.then(|| Kept::new(request, path, checked.tokens));
        let mut changes = checked.edits;
        changes.extend(edits);
        let traced = local.workload.tracing.as_ref().map(|config| {
            Traced::new(config, request, &mut self.worker.random.borrow_mut(), &mut changes)
        });
        if judgement.is_dry_run {
            self.tell(&local, &judgement);
        }
        let is_dry_run = judgement.is_dry_run;
        let worker = self.worker.clone();
        Ok(Plan {
            worker,
            local: self.local.clone(),
            observed: Observed::new(logged, traced),
            is_dry_run,
            told_timeout: request.told_timeout(),
            is_respelled,
            own: self.own.clone(),
            edits: (!changes.is_empty()).then(|| Box::new(changes)),
            kept,
            pass,
            _in_flight: in_flight,
            entered: None,
        })
    }

    fn begin_line<R: RequestView + ?Sized>(
        &self,
        local: &Local,
        request: &R,
        path: &[u8],
    ) -> Option<Box<Logged>> {
        let watchers = self.worker.watchers(local);
        if watchers.is_nobody() {
            return None;
        }
        let own = &local.workload.snapshot.service;
        let watchers = (watchers, (Some(&self.caller.service), Some(own)));
        self.lines.begin(watchers, &mut self.worker.random.borrow_mut(), (request, path))
    }

    /// Keeps the line of a request that is about to be refused.
    pub(super) fn refuse_line<R: RequestView + ?Sized>(&self, request: &R) {
        self.lines.refuse(self.begin_line(&self.local, request, request.path()));
    }

    /// Returns what requests of this caller may have to wait for.
    pub(super) fn preparation(&mut self) -> Preparation {
        self.follow_workload();
        let judge = &self.local.workload.judge;
        let providers = match judge.is_by_content(self.standing) {
            true => judge.providers(self.standing).cloned().collect(),
            false => Vec::new(),
        };
        let enquiry = Enquiry(self.caller.clone());
        Preparation { worker: self.worker.clone(), local: self.local.clone(), providers, enquiry }
    }

    /// Returns how much of the next body an authoriser is shown.
    pub(super) fn wants_body(&mut self) -> Option<Holding> {
        self.follow_workload();
        self.local.authoriser.as_ref().and_then(|authoriser| authoriser.holding())
    }

    pub(super) fn follow_workload(&mut self) {
        if !self.worker.is_current(&self.local) {
            let local = self.worker.current();
            let inbound = |local: &Local| {
                let inbound = &local.workload.snapshot.inbound;
                (inbound.proxy_protocol, inbound.local_app.clone(), inbound.protocol)
            };
            if inbound(&self.local) != inbound(&local) {
                self.own = OwnApp::of(&local, &self.caller);
            }
            if !self.shown.fits(&local) {
                self.shown = Shown::of(&local, &self.caller);
            }
            self.local = local;
            self.standing = self.local.workload.judge.standing(&self.caller.service);
        }
    }

    /// Returns the path of the request that was judged last.
    pub(super) fn judged_path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    /// Has the request judged again while it lasts, beside others on its connection.
    pub(super) fn enter(&self, plan: &mut Plan) {
        plan.entered = Some(self.under_way.enter(plan.kept.take()));
    }

    fn tell(&mut self, local: &Local, judgement: &Judgement<'_>) {
        local.inbound.dry_run_denied.add(1);
        let now = clock::instant();
        if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
            self.told = Some(now);
            let workload = &local.workload;
            let (source, own) = (&self.caller.service, &workload.snapshot.service);
            let why = workload.judge.explain(judgement, source, own);
            info!(caller = %self.caller.id, why, "request would be refused");
        }
    }

    /// Returns what the local instance speaks.
    pub(super) fn speaks(&mut self) -> Protocol {
        self.follow_workload();
        self.local.workload.snapshot.inbound.protocol
    }

    /// Returns random bytes; they protect nothing.
    pub(super) fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut random = self.worker.random.borrow_mut();
        let halves = [random.next_u64(), random.next_u64()].map(u64::to_ne_bytes);
        std::array::from_fn(|at| halves[at / 8][at % 8])
    }

    /// Returns what the local instance is told of the caller's certificate.
    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Counts and logs how a request ended.
    pub(super) fn note(&self, plan: Option<&Plan>, outcome: &Outcome) {
        self.local.inbound.request(outcome);
        self.caller.flow.request(outcome);
        let mut trace = None;
        if let Some(plan) = plan {
            let own = self.local.workload.snapshot.service.as_str();
            let told = (SpanKind::Server, own, &self.caller.id as &dyn Display);
            trace = plan.observed.end_trace(&self.worker.spans, outcome, told);
        }
        let logged = match plan {
            Some(plan) => plan.observed.take_line(),
            None => {
                let logs = self.local.workload.logs.as_ref();
                let random = &mut self.worker.random.borrow_mut();
                self.lines.refused(logs, random, outcome.cause)
            }
        };
        let Some(mut line) = logged else { return };
        line.attempted(u32::from(plan.is_some()), None);
        let is_dry_run = plan.is_some_and(|plan| plan.is_dry_run);
        let outcome = Outcome {
            cause: outcome.cause.or(is_dry_run.then_some("intention-dry-run")),
            ..*outcome
        };
        line.end(&self.worker.log, &outcome, |record| {
            let inbound = &self.local.workload.snapshot.inbound;
            self.caller.tell(record);
            if plan.is_some() {
                record.upstream = Some(inbound.local_app.clone());
            }
            (record.trace, record.span) = trace.unzip();
        });
    }
}

/// Refuses a request for a tunnel to elsewhere.
pub(super) fn connect_refused(service: &ServiceName) -> Refusal {
    let message = format!(
        "{service} takes no CONNECT; to allow it, write AllowConnect into its service-defaults entry"
    );
    Refusal::new(403, "connect-not-allowed", message)
}

impl Plan {
    /// Returns how long the head of the answer may take: after that its caller is gone, or the service
    /// shall have no longer.
    pub(super) fn limit(&self) -> Option<Duration> {
        let own = self.local.workload.snapshot.inbound.request_timeout;
        let told = self.told_timeout.map(|told| told.saturating_add(GRACE));
        [own, told].into_iter().flatten().min()
    }

    /// Takes note of the head of the answer to a request that came at `started`. Returns what the
    /// calling proxy is told of where the time went, if it wants to know.
    pub(super) fn answered(
        &self,
        started: Instant,
        each_header: impl Fn(&str, &mut dyn FnMut(&[u8])),
    ) -> Option<CalledLatency> {
        if let Some(pass) = &self.pass {
            pass.answered();
        }
        self.observed.answered(each_header);
        let (proxy, application) = self.observed.split(started)?;
        let latency = LatencySplit::called(proxy, application);
        self.local.inbound.spent(&latency);
        self.observed.spent(latency);
        latency.told().filter(|_| self.observed.is_asked())
    }
}

/// Lets a request in, unless there is too much to do.
pub(super) fn admitted(worker: &Worker) -> Result<InFlight, Refusal> {
    worker.load.admit().ok_or_else(overloaded)
}

fn overloaded() -> Refusal {
    let message = "the proxy of the service has more to do than it can: ask again later";
    Refusal::new(503, "overload", message).with_retry_after().unreached()
}

impl Preparation {
    /// Waits for what judging the request needs.
    pub(super) async fn run(
        self,
        request: &dyn WholeRequest,
        held: Option<Held>,
    ) -> Result<Edits, Refusal> {
        let Self { worker, mut local, providers, enquiry } = self;
        if !providers.is_empty() {
            token::wait_for_keys(&worker, local, providers, request).await;
            local = worker.current();
        }
        // Somebody may have been named while the keys were waited for.
        match &local.authoriser {
            Some(authoriser) => enquiry.ask(&local, authoriser, (request, held)).await,
            None => Ok(Edits::default()),
        }
    }
}

impl Enquiry {
    /// Asks about a request that intentions let through; of others nobody needs to know.
    async fn ask(
        self,
        local: &Local,
        authoriser: &Authoriser,
        (request, held): (&dyn WholeRequest, Option<Held>),
    ) -> Result<Edits, Refusal> {
        let Self(caller) = self;
        let (judge, snapshot) = (&local.workload.judge, &local.workload.snapshot);
        let standing = judge.standing(&caller.service);
        let is_by_content = judge.is_by_content(standing);
        let mut path = CanonicalPath::default();
        let read = path.read(request.path());
        let checked = match is_by_content {
            true => token::check(local, judge.providers(standing), request),
            false => Checked::default(),
        };
        let asked = Asked { request, path: read.map(|()| &path), tokens: &checked.tokens };
        let port = snapshot.inbound.local_app.port();
        let call = caller.call(port, is_by_content.then_some(asked));
        if !judge.evaluate(standing, &call).allowed {
            return Ok(Edits::default());
        }
        let forwarded = match is_by_content && read.is_ok() {
            true => path.as_bytes(),
            false => request.path(),
        };
        let question = Question::new(
            request,
            forwarded,
            (caller.address(), caller.id.to_string(), caller.service.to_string()),
            (snapshot.inbound.bind, snapshot.spiffe_id.to_string(), snapshot.service.to_string()),
        );
        let own = &snapshot.spiffe_id;
        let question = question.showing(element(own, &caller, ClientCertDetails::default()));
        let answer = match question.with_body(held, authoriser.holding()) {
            Ok(question) => authoriser.ask(&question, &local.inbound).await,
            Err(refusal) => Err(refusal),
        };
        if let (Err(refusal), Some(decisions)) = (&answer, &local.decisions) {
            let asking = caller.asking(&snapshot.service, Some((request.method(), forwarded)));
            decisions.tell(Verdict::Deny, asking, refusal.message.clone());
        }
        answer
    }
}

impl Hop for LocalApp {
    type Wire = net::TcpStream;
    type Plan = Plan;
    type Ready = Edits;

    const MESH_FIELDS: MeshFields = MeshFields::Strip;
    const FIELDS_MAX: usize = HTTP_HEADERS_MAX + MADE_FIELDS_MAX;

    fn holding(&mut self) -> Option<Holding> {
        let holding = self.wants_body();
        self.under_way.set_waiting(holding.is_some());
        holding
    }

    async fn ready(
        &mut self,
        request: RequestRef<'_>,
        held: Option<Held>,
    ) -> Result<Edits, Refusal> {
        let preparation = self.preparation();
        match preparation.is_nothing() {
            true => {
                self.under_way.set_waiting(false);
                Ok(Edits::default())
            }
            false => {
                self.under_way.set_waiting(true);
                let ready = Box::pin(preparation.run(&request, held)).await;
                self.under_way.set_waiting(false);
                ready
            }
        }
    }

    fn plan(
        &mut self,
        request: RequestRef<'_>,
        ready: Edits,
        out: &mut Vec<u8>,
    ) -> Result<Plan, Refusal> {
        let mut plan = self.admit(&request, ready)?;
        if plan.is_respelled && request.host().is_none() {
            // The host that it would get has not been judged.
            let message = "Host is missing, and requests of this caller are judged";
            return Err(Refusal::new(400, "bad-request", message));
        }
        if request.is_connect() && !self.local.workload.snapshot.inbound.allow_connect {
            return Err(connect_refused(&self.local.workload.snapshot.service));
        }
        if request.asks_timing() {
            plan.observed.ask();
        }
        self.under_way.set_alone(plan.kept.take());
        let writer = RequestWriter {
            edits: plan.edits.as_deref(),
            path: plan.is_respelled.then_some(self.path.as_bytes()),
            host_default: self.local.workload.snapshot.service.as_str().as_bytes(),
            added_lines: self.shown.line(),
            client_cert: self.shown.client_cert(),
            proto_line: PROTO_HTTPS,
            ..RequestWriter::default()
        };
        writer.write(request, out);
        Ok(plan)
    }

    async fn connect(
        &mut self,
        plan: &mut Plan,
        reuse: Reuse,
    ) -> Result<Lease<net::TcpStream>, Refusal> {
        plan.observed.hand();
        let app = plan.own.as_ref().map_or(&plan.local.app, |own| &own.http1);
        let mut lease = match reuse {
            Reuse::Allowed => app.lease_reused(),
            Reuse::Fresh => app.lease(),
        };
        if lease.wire.is_none() {
            let inbound = &plan.local.workload.snapshot.inbound;
            let limit = inbound.connect_timeout;
            let header = plan.own.as_ref().map(|own| own.header.as_slice());
            let connected =
                open_with(&inbound.local_app, limit, header).await.map_err(|error| {
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
        plan.limit()
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
        plan.answered(started, |name, visit| head.each_header(bytes, name, visit))
    }

    fn record(&mut self, plan: Option<&Plan>, outcome: &Outcome) {
        self.note(plan, outcome);
    }
}
