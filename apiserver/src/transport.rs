//! Connections: TLS, HTTP/1.1 and HTTP/2 by hyper, requests handed to an actix-web `App` on a fixed set of workers.
//!
//! Each worker is one thread with a current-thread runtime, so handlers need not be `Send`. Calls from inside the process
//! enter the same `App` through a channel, without a socket. Never looks into a request.

mod bridge;
mod connections;
mod going;
mod local;
mod spread;
mod tls;

pub(crate) use bridge::Upgrade;
pub use bridge::{Headers, Peer, Trusted};
pub(crate) use connections::{Connections, Place, Session};
pub(crate) use going::Going;
pub use local::{InProcess, LocalCall};
pub use tls::{
    Identity, Named, TlsError, TlsOptions, TlsSettings, client_config, server_config, unjudged_client_config,
    with_identity,
};

use self::going::{Limited, Streams};
use self::spread::{InHand, Load, Own};
use crate::road;
use crate::server::Server;
use actix_service::{IntoServiceFactory as _, Service as _, ServiceFactory as _};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use futures::FutureExt as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Bytes that a stream of HTTP/2 holds for a client that does not read, about.
const BUFFER: usize = 192 * 1024;
/// How long the head of a request may take, from the end of the one before (upstream's `ReadHeaderTimeout`).
const HEAD_WITHIN: Duration = Duration::from_secs(32);
/// How long a connection that nobody uses has to hear that it ends.
const PARTING: Duration = Duration::from_secs(1);
/// Bytes of a head, as upstream's library has it. Over HTTP/1.1 the library has one bound for the head and for what a connection holds for a
/// client that does not read.
const LARGEST_HEAD: u32 = 1 << 20;
/// How long a client may be silent before it is asked whether it is there: one that is gone without a word must not keep its place. Upstream's.
const ALIVE: Duration = Duration::from_secs(180);
/// Headers of a request over HTTP/1.1. Upstream has no bound but the bytes.
const MOST_HEADERS: usize = 500;

/// What a worker is given to do.
pub(crate) enum Work {
    /// A fresh TCP connection, and its place among those that may be open. It belongs to no runtime: one that stayed with that of the
    /// listener would be woken through a thread of it for every request.
    Connection(std::net::TcpStream, SocketAddr, Place, InHand),
    /// A call from inside the process.
    Call(Box<LocalCall>),
    /// A stream of another worker's connection.
    Stream(Box<spread::Stream>),
}

/// Senders to the workers, one each.
#[derive(Clone)]
pub(crate) struct Workers {
    senders: Arc<[mpsc::UnboundedSender<Work>]>,
    load: Load,
    /// Connections of each.
    open: Load,
    ended: CancellationToken,
}

impl Workers {
    /// Starts `count` worker threads that serve until the server has been drained.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub(crate) fn start(count: usize, server: &Arc<Server>) -> std::io::Result<Workers> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let ended = CancellationToken::new();
        let last = Arc::new(ended.clone().drop_guard());
        let workers = Workers { senders: senders.into(), load: Load::of(count), open: Load::of(count), ended };
        for (index, receiver) in receivers.into_iter().enumerate() {
            let (server, last) = (Arc::clone(server), Arc::clone(&last));
            let own = Own { at: index, workers: workers.clone() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("api-{index}")).spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, work(receiver, own, server));
                // What its tasks held goes with them.
                drop((local, runtime, last));
            })?;
        }
        Ok(workers)
    }

    /// Hands work to the worker whose turn it is; dropped after the workers have stopped.
    pub(crate) fn give(&self, turn: usize, work: Work) {
        if let Some(worker) = self.senders.get(turn % self.senders.len().max(1)) {
            // After shutdown nobody listens; the caller sees its channel or socket close.
            let _ = worker.send(work);
        }
    }

    /// Returns when all have ended, with the requests that they had.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// Has the kernel ask the other side of a connection that is silent for so long whether it is there, and end it where it is not. What a
/// listener accepts is asked like itself.
pub(crate) fn keep_alive(socket: &impl std::os::fd::AsFd, silent: Duration) {
    let seconds = u32::try_from(silent.as_secs()).unwrap_or(u32::MAX);
    let set = setsockopt(socket, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(socket, sockopt::TcpKeepIdle, &seconds))
        .and_then(|()| setsockopt(socket, sockopt::TcpKeepInterval, &seconds));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection is not asked whether it is alive");
    }
}

