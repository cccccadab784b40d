//! Cluster DNS: answers for the cluster's domain from Services and EndpointSlices, and passes other questions on.
//!
//! [`zone`] is pure. It listens where it is told and answers those networks alone that it is told; it writes nothing to the API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_net::runtime::Time;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube_runtime::reflector::Store;
use proxy::follow::follow;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub mod forward;
pub mod zone;

use zone::{Found, Zone};

/// Settings of a cluster's DNS.
#[derive(Clone)]
pub struct Config {
    /// Client of the API server that may list and watch Services and EndpointSlices.
    pub client: Client,
    /// The cluster's domain.
    pub domain: String,
    /// Who is answered.
    pub clients: Vec<IpNet>,
    /// Who knows other domains.
    pub upstreams: Vec<SocketAddr>,
}

/// The sockets of a server, by the same address.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds to a free port of an address, the same in both protocols.
    ///
    /// # Errors
    /// When the address is not this machine's or has no such port.
    pub async fn bind(address: IpAddr) -> std::io::Result<Self> {
        let mut last = None;
        for _ in 0..16 {
            let udp = UdpSocket::bind((address, 0)).await?;
            match TcpListener::bind(udp.local_addr()?).await {
                Ok(tcp) => return Ok(Self { udp, tcp }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
    }

    /// Where they listen.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait in one connection.
const WAITING: usize = 64;
/// Least time between two makings of the zone.
const INTERVAL: Duration = Duration::from_millis(100);
/// Aliases followed within the cluster for one question.
const ALIASES: usize = 8;

/// Answers until `stop`. Before Services are known for the first time, it answers that it cannot.
pub async fn run(config: Config, sockets: Sockets, stop: CancellationToken) {
    let zone = Arc::new(ArcSwap::from_pointee(None));
    let mut server = Server::with_access(
        Handler { zone: Arc::clone(&zone), upstreams: config.upstreams.clone() },
        ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse().ok()),
        config.clients.iter().copied(),
    );
    server.register_socket(sockets.udp);
    server.register_listener(sockets.tcp, IDLE, WAITING);
    let changed = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    let services: Store<Service> = follow(&mut tasks, &config.client, &changed, &stop);
    let slices: Store<EndpointSlice> = follow(&mut tasks, &config.client, &changed, &stop);
    let keep = async {
        if services.wait_until_ready().await.is_err() || slices.wait_until_ready().await.is_err() {
            return;
        }
        loop {
            zone.store(Arc::new(Some(Zone::new(&config.domain, &services.state(), &slices.state()))));
            tokio::time::sleep(INTERVAL).await;
            changed.notified().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keep => {}
    }
    if let Err(error) = server.shutdown_gracefully().await {
        tracing::debug!(%error, "the DNS server ended badly");
    }
    while tasks.join_next().await.is_some() {}
}

struct Handler {
    zone: Arc<ArcSwap<Option<Zone>>>,
    upstreams: Vec<SocketAddr>,
}

/// An answer before it is written.
#[derive(Default)]
struct Answer {
    code: ResponseCode,
    own: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Answer {
    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Handler {
    async fn answer(&self, query: &Query) -> Answer {
        let zone = self.zone.load_full();
        let Some(zone) = zone.as_ref() else { return Answer::code(ResponseCode::ServFail) };
        let mut out = Answer { own: true, ..Answer::default() };
        let (mut name, kind) = (query.name().clone(), query.query_type());
        for _ in 0..ALIASES {
            match zone.find(&name, kind) {
                Found::Records(records) => {
                    let alias = alias(&records, kind);
                    out.additionals.extend(records.iter().flat_map(|record| targets(zone, record)));
                    out.answers.extend(records);
                    let Some(next) = alias else { break };
                    name = next;
                }
                Found::Nothing => {
                    if out.answers.is_empty() {
                        out.code = ResponseCode::NXDomain;
                    }
                    break;
                }
                Found::Elsewhere if out.answers.is_empty() => return self.forward(query).await,
                Found::Elsewhere => {
                    // The alias leads out of the cluster: what is there belongs to the answer.
                    let mut rest = self.forward(&Query::query(name, kind)).await;
                    out.answers.append(&mut rest.answers);
                    break;
                }
            }
        }
        if out.answers.is_empty() {
            out.authorities.push(zone.authority());
        }
        out
    }

    async fn forward(&self, query: &Query) -> Answer {
        let Some(answer) = forward::ask(&self.upstreams, query).await else {
            return Answer::code(ResponseCode::ServFail);
        };
        Answer {
            code: answer.metadata.response_code,
            own: false,
            answers: answer.answers,
            authorities: answer.authorities,
            additionals: answer.additionals,
        }
    }
}

/// Where an alias leads, when not the alias itself was asked for.
fn alias(records: &[Record], kind: RecordType) -> Option<Name> {
    let target = records.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    });
    target.filter(|_| kind != RecordType::CNAME && kind != RecordType::ANY)
}

/// The addresses of what a port's record names.
fn targets(zone: &Zone, record: &Record) -> Vec<Record> {
    let RData::SRV(port) = &record.data else { return Vec::new() };
    let kinds = [RecordType::A, RecordType::AAAA];
    let found = kinds.map(|kind| match zone.find(&port.target, kind) {
        Found::Records(records) => records,
        Found::Nothing | Found::Elsewhere => Vec::new(),
    });
    found.concat()
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let query = match request.request_info() {
            Ok(info) if info.metadata.op_code == OpCode::Query => Some(info.query.original().clone()),
            _ => None,
        };
        let answer = match &query {
            Some(query) => self.answer(query).await,
            None => Answer::code(ResponseCode::NotImp),
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.own;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::default();
            edns.set_max_payload(asked.max_payload());
            edns
        });
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &answer.answers,
            &answer.authorities,
            &[],
            &answer.additionals,
        );
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer was not sent");
                let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
