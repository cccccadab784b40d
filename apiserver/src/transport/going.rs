//! How an answer goes: within which time, and whether its connection stays. What a client that does not read would hold for ever otherwise.
//!
//! Never looks into a request: the road says what holds for each.

use crate::drain::Held;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Of one answer over HTTP/2, or of those over a connection of HTTP/1.1, which come one after the other.
#[derive(Default)]
pub(crate) struct Going(Mutex<Known>);

#[derive(Default)]
struct Known {
    until: Option<Instant>,
    last: bool,
    /// It is in progress for so long.
    held: Option<Held>,
}

impl Going {
    /// The answer has this time from now on; what is left of it then does not go any more. Until it has gone it is in progress.
    pub(crate) fn within(&self, time: Duration, held: Option<Held>) {
        let mut known = self.0.lock();
        known.until = Some(Instant::now() + time);
        known.held = held;
    }

    /// Over HTTP/2 it is the last one: nobody knows who asks, and such connections are no dearer than those of HTTP/1.1. Source: upstream's gate
    /// `UnauthenticatedHTTP2DOSMitigation`.
    pub(crate) fn last(&self) {
        self.0.lock().last = true;
    }

    pub(super) fn is_last(&self) -> bool {
        self.0.lock().last
    }

    /// It has gone, or another one begins.
    pub(super) fn over(&self) {
        let known = std::mem::take(&mut *self.0.lock());
        drop(known);
    }
}

pin_project! {
    /// Work that sends answers, given up where one does not go in its time; none then.
    pub(super) struct Limited<F> {
        #[pin]
        work: F,
        going: Option<Arc<Going>>,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Limited<F> {
    /// With answers about which this is known; none for as long as it takes.
    pub(super) fn new(work: F, going: Option<Arc<Going>>) -> Limited<F> {
        Limited { work, going, sleep: None }
    }

    /// The work itself.
    pub(super) fn work(self: Pin<&mut Self>) -> Pin<&mut F> {
        self.project().work
    }
}

impl<F: Future> Future for Limited<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Some(done));
        }
        // What is known changes in the work alone, which has just been polled.
        let Some(until) = this.going.as_ref().and_then(|going| going.0.lock().until) else {
            *this.sleep = None;
            return Poll::Pending;
        };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(None)
    }
}

/// Runs the streams of one connection on the worker's own `LocalSet`.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<Option<Arc<Going>>>>);

impl Streams {
    /// What is known of the stream that is run next: the library runs each as soon as it has been given its request.
    pub(super) fn next(&self) -> Arc<Going> {
        let going = Arc::new(Going::default());
        self.0.replace(Some(Arc::clone(&going)));
        going
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        // As it is: a block around it would keep room for it twice, as long as the stream lasts.
        drop(tokio::task::spawn_local(Limited::new(future, self.0.take())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use crate::transport::unjudged_client_config;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http2::SendRequest;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_is_given_up() {
        let going = Arc::new(Going::default());
        let began = Instant::now();
        let work = async {
            going.within(Duration::from_secs(5), None);
            tokio::time::sleep(Duration::from_secs(4)).await;
            // Nothing is asked for long, and then something whose answer does not go.
            going.over();
            tokio::time::sleep(Duration::from_secs(1000)).await;
            going.within(Duration::from_secs(5), None);
            std::future::pending::<()>().await;
        };
        assert_eq!(Limited::new(work, Some(Arc::clone(&going))).await, None);
        assert_eq!(began.elapsed().as_secs(), 1009);
        let slow = tokio::time::sleep(Duration::from_secs(1000));
        assert_eq!(Limited::new(slow, Some(Arc::default())).await, Some(()));
    }

    /// A connection of HTTP/2 over which so much may come of each stream, and its end.
    async fn connect(world: &World, window: u32) -> (SendRequest<Empty<Bytes>>, JoinHandle<()>) {
        let mut config = unjudged_client_config(None).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(world.running.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        (sender, tokio::spawn(async move { drop(connection.await) }))
    }

    async fn ask(sender: &SendRequest<Empty<Bytes>>, path: &str, token: &str) -> http::Response<hyper::body::Incoming> {
        let mut request = http::Request::builder().uri(format!("https://localhost{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).unwrap();
        tokio::time::timeout(LONG, sender.clone().send_request(request)).await.unwrap().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_client_that_reads_nothing_holds_nothing_for_ever() {
        let world = World::start(|config| {
            config.token_file = Some("secret,root,1,\"system:masters\"".to_owned());
            config.serving.request_timeout = Duration::from_secs(1);
        })
        .await;
        let (sender, _end) = connect(&world, 0).await;
        let watch = ask(&sender, "/api/v1/namespaces?watch=1&timeoutSeconds=60", "secret").await;
        let answer = ask(&sender, "/api/v1/namespaces", "secret").await;
        assert_eq!((watch.status().as_u16(), answer.status().as_u16()), (200, 200));
        let body = tokio::time::timeout(LONG, answer.into_body().collect()).await;
        assert!(body.expect("the stream is reset").is_err());
        // What is meant to last is not given up.
        let body = tokio::time::timeout(Duration::from_secs(2), watch.into_body().collect()).await;
        assert!(body.is_err(), "{body:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_nobody_connects_anew_for_each_request() {
        let world = World::start(|config| {
            config.token_file = Some("secret,root,1,\"system:masters\"".to_owned());
            config.anonymous = Some(true);
        })
        .await;
        for (token, code, stays) in [("secret", 200, true), ("", 200, false), ("wrong", 401, false)] {
            let (sender, end) = connect(&world, 1 << 20).await;
            let answer = ask(&sender, "/version", token).await;
            assert_eq!(answer.status().as_u16(), code, "{token}");
            assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
            let wait = if stays { Duration::from_millis(500) } else { LONG };
            assert_eq!(tokio::time::timeout(wait, end).await.is_err(), stays, "{token}");
        }
    }
}
