//! The connections that are open: how many there may be, and which one goes when another wants in. It is the one that has been idle for longest.
//!
//! Never ends a connection with a request in progress; where all have one, newcomers wait.

use super::bridge::WireBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection over which nothing is asked stays open; upstream's `IdleTimeout`.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Of connections that are idle this part goes at once, so that a flood does not cost a look at all of them for each newcomer.
const PART: usize = 64;
/// How long a newcomer waits before it is looked again who is idle.
const AGAIN: Duration = Duration::from_millis(100);

/// What is known of one connection.
pub(super) struct Use {
    began: Instant,
    /// Requests in progress, their answers included.
    busy: AtomicU32,
    /// Milliseconds after the beginning at which the last one ended.
    since: AtomicU64,
    leave: Notify,
}

impl Use {
    fn new() -> Arc<Use> {
        Arc::new(Use { began: Instant::now(), busy: AtomicU32::new(0), since: AtomicU64::new(0), leave: Notify::new() })
    }

    /// A request is in progress for as long as the value lives.
    pub(super) fn begin(self: &Arc<Use>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Since when nothing has been asked; none while something is.
    fn idle_since(&self) -> Option<Instant> {
        let since = self.began + Duration::from_millis(self.since.load(Ordering::Relaxed));
        (self.busy.load(Ordering::Relaxed) == 0).then_some(since)
    }

    /// Whether nothing is asked at the moment.
    pub(super) fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Returns when nothing has been asked for `IDLE`.
    pub(super) async fn idled(&self) {
        loop {
            let until = match self.idle_since() {
                Some(since) if since.elapsed() >= IDLE => return,
                Some(since) => since + IDLE,
                None => Instant::now() + IDLE,
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// Returns when another connection wants the place of this one.
    pub(super) async fn unwanted(&self) {
        self.leave.notified().await;
    }
}

/// A request in progress.
pub(crate) struct Busy(Arc<Use>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.since.store(now, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Busy {
    /// An answer that is in progress until its body has gone.
    pub(super) fn with(self, body: WireBody) -> Answering {
        Answering { body, _busy: self }
    }
}

/// A body that keeps its connection in use.
pub(crate) struct Answering {
    body: WireBody,
    _busy: Busy,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// All connections of a listener.
pub(crate) struct Connections {
    most: usize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Use>>,
}

/// The place of one that is open.
pub(crate) struct Place {
    all: Arc<Connections>,
    number: u64,
    used: Arc<Use>,
}

impl Place {
    /// What is known of it.
    pub(super) fn used(&self) -> &Arc<Use> {
        &self.used
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open.lock().all.remove(&self.number);
        self.all.left.notify_one();
    }
}

impl Connections {
    /// So many may be open at once; none for as many as come.
    pub(crate) fn new(most: Option<usize>) -> Arc<Connections> {
        let most = most.map_or(usize::MAX, |most| most.max(1));
        Arc::new(Connections { most, open: Mutex::default(), left: Notify::new() })
    }

    /// A place, where there is one.
    fn take(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open.lock();
        if open.all.len() >= self.most {
            return None;
        }
        let (number, used) = (open.next, Use::new());
        open.next += 1;
        open.all.insert(number, Arc::clone(&used));
        Some(Place { all: Arc::clone(self), number, used })
    }

    /// Asks those to leave that have been idle for longest; how many those are.
    fn make_room(&self) -> usize {
        let mut idle: Vec<(Instant, Arc<Use>)> = {
            let open = self.open.lock();
            open.all.values().filter_map(|used| Some((used.idle_since()?, Arc::clone(used)))).collect()
        };
        idle.sort_unstable_by_key(|(since, _)| *since);
        let some = idle.len().div_ceil(PART);
        for (_, used) in idle.iter().take(some) {
            used.leave.notify_one();
        }
        some
    }

    /// A place, as soon as there is one.
    pub(crate) async fn enter(self: &Arc<Self>) -> Place {
        let mut told = false;
        loop {
            if let Some(place) = self.take() {
                return place;
            }
            let asked = self.make_room();
            if !told {
                told = true;
                tracing::debug!(most = self.most, asked, "as many connections are open as may be");
            }
            let _ = tokio::time::timeout(AGAIN, self.left.notified()).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::testing::World;
    use crate::transport::unjudged_client_config;
    use api::json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    async fn connect(world: &World) -> TlsStream<TcpStream> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(unjudged_client_config(None).unwrap()));
        let tcp = TcpStream::connect(world.running.address()).await.unwrap();
        connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
    }

    async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come.
    async fn until(stream: &mut TlsStream<TcpStream>, text: &str) {
        let (mut seen, mut buffer) = (String::new(), vec![0; 4096]);
        while !seen.contains(text) {
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no {text} in {seen}")).unwrap();
            assert!(read > 0, "no {text} in {seen}, which has ended");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_of_idle_connections_shuts_nobody_out() {
        const MOST: usize = 8;
        const FLOOD: usize = 60;
        let world = World::start(|config| {
            config.serving.max_connections = Some(MOST);
            config.token_file = Some("secret,root,1,\"system:masters\"".to_owned());
        })
        .await;
        let mut watch = connect(&world).await;
        ask(&mut watch, "/api/v1/namespaces?watch=1&timeoutSeconds=120").await;
        until(&mut watch, "\"name\":\"default\"").await;
        let mut idle = Vec::new();
        for _ in 0..FLOOD {
            idle.push(tokio::time::timeout(Duration::from_secs(20), connect(&world)).await.unwrap());
        }
        let mut fresh = connect(&world).await;
        ask(&mut fresh, "/version").await;
        until(&mut fresh, "gitVersion").await;
        // Who waits for events is in the midst of a request.
        let root = User::new("root", &["system:masters"]);
        let object = json!({"metadata": {"name": "late"}});
        assert_eq!(world.ask(&root, "POST", "/api/v1/namespaces", &object).await.0, 201);
        until(&mut watch, "\"name\":\"late\"").await;
        let mut ended = 0;
        for stream in &mut idle {
            let gone = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 64])).await;
            ended += usize::from(gone.is_ok());
        }
        assert!(ended >= FLOOD - MOST, "{ended} of {FLOOD} have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_for_longest_makes_room() {
        let all = Connections::new(Some(3));
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(all.enter().await);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // The first has a request in progress, the second had one last.
        let busy = places[0].used().begin();
        drop(places[1].used().begin());
        let leaving = Arc::clone(places[2].used());
        let newcomer = tokio::spawn({
            let all = Arc::clone(&all);
            async move { all.enter().await }
        });
        leaving.unwanted().await;
        drop(places.remove(2));
        let newcomer = newcomer.await.unwrap();
        assert_eq!(all.open.lock().all.len(), 3);
        // Where all are busy, newcomers wait until one has ended.
        let others = [places[1].used().begin(), newcomer.used().begin()];
        assert!(tokio::time::timeout(Duration::from_secs(60), all.enter()).await.is_err());
        let late = tokio::spawn({
            let all = Arc::clone(&all);
            async move { all.enter().await }
        });
        drop(busy);
        places[0].used().unwanted().await;
        drop(places.remove(0));
        drop(late.await.unwrap());
        drop((others, newcomer));
    }

    #[tokio::test(start_paused = true)]
    async fn many_idle_ones_go_together() {
        let all = Connections::new(Some(640));
        let mut places = Vec::new();
        for _ in 0..640 {
            places.push(all.enter().await);
        }
        assert_eq!(all.make_room(), 10);
        let busy: Vec<Busy> = places.iter().skip(1).map(|place| place.used().begin()).collect();
        assert_eq!(all.make_room(), 1);
        drop(busy);
        // Without a bound nobody has to go.
        let all = Connections::new(None);
        let places = [all.enter().await, all.enter().await];
        assert!(places.iter().all(|place| place.used().is_idle()));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_asked_for_long_is_idle() {
        let used = Use::new();
        let began = Instant::now();
        used.idled().await;
        assert_eq!(began.elapsed().as_secs(), 90);
        // From the end of the last request on, however long it took.
        let busy = used.begin();
        let ends = async {
            tokio::time::sleep(Duration::from_secs(500)).await;
            drop(busy);
        };
        tokio::join!(ends, used.idled());
        assert_eq!(began.elapsed().as_secs(), 90 + 500 + 90);
    }
}
