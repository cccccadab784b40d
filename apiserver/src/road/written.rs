//! The answer on its way to the client: who records a request is told when its last byte is taken, and how long it took to be rid of them.
//!
//! Never changes a byte. What a connection holds for a client that reads slowly counts as taken: upstream's `response-write` does not see
//! the kernel's buffers either.

use crate::audit::Slip;
use crate::spans::Trip;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Bytes that are given to a connection at once.
const PIECE: usize = 64 * 1024;

/// Watches an answer being written where the audit or spans wait for its end.
pub(crate) fn watched(response: HttpResponse, slip: Option<Rc<Slip>>, trip: Option<Rc<Trip>>) -> HttpResponse {
    let (slip, trip) = (slip.filter(|slip| slip.is_open()), trip.filter(|trip| trip.is_open()));
    if slip.is_none() && trip.is_none() {
        return response;
    }
    response.map_body(|_, body| {
        let written = Written { body, rest: Bytes::new(), given: None, spent: Duration::ZERO, slip, _trip: trip };
        BoxBody::new(written)
    })
}

struct Written {
    body: BoxBody,
    /// Of a piece that is given bit by bit.
    rest: Bytes,
    /// When the last one was given.
    given: Option<Instant>,
    /// From the giving of each to the wish for the next.
    spent: Duration,
    slip: Option<Rc<Slip>>,
    _trip: Option<Rc<Trip>>,
}

impl MessageBody for Written {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(given) = self.given.take() {
            self.spent += given.elapsed();
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(piece)) => self.rest = piece,
                other => return Poll::Ready(other),
            }
        }
        self.given = Some(Instant::now());
        let most = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(most))))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(slip) = &self.slip {
            slip.written(self.spent + self.given.map_or(Duration::ZERO, |given| given.elapsed()));
        }
    }
}
