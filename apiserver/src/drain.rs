//! The end of serving: what has begun is answered, then connections end, and everything that requests need ends last.
//!
//! Never ends a request: it says when none is left to wait for. Source: upstream's `genericapiserver.go`, `WithWaitGroup`, `WithRetryAfter`.

use crate::answer::Answer;
use crate::road::received::Received;
use crate::serving::Serving;
use actix_web::http::Version;
use futures::StreamExt as _;
use futures::stream::LocalBoxStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Requests in progress.
#[derive(Default)]
pub(crate) struct InProgress {
    count: AtomicUsize,
    none: Notify,
}

/// One of them.
pub(crate) struct Held(Arc<InProgress>);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl InProgress {
    /// One more, for as long as the value lives.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.count.fetch_add(1, Ordering::AcqRel);
        Held(Arc::clone(self))
    }

    /// Returns when there is none.
    pub(crate) async fn none(&self) {
        loop {
            let told = self.none.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            told.await;
        }
    }
}

/// The stations of an end, in their order.
#[derive(Clone)]
pub(crate) struct Ends {
    /// It was asked for.
    pub(crate) asked: CancellationToken,
    /// So long after it as flags say: nobody connects any more, and watches end.
    pub(crate) stop: CancellationToken,
    /// What was in progress has been answered, or had its time.
    pub(crate) drained: CancellationToken,
    /// Nobody is served any more, and what served them ends.
    pub(crate) end: CancellationToken,
    pub(crate) requests: Arc<InProgress>,
    pub(crate) watches: Arc<InProgress>,
    /// Until `drained` clients may connect, to be told that they should come back elsewhere.
    sends_away: bool,
    grace: Duration,
}

impl Ends {
    /// Those of a server of which `asked` is the end. Must be called within a tokio runtime.
    pub(crate) fn of(asked: CancellationToken, serving: &Serving) -> Ends {
        let stop = if serving.shutdown_delay.is_zero() { asked.clone() } else { CancellationToken::new() };
        let ends = Ends {
            asked,
            stop,
            drained: CancellationToken::new(),
            end: CancellationToken::new(),
            requests: Arc::default(),
            watches: Arc::default(),
            sends_away: serving.shutdown_send_retry_after,
            grace: serving.shutdown_watch_grace,
        };
        let (own, delay, most) = (ends.clone(), serving.shutdown_delay, serving.request_timeout);
        tokio::spawn(async move {
            own.asked.cancelled().await;
            tokio::time::sleep(delay).await;
            own.stop.cancel();
            let requests = tokio::time::timeout(most, own.requests.none());
            let watches = tokio::time::timeout(own.grace, own.watches.none());
            let (requests, watches) = tokio::join!(requests, watches);
            if requests.is_err() || (watches.is_err() && !own.grace.is_zero()) {
                tracing::warn!("not all requests were done in their time");
            }
            own.drained.cancel();
        });
        ends
    }

    /// When connections end.
    pub(crate) fn closing(&self) -> &CancellationToken {
        if self.sends_away { &self.drained } else { &self.stop }
    }

    /// The answer to a request that comes too late, where clients are told so. Whoever watches over the server is answered as ever.
    pub(crate) fn refusal(&self, received: &Received) -> Option<Answer> {
        const OPEN: [&str; 4] = ["/healthz", "/livez", "/metrics", "/readyz"];
        if !self.sends_away || !self.stop.is_cancelled() || OPEN.iter().any(|path| received.info.path.starts_with(path))
        {
            return None;
        }
        let text = "The apiserver is shutting down, please try again later.";
        let answer = Answer::bytes(429, "text/plain; charset=utf-8", text).with("retry-after", "5");
        Some(if received.request.version() == Version::HTTP_2 { answer } else { answer.with("connection", "close") })
    }

    /// Whether watches end one after the other.
    pub(crate) fn has_grace(&self) -> bool {
        !self.grace.is_zero()
    }