/// Accepts connections until `stop` and spreads them over the workers. One that has no place yet waits, others behind it in the backlog.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: Workers,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    let mut turn = 0_usize;
    keep_alive(&listener, ALIVE);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                let place = tokio::select! {
                    () = stop.cancelled() => return,
                    place = connections.enter() => place,
                };
                turn = turn.wrapping_add(1);
                // Not by turns alone: where every second connection lasts, as a watch does, one worker would have them all.
                let worker = workers.open.least(turn);
                workers.give(worker, Work::Connection(stream, peer, place, workers.open.take(worker)));
            }
            // Out of descriptors: the backlog holds the clients until some are closed.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn work(mut receiver: mpsc::UnboundedReceiver<Work>, own: Own, server: Arc<Server>) {
    let app = App::new().app_data(web::Data::from(Arc::clone(&server))).default_service(web::route().to(road::travel));
    let service = match app.into_factory().new_service(AppConfig::default()).await {
        Ok(service) => Rc::new(service),
        Err(()) => {
            tracing::error!("the router could not be built");
            return;
        }
    };
    let mut open = tokio::task::JoinSet::new();
    loop {
        let work = tokio::select! {
            () = server.ends.drained.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            work = receiver.recv() => match work { Some(work) => work, None => break },
        };
        let service = Rc::clone(&service);
        match work {
            Work::Connection(stream, peer, place, counted) => {
                let rules = (server.config.serving.goaway_chance, server.config.serving.streams);
                let (acceptor, stop) = (TlsAcceptor::from(server.tls.load_full()), server.ends.closing().clone());
                let own = own.clone();
                open.spawn_local(async move {
                    let place = Arc::new(place);
                    if let Err(error) = connection((stream, peer, &place), acceptor, service, own, rules, stop).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    drop(counted);
                });
            }
            Work::Stream(stream) => {
                open.spawn_local(spread::answer(*stream, service));
            }
            Work::Call(call) => {
                let in_hand = own.workers.load.take(own.at);
                open.spawn_local(async move {
                    let LocalCall { request, user, reply } = *call;
                    let request = bridge::from_local(request, user);
                    let response = service.call(request).await;
                    drop(in_hand);
                    match response {
                        Ok(response) => local::answer(response, reply).await,
                        Err(error) => tracing::error!(%error, "a handler failed outside the road"),
                    }
                });
            }
        }
    }
    // Answers that have been made get a moment to go; watches end with their connection.
    let _ = tokio::time::timeout(Duration::from_secs(2), async { while open.join_next().await.is_some() {} }).await;
}

