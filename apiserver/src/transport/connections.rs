//! The connections that are open: how many there may be, and which one goes when another wants in. It is the one that has been idle for longest.
//!
//! One that was taken over (`exec`, `portforward`) keeps its place until its session ends. As it may last for days and has a second connection
//! behind it, only few may be, and nobody may have as many as are left for others. Never ends a connection with a request in progress or one that was
//! taken over; where all are that, newcomers wait.

use super::bridge::WireBody;
use super::going::Going;
use api::status::Status;
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
    pub(super) fn with(self, body: WireBody, going: Arc<Going>) -> Answering {
        Answering { body, _busy: self, going }
    }
}

/// A body that keeps its connection in use.
pub(crate) struct Answering {
    body: WireBody,
    _busy: Busy,
    going: Arc<Going>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.going.over();
    }
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
    most_sessions: usize,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Use>>,
    sessions: Sessions,
}

/// Connections that were taken over, by the name of who did it.
#[derive(Default)]
struct Sessions {
    all: usize,
    by_user: HashMap<String, usize>,
}

impl Sessions {
    /// One more, of at most so many: nobody has more than are left. Whoever takes all that one may leaves half of the rest to the next, so that
    /// a flood of one user's shuts nobody else out.
    fn take(&mut self, user: &str, most: usize) -> bool {
        let own = self.by_user.get(user).copied().unwrap_or(0);
        if own >= most.saturating_sub(self.all) {
            return false;
        }
        self.all += 1;
        *self.by_user.entry(user.to_owned()).or_default() += 1;
        true
    }

    fn give_back(&mut self, user: &str) {
        self.all -= 1;
        if let Some(own) = self.by_user.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                self.by_user.remove(user);
            }
        }
    }
}

/// A connection that is taken over, or is about to be: it has its place for as long as the value lives.
pub(crate) struct Session {
    place: Arc<Place>,
    user: String,
    _busy: Busy,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.place.all.open.lock().sessions.give_back(&self.user);
    }
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

    /// Has the connection taken over for a user.
    ///
    /// # Errors
    /// 429 where too many are, or too many of this user's.
    pub(super) fn session(self: &Arc<Self>, user: &str) -> Result<Session, Status> {
        if !self.all.open.lock().sessions.take(user, self.all.most_sessions) {
            tracing::info!(user, most = self.all.most_sessions, "as many connections are taken over as may be");
            return Err(Status::too_many_requests("too many connections are taken over, please try again later", 1));
        }
        Ok(Session { place: Arc::clone(self), user: user.to_owned(), _busy: self.used.begin() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open.lock().all.remove(&self.number);
        self.all.left.notify_one();
    }
}

impl Connections {
    /// So many may be open at once, and so many of those be taken over; none for as many as come.
    pub(crate) fn new(most: Option<usize>, most_sessions: Option<usize>) -> Arc<Connections> {
        let bound = |most: Option<usize>| most.map_or(usize::MAX, |most| most.max(1));
        let (most, most_sessions) = (bound(most), bound(most_sessions));
        Arc::new(Connections { most, most_sessions, open: Mutex::default(), left: Notify::new() })
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

    /// A backend that agrees to whatever its connection is to become, and then repeats what it hears.
    async fn agreeable() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
                    stream.write_all(agreed).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn connections_that_were_taken_over_count_and_stay() {
        const MOST: usize = 8;
        const FLOOD: usize = 30;
        let world = World::start(|config| {
            config.serving.max_connections = Some(MOST);
            config.serving.max_sessions = Some(4);
            config.local_backends = true;
            config.token_file = Some("a,one,1,\"system:masters\"\nb,other,2,\"system:masters\"".to_owned());
        })
        .await;
        let root = User::new("root", &["system:masters"]);
        let addresses = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
        let node = json!({"metadata": {"name": "n"}, "status": {"addresses": addresses}});
        assert_eq!(world.ask(&root, "POST", "/api/v1/nodes", &node).await.0, 201);
        let path = format!("/api/v1/nodes/n:{}/proxy/x", agreeable().await);
        let take_over = async |token: &str| {
            let mut stream = connect(&world).await;
            let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n");
            stream.write_all(format!("{head}connection: Upgrade\r\nupgrade: echo\r\n\r\n").as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let code: u16 = std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap();
            (code, stream)
        };
        let repeats = async |stream: &mut TlsStream<TcpStream>| {
            stream.write_all(b"hear, hear").await.unwrap();
            until(stream, "hear, hear").await;
        };
        let mut taken = Vec::new();
        // Half is left to others.
        for (token, want) in [("a", 101), ("a", 101), ("a", 429), ("b", 101), ("b", 429)] {
            let (code, stream) = take_over(token).await;
            assert_eq!(code, want, "{token}");
            taken.extend((code == 101).then_some(stream));
        }
        let mut idle = Vec::new();
        for _ in 0..FLOOD {
            idle.push(tokio::time::timeout(Duration::from_secs(20), connect(&world)).await.unwrap());
        }
        let mut open = 0;
        for stream in &mut idle {
            let gone = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 64])).await;
            open += usize::from(gone.is_err());
        }
        assert!(open <= MOST - taken.len(), "{open} beside {} that were taken over", taken.len());
        for stream in &mut taken {
            repeats(stream).await;
        }
        // What has ended gives back its place.
        taken.clear();
        for token in ["a", "a", "b"] {
            let mut again = take_over(token).await;
            for _ in 0..500 {
                if again.0 == 101 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                again = take_over(token).await;
            }
            assert_eq!(again.0, 101, "{token}");
            taken.push(again.1);
        }
        // It is in use all the while.
        let all = Connections::new(None, Some(1));
        let place = Arc::new(all.enter().await);
        let session = place.session("a").unwrap();
        assert!(!place.used().is_idle() && place.session("b").is_err_and(|status| status.code == 429));
        drop(session);
        assert!(place.used().is_idle() && place.session("b").is_ok());
    }

    #[test]
    fn nobody_takes_over_more_than_are_left() {
        let mut sessions = Sessions::default();
        let mut took = |user: &str| (0..20).take_while(|_| sessions.take(user, 16)).count();
        assert_eq!([took("a"), took("b"), took("c"), took("d"), took("e"), took("f")], [8, 4, 2, 1, 1, 0]);
        for _ in 0..8 {
            sessions.give_back("a");
        }
        assert_eq!((sessions.all, sessions.by_user.len()), (8, 4));
        assert!(sessions.take("f", 16) && !Sessions::default().take("a", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_for_longest_makes_room() {
        let all = Connections::new(Some(3), None);
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
        let all = Connections::new(Some(640), None);
        let mut places = Vec::new();
        for _ in 0..640 {
            places.push(all.enter().await);
        }
        assert_eq!(all.make_room(), 10);
        let busy: Vec<Busy> = places.iter().skip(1).map(|place| place.used().begin()).collect();
        assert_eq!(all.make_room(), 1);
        drop(busy);
        // Without a bound nobody has to go.
        let all = Connections::new(None, None);
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