    /// The events of a watch, which end at some time of the grace period, so that clients do not all come back to the next server at once.
    pub(crate) fn until_watches_end<T: 'static>(
        &self,
        events: LocalBoxStream<'static, T>,
    ) -> LocalBoxStream<'static, T> {
        let (stop, held) = (self.stop.clone(), self.watches.hold());
        // What is left of the period is for the way to the client.
        let own = self.grace.mul_f64(0.9 * rand::random::<f64>());
        let over = async move {
            stop.cancelled().await;
            tokio::time::sleep(own).await;
        };
        let events = events.take_until(Box::pin(over));
        Box::pin(events.chain(futures::stream::poll_fn(move |_| {
            let _ = &held;
            std::task::Poll::Ready(None)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::testing::World;
    use crate::transport::unjudged_client_config;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    fn serving() -> Serving {
        Serving { shutdown_delay: Duration::from_secs(7), ..Serving::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_is_waited_for() {
        let began = Instant::now();
        let ends = Ends::of(CancellationToken::new(), &serving());
        let held = ends.requests.hold();
        // Without a grace period nobody waits for watches.
        let _watch = ends.watches.hold();
        ends.asked.cancel();
        ends.stop.cancelled().await;
        assert_eq!(began.elapsed().as_secs(), 7);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(!ends.drained.is_cancelled() && ends.closing().is_cancelled());
        drop(held);
        ends.drained.cancelled().await;
        assert_eq!(began.elapsed().as_secs(), 27);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_for_ever() {
        let began = Instant::now();
        let grace = Duration::from_secs(90);
        let ends = Ends::of(CancellationToken::new(), &Serving { shutdown_watch_grace: grace, ..serving() });
        let (_held, _watch) = (ends.requests.hold(), ends.watches.hold());
        ends.asked.cancel();
        ends.drained.cancelled().await;
        assert_eq!(began.elapsed().as_secs(), 97);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_end_one_after_the_other() {
        let grace = Duration::from_secs(100);
        let ends = Ends::of(CancellationToken::new(), &Serving { shutdown_watch_grace: grace, ..Serving::default() });
        let began = Instant::now();
        let all = (0..100).map(|_| {
            let mut events = ends.until_watches_end(futures::stream::pending::<()>().boxed_local());
            async move {
                assert!(events.next().await.is_none());
                began.elapsed().as_secs()
            }
        });
        let all = futures::future::join_all(all);
        ends.asked.cancel();
        let (times, ()) = tokio::join!(all, ends.drained.cancelled());
        assert!(times.iter().any(|time| *time < 30) && times.iter().any(|time| *time > 60), "{times:?}");
        assert!(began.elapsed() < grace);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_in_progress_is_answered() {
        let token = "secret,root,1,\"system:masters\"".to_owned();
        let world = World::start(|config| config.token_file = Some(token)).await;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(unjudged_client_config(None).unwrap()));
        let tcp = TcpStream::connect(world.running.address()).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\
                    content-type: application/json\r\ncontent-length: 25\r\n\r\n{\"metadata\":";
        stream.write_all(head.as_bytes()).await.unwrap();
        while world.running.server().ends.requests.count.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.running.server().ends.asked.cancel();
        // Longer than connections have at the end.
        tokio::time::sleep(Duration::from_secs(3)).await;
        stream.write_all(b"{\"name\":\"m\"}}").await.unwrap();
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 201");
        world.running.closed().await;
        assert!(TcpStream::connect(world.running.address()).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn late_comers_are_told_to_come_back() {
        for told in [true, false] {
            let world = World::start(|config| {
                config.serving.shutdown_send_retry_after = told;
                config.serving.request_timeout = Duration::from_secs(1);
            })
            .await;
            let server = world.running.server();
            // A request that lasts.
            let _held = server.ends.requests.hold();
            server.ends.asked.cancel();
            server.ends.stop.cancelled().await;
            let root = User::new("root", &["system:masters"]);
            let none = api::json::Value::Null;
            let (code, said) = world.ask(&root, "GET", "/version", &none).await;
            assert_eq!(code, if told { 429 } else { 200 }, "{said}");
            assert_eq!(world.ask(&root, "GET", "/livez", &none).await.0, 200);
            world.running.closed().await;
        }
    }
}
