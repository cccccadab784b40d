//! Calls from inside the process: a `tower` service over the workers, for `kube::Client`. No socket, no TLS.
//!
//! The caller's identity is given when the service is made; authorization and everything after it happen as for others.

use super::bridge::{WireBody, response_head};
use super::{Work, Workers};
use crate::authn::User;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

type Error = std::io::Error;

/// One call on its way to a worker.
pub struct LocalCall {
    pub(super) request: http::Request<Bytes>,
    pub(super) user: User,
    pub(super) reply: oneshot::Sender<http::Response<BoxBody<Bytes, Error>>>,
}

/// A client's transport into this process, as one user.
#[derive(Clone)]
pub struct InProcess {
    workers: Workers,
    user: User,
    agent: &'static str,
    turn: Arc<AtomicUsize>,
}

impl InProcess {
    pub(crate) fn new(workers: Workers, user: User, agent: &'static str) -> InProcess {
        InProcess { workers, user, agent, turn: Arc::default() }
    }
}

impl tower::Service<http::Request<kube::client::Body>> for InProcess {
    type Response = http::Response<BoxBody<Bytes, Error>>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let (workers, user, agent) = (self.workers.clone(), self.user.clone(), self.agent);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let agent = http::HeaderValue::from_static(agent);
            parts.headers.entry(http::header::USER_AGENT).or_insert(agent);
            let body = body.collect().await.map_err(Error::other)?.to_bytes();
            let (reply, answer) = oneshot::channel();
            let request = http::Request::from_parts(parts, body);
            workers.give(turn, Work::Call(Box::new(LocalCall { request, user, reply })));
            answer.await.map_err(|_| Error::new(std::io::ErrorKind::ConnectionAborted, "the API server has stopped"))
        })
    }
}

/// Sends an answer to the caller: the head at once, the body chunk by chunk as it is made.
pub(super) async fn answer<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    reply: oneshot::Sender<http::Response<BoxBody<Bytes, Error>>>,
) {
    let response = response.into_parts().1;
    let head = response_head(&response);
    let mut body = WireBody(response.into_body().boxed());
    let (chunks, receiver) = mpsc::channel::<Result<Frame<Bytes>, Error>>(16);
    let stream = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let Ok(response) = head.body(BoxBody::new(stream)) else {
        return;
    };
    if reply.send(response).is_err() {
        return;
    }
    loop {
        let frame = tokio::select! {
            // The caller went away; an idle watch must not outlive it.
            () = chunks.closed() => return,
            frame = body.frame() => frame,
        };
        match frame {
            Some(frame) => {
                if chunks.send(frame).await.is_err() {
                    return;
                }
            }
            None => return,
        }
    }
}
