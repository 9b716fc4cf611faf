//! A server for tests: answers watches from a table that the test fills, and signs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};
use weft_core::ca::TrustBundle;
use weft_core::time::Timestamp;
use weft_proto::envelope;
use weft_proto::grpc::v1::ca_server::{Ca, CaServer};
use weft_proto::grpc::v1::watch_event::Answer;
use weft_proto::grpc::v1::watch_request;
use weft_proto::grpc::v1::watch_server::{Watch, WatchServer};
use weft_proto::grpc::v1::{
    RenewRequest, SignLeafRequest, SignReply, Topic, WatchEvent, WatchRequest, WatchStart,
};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{certificates_from_pem, fingerprint};
use weft_runtime::{clock, net};

use crate::grpc::Calls;

type Table = BTreeMap<(i32, String), (u64, Answer)>;

/// The server; clones share it.
#[derive(Clone)]
pub(crate) struct FakeServer {
    values: Arc<watch::Sender<Table>>,
    open: Arc<Mutex<BTreeMap<(i32, String), usize>>>,
    pub(crate) ca: Arc<FakeCa>,
    /// What was asked for, in order.
    pub(crate) starts: Arc<Mutex<Vec<WatchStart>>>,
    /// The streams.
    tasks: Arc<Mutex<TaskTree>>,
    is_dead: Arc<AtomicBool>,
    /// Streams opened so far, and whether each one ends as soon as it is open.
    pub(crate) opened: Arc<AtomicUsize>,
    pub(crate) is_short: Arc<AtomicBool>,
}

/// Signs whatever it is asked to.
pub(crate) struct FakeCa {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) root_pem: String,
    /// How long certificates are valid.
    pub(crate) lifetime: Mutex<Duration>,
    /// Why nothing is signed now.
    pub(crate) refusal: Mutex<Option<Status>>,
}

impl Default for FakeCa {
    fn default() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_pem = params.self_signed(&key).expect("a root").pem();
        let issuer = rcgen::Issuer::new(params, key);
        let (lifetime, refusal) = (Mutex::new(Duration::from_secs(3600)), Mutex::default());
        Self { issuer, root_pem, lifetime, refusal }
    }
}

impl FakeCa {
    /// Returns what trusts the certificates.
    pub(crate) fn bundle(&self) -> TrustBundle {
        let root = certificates_from_pem("root", &self.root_pem).expect("a root");
        TrustBundle {
            trust_domain: "t.mesh".parse().expect("a trust domain"),
            active_root: fingerprint(&root[0]),
            roots: Vec::new(),
            roots_pem: vec![self.root_pem.clone()],
            revoked: Vec::new(),
            retired: Vec::new(),
        }
    }
}

impl FakeServer {
    /// Starts listening.
    pub(crate) async fn start() -> (Self, Calls) {
        let server = Self {
            values: Arc::default(),
            open: Arc::default(),
            ca: Arc::default(),
            starts: Arc::default(),
            tasks: Arc::new(Mutex::new(TaskTree::root("fake-server"))),
            is_dead: Arc::default(),
            opened: Arc::default(),
            is_short: Arc::default(),
        };
        let address = server.listen().await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        let channel = endpoint.connect_lazy();
        (server, Calls::new(move || channel.clone()))
    }

    /// Ends every stream and refuses new ones.
    pub(crate) fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        std::mem::replace(&mut *self.tasks.lock(), TaskTree::root("fake-server")).abort();
        self.open.lock().clear();
    }

    /// Takes streams again.
    pub(crate) fn restart(&self) {
        self.is_dead.store(false, Ordering::SeqCst);
    }

    pub(crate) fn set<T: Serialize>(&self, topic: Topic, key: &str, value: &T) {
        self.put(topic, key, Answer::Value(envelope::encode(value)));
    }

    pub(crate) fn set_problem(&self, topic: Topic, key: &str, problem: &str) {
        self.put(topic, key, Answer::Problem(problem.to_owned()));
    }

    /// Returns how many streams watch the thing.
    pub(crate) fn watchers(&self, topic: Topic, key: &str) -> usize {
        self.open.lock().get(&(topic.into(), key.to_owned())).copied().unwrap_or_default()
    }

    fn put(&self, topic: Topic, key: &str, answer: Answer) {
        let newest = self.values.borrow().values().map(|(index, _)| *index).max();
        self.put_at(newest.unwrap_or_default() + 1, (topic, key), answer);
    }

    /// Answers with something at an index.
    pub(crate) fn put_at(&self, index: u64, (topic, key): (Topic, &str), answer: Answer) {
        self.values.send_modify(|values| {
            values.insert((topic.into(), key.to_owned()), (index, answer));
        });
    }

    fn check_alive(&self) -> Result<(), Status> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(Status::unavailable("killed"));
        }
        Ok(())
    }

    async fn listen(&self) -> SocketAddr {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = net::bind_tcp(any).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let router = tonic::transport::Server::builder()
            .add_service(WatchServer::new(self.clone()))
            .add_service(CaServer::new(self.clone()));
        TaskTree::root("fake-listener").spawn("serve", async move {
            let served = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
            served.expect("the fake server serves");
        });
        address
    }
}

