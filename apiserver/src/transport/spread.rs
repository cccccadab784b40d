//! Streams of one HTTP/2 connection on several workers: a connection belongs to one worker, and most clients have one connection.
//!
//! A stream is handed over when its worker has more requests in hand than another; its answer comes back to the connection. Watches and other reads
//! stay: what is cheap gains nothing, and what lasts would pay for both workers as long as it does. Never changes the order in which a connection
//! is read or written.

use super::Workers;
use super::bridge::{self, Peer, WireBody};
use super::going::Going;
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use bytes::Bytes;
use hyper::body::Incoming;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};

type Error = std::io::Error;

/// So many more requests than another, and half as many again, has a worker before it hands one over: the way there and back takes as long as a
/// cheap request, and connections that are busy on all workers need not change places.
const AHEAD: usize = 2;
/// Pieces of an answer that are made ahead.
const PIECES: usize = 4;

/// How much each worker has in hand: requests whose answers have not begun, or connections.
#[derive(Clone)]
pub(super) struct Load(Arc<[AtomicUsize]>);

/// A request or a connection in hand.
pub(crate) struct InHand(Load, usize);

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(own) = self.0.0.get(self.1) {
            own.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Load {
    pub(super) fn of(workers: usize) -> Load {
        Load((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Counts one more of a worker, for as long as the value lives.
    pub(super) fn take(&self, worker: usize) -> InHand {
        if let Some(own) = self.0.get(worker) {
            own.fetch_add(1, Ordering::Relaxed);
        }
        InHand(self.clone(), worker)
    }

    /// The worker with the least in hand; among equals the one whose turn it is.
    pub(super) fn least(&self, turn: usize) -> usize {
        let count = self.0.len().max(1);
        let of =
            |(at, load): (usize, &AtomicUsize)| (load.load(Ordering::Relaxed), (at + count - turn % count) % count, at);
        self.0.iter().enumerate().map(of).min().map_or(0, |(_, _, at)| at)
    }

    /// The worker with the least in hand, where that is so much less that a stream should go there.
    fn lighter(&self, worker: usize) -> Option<usize> {
        let own = self.0.get(worker)?.load(Ordering::Relaxed);
        let of = |(at, load): (usize, &AtomicUsize)| (load.load(Ordering::Relaxed), at);
        let (least, at) = self.0.iter().enumerate().map(of).min()?;
        (least + least / 2 + AHEAD <= own).then_some(at)
    }
}

/// Streams that were handed over.
#[cfg(test)]
pub(super) static HANDED: AtomicUsize = AtomicUsize::new(0);

/// A stream on its way to another worker.
pub(crate) struct Stream {
    request: hyper::Request<Incoming>,
    peer: Peer,
    going: Arc<Going>,
    reply: oneshot::Sender<Result<Head, Error>>,
    in_hand: InHand,
}

/// An answer on its way back.
type Head = hyper::Response<Body>;

enum Body {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Result<Bytes, Error>>),
}

/// A worker as its connections see it.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) at: usize,
    pub(super) workers: Workers,
}

impl Own {
    /// Where a stream of a connection of this worker should be answered, when that is elsewhere.
    pub(super) fn elsewhere(&self, request: &hyper::Request<Incoming>) -> Option<usize> {
        let moves = request.version() == http::Version::HTTP_2 && !request.method().is_safe();
        if moves { self.workers.load.lighter(self.at) } else { None }
    }

    /// Has a stream answered by another worker. It counts there from now on.
    pub(super) fn hand_over(
        &self,
        worker: usize,
        request: hyper::Request<Incoming>,
        peer: &Peer,
        going: &Arc<Going>,
    ) -> Awaited {
        #[cfg(test)]
        HANDED.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let in_hand = self.workers.load.take(worker);
        let stream = Stream { request, peer: peer.clone(), going: Arc::clone(going), reply, in_hand };
        self.workers.give(worker, super::Work::Stream(Box::new(stream)));
        Awaited(answer)
    }
}

/// The answer of another worker.
pub(super) struct Awaited(oneshot::Receiver<Result<Head, Error>>);

impl Awaited {
    /// Waits for it.
    ///
    /// # Errors
    /// When that worker has stopped; what the answer fails with.
    pub(super) async fn come(self) -> Result<hyper::Response<WireBody>, Error> {
        let stopped = |_| Error::new(std::io::ErrorKind::ConnectionAborted, "the API server has stopped");
        let (head, body) = self.0.await.map_err(stopped)??.into_parts();
        let body = match body {
            Body::Whole(bytes) => BoxBody::new(bytes),
            Body::Pieces(pieces) => BoxBody::new(BodyStream::new(tokio_stream::wrappers::ReceiverStream::new(pieces))),
        };
        Ok(hyper::Response::from_parts(head, WireBody(body)))
    }
}

/// Answers a stream of another worker's connection.
pub(super) async fn answer<S, B>(stream: Stream, service: Rc<S>)
where
    S: actix_service::Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let Stream { request, peer, going, mut reply, in_hand } = stream;
    let call = service.call(bridge::from_hyper(request, &Rc::new(peer), None, &going));
    let response = tokio::select! {
        biased;
        // The client has taken it back: as on its own worker, the request ends where it waits.
        () = reply.closed() => return,
        response = call => response,
    };
    drop(in_hand);
    let response = match bridge::to_hyper(response) {
        Ok(response) => response,
        Err(error) => return drop(reply.send(Err(error))),
    };
    let (head, WireBody(body)) = response.into_parts();
    let sized = matches!(body.size(), BodySize::Sized(_) | BodySize::None);
    let mut body = match body.try_into_bytes() {
        Ok(bytes) if sized => return drop(reply.send(Ok(hyper::Response::from_parts(head, Body::Whole(bytes))))),
        Ok(bytes) => BoxBody::new(bytes),
        Err(body) => body,
    };
    let (pieces, receiver) = mpsc::channel(PIECES);
    if reply.send(Ok(hyper::Response::from_parts(head, Body::Pieces(receiver)))).is_err() {
        return;
    }
    loop {
        let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_next(cx));
        let piece = tokio::select! {
            () = pieces.closed() => return,
            piece = next => piece,
        };
        let Some(piece) = piece else { return };
        if pieces.send(piece.map_err(|error| Error::other(error.to_string()))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_where_there_is_less_to_do() {
        let load = Load::of(3);
        let check = |worker: usize, want: Option<usize>| assert_eq!(load.lighter(worker), want);
        check(0, None);
        let one = load.take(0);
        check(0, None);
        let two = load.take(0);
        check(0, Some(1));
        let other = load.take(1);
        check(0, Some(2));
        check(1, None);
        let third = load.take(2);
        check(0, None);
        drop(two);
        check(0, None);
        drop((one, other, third));
        assert!(load.0.iter().all(|load| load.load(Ordering::Relaxed) == 0));
        check(7, None);
        assert_eq!(Load::of(1).lighter(0), None);
    }

    #[test]
    fn connections_go_where_the_fewest_are() {
        let load = Load::of(2);
        // Each client opens two and keeps the second: by turns one worker would have all that stay.
        let mut stay = Vec::new();
        for turn in 0..100 {
            let _short = load.take(load.least(2 * turn));
            stay.push(load.take(load.least(2 * turn + 1)));
        }
        let open: Vec<_> = load.0.iter().map(|load| load.load(Ordering::Relaxed)).collect();
        assert!(open.iter().all(|open| (49..=51).contains(open)), "{open:?}");
        let three = Load::of(3);
        assert_eq!([0, 1, 2, 3].map(|turn| three.least(turn)), [0, 1, 2, 0]);
    }
}