async fn connection<S, B>(
    (stream, peer, place): (std::net::TcpStream, SocketAddr, &Arc<Place>),
    acceptor: TlsAcceptor,
    service: Rc<S>,
    own: Own,
    (goaway, streams): (f64, u32),
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: actix_service::Service<
            actix_http::Request,
            Response = actix_web::dev::ServiceResponse<B>,
            Error = actix_web::Error,
        > + 'static,
    B: actix_web::body::MessageBody + 'static,
{
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let used = place.used();
    let stream = tokio::select! {
        stream = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)) => stream??,
        () = used.unwanted() => return Ok(()),
    };
    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let peer = Rc::new(Peer { address: Some(peer), certificates });
    let own = Rc::new(own);
    // Now and then a client of HTTP/2 is asked to connect anew, so that its requests spread over all servers.
    let leave = Rc::new(tokio::sync::Notify::new());
    let leaving = Rc::clone(&leave);
    let held = Arc::clone(place);
    // Over HTTP/1.1 one answer goes at a time, and where it does not go nothing else can.
    let (streams_of, only) = (Streams::default(), (!second).then(Arc::<Going>::default));
    let (next, one) = (streams_of.clone(), only.clone());
    let serve = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        if goaway > 0.0 && request.version() == http::Version::HTTP_2 && rand::random::<f64>() < goaway {
            leaving.notify_one();
        }
        let (service, peer, own, busy) = (Rc::clone(&service), Rc::clone(&peer), Rc::clone(&own), held.used().begin());
        let going = one.clone().unwrap_or_else(|| next.next());
        going.over();
        // In boxes, which go when the answer begins: the library keeps room for them as long as a stream lasts, and watches last.
        let answer = match own.elsewhere(&request) {
            Some(worker) => own.hand_over(worker, request, &peer, &going).come().boxed_local(),
            None => {
                // From now on, so that what waits for its turn counts as well.
                let in_hand = own.workers.load.take(own.at);
                let request = bridge::from_hyper(request, &peer, Some(&held), &going);
                async move {
                    let response = service.call(request).await;
                    drop(in_hand);
                    bridge::to_hyper(response)
                }
                .boxed_local()
            }
        };
        let leaving = second.then(|| Rc::clone(&leaving));
        async move {
            let answer = answer.await?;
            if let Some(leaving) = leaving.filter(|_| going.is_last()) {
                leaving.notify_one();
            }
            Ok::<_, std::io::Error>(answer.map(|body| busy.with(body, going)))
        }
    });
    // As upstream: HTTP/2 is agreed upon in the handshake or not spoken. Nobody is waited for who never says which it is.
    let builder = hyper_util::server::conn::auto::Builder::new(streams_of);
    let mut builder = if second { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LARGEST_HEAD as usize)
        .max_headers(MOST_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(LARGEST_HEAD)
        .max_concurrent_streams(streams)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = Limited::new(builder.serve_connection_with_upgrades(TokioIo::new(stream), serve), only);
    tokio::pin!(connection);
    let ended = |done: Option<_>| done.unwrap_or_else(|| Err("an answer was not read in its time".into()));
    let unwanted = tokio::select! {
        done = connection.as_mut() => return ended(done),
        () = stop.cancelled() => false,
        () = leave.notified() => false,
        // As upstream, which over HTTP/1.1 waits as long: there the next head has to come sooner.
        () = used.idled() => true,
        () = used.unwanted() => true,
    };
    connection.as_mut().work().graceful_shutdown();
    if unwanted {
        // A client that does not listen is not waited for, unless it has asked for something meanwhile.
        match tokio::time::timeout(PARTING, connection.as_mut()).await {
            Ok(done) => return ended(done),
            Err(_) if used.is_idle() => return Ok(()),
            Err(_) => {}
        }
    }
    tokio::select! {
        done = connection.as_mut() => return ended(done),
        () = stop.cancelled() => connection.as_mut().work().graceful_shutdown(),
    }
    ended(connection.await)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::testing::World;
    use api::json::{Value, json};
    use bytes::Bytes;
    use futures::future::join_all;
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::TokioExecutor;

    /// One connection of HTTP/2 to a server of two workers.
    async fn connect(world: &World) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let mut config = unjudged_client_config(None).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(world.running.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        sender
    }

    #[tokio::test]
    async fn who_is_gone_without_a_word_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_alive(&listener, ALIVE);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let asked = nix::sys::socket::getsockopt(&accepted, sockopt::KeepAlive).unwrap();
        let after = nix::sys::socket::getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap();
        assert_eq!((asked, after), (true, 180));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn streams_of_one_connection_are_answered_by_all_workers() {
        let world = World::start(|config| {
            config.workers = 2;
            config.token_file = Some("secret,root,1,\"system:masters\"\n".to_owned());
        })
        .await;
        let connection = connect(&world).await;
        let ask = async |method: &str, path: String, body: Value| {
            let request = http::Request::builder().method(method).header("authorization", "Bearer secret");
            let request = request.header("content-type", "application/json").uri(format!("https://localhost{path}"));
            let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
            let answer = connection.clone().send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
            let code = answer.status().as_u16();
            let length = answer.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(length.is_none_or(|length| length == bytes.len().to_string()));
            (code, api::json::from_slice::<Value>(&bytes).unwrap())
        };
        const MAPS: &str = "/api/v1/namespaces/default/configmaps";
        // Larger than what a stream or a connection may have on its way.
        let text = "x".repeat(100_000);
        let create = |number: usize| {
            let object = json!({"metadata": {"name": format!("m{number}")}, "data": {"text": text.clone()}});
            ask("POST", MAPS.to_owned(), object)
        };
        // Where the first worker is quick, or the second one has no processor, one of them may do them all.
        let handed = || spread::HANDED.load(std::sync::atomic::Ordering::Relaxed);
        let (before, mut made) = (handed(), 0);
        while handed() == before {
            assert!(made < 1280, "one worker did all of it");
            for (code, object) in join_all((made..made + 64).map(create)).await {
                assert_eq!((code, object.pointer("/data/text").and_then(Value::as_str)), (201, Some(&*text)), "{code}");
            }
            made += 64;
        }
        // Refusals come back as well.
        let again = join_all((0..64).map(create)).await;
        assert!(again.iter().all(|(code, status)| *code == 409 && status["reason"] == "AlreadyExists"), "{again:?}");
        let (code, list) = ask("GET", MAPS.to_owned(), Value::Null).await;
        assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(made)));
        let (code, _) = ask("DELETE", MAPS.to_owned(), Value::Null).await;
        assert_eq!(code, 200);
    }
}