#[tonic::async_trait]
impl Watch for FakeServer {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.check_alive()?;
        self.opened.fetch_add(1, Ordering::SeqCst);
        if self.is_short.load(Ordering::SeqCst) {
            return Ok(Response::new(Box::pin(futures::stream::empty())));
        }
        let (sender, receiver) = mpsc::channel(16);
        self.tasks.lock().spawn("stream", answer(self.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl Ca for FakeServer {
    async fn sign_leaf(
        &self,
        request: Request<SignLeafRequest>,
    ) -> Result<Response<SignReply>, Status> {
        self.check_alive()?;
        if let Some(refusal) = &*self.ca.refusal.lock() {
            return Err(refusal.clone());
        }
        let SignLeafRequest { service, csr_der } = request.into_inner();
        let mut csr = rcgen::CertificateSigningRequestParams::from_der(&csr_der[..].into())
            .expect("agents send good requests");
        let (now, lifetime) = (clock::wall(), *self.ca.lifetime.lock());
        let before = now.saturating_add(lifetime);
        let date =
            |moment: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(moment.0);
        csr.params.not_before = date(now.saturating_sub(Duration::from_secs(1)));
        csr.params.not_after = date(before);
        let uri = format!("spiffe://t.mesh/ns/default/dc/dc1/svc/{service}");
        let uri = uri.try_into().expect("names are ASCII");
        csr.params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        csr.params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        csr.params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(Response::new(SignReply {
            certificate_pem: csr.signed_by(&self.ca.issuer).expect("a certificate").pem(),
            valid_after_ms: now.0,
            valid_before_ms: before.0,
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<SignReply>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

async fn answer(
    server: FakeServer,
    mut requests: Streaming<WatchRequest>,
    sender: mpsc::Sender<Result<WatchEvent, Status>>,
) {
    let mut values = server.values.subscribe();
    let mut started: BTreeMap<u64, ((i32, String), u64)> = BTreeMap::new();
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(WatchRequest { request: Some(watch_request::Request::Start(start)) })) => {
                    server.starts.lock().push(start.clone());
                    let key = (start.topic, start.key);
                    *server.open.lock().entry(key.clone()).or_default() += 1;
                    started.insert(start.id, (key, 0));
                }
                Some(Ok(WatchRequest { request: Some(watch_request::Request::Stop(stop)) })) => {
                    let (key, _) = started.remove(&stop.id).expect("only what started is stopped");
                    *server.open.lock().entry(key).or_default() -= 1;
                }
                Some(Ok(WatchRequest { request: None })) => panic!("an empty request"),
                Some(Err(_)) | None => return,
            },
            changed = values.changed() => changed.expect("the table lives as long as the server"),
        }
        let table = values.borrow_and_update().clone();
        for (id, (key, seen)) in &mut started {
            // As a real server: a service that nobody registered has no instances.
            let none = (1, Answer::Value(envelope::encode(&Vec::<u8>::new())));
            let has_answer_always = [Topic::Service, Topic::Connect].map(i32::from);
            let fallback = has_answer_always.contains(&key.0).then_some(&none);
            let newest = table.get(key).or(fallback);
            if let Some((index, answer)) = newest.filter(|(index, _)| *index > *seen) {
                *seen = *index;
                let event = WatchEvent { id: *id, index: *index, answer: Some(answer.clone()) };
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        }
    }
}
