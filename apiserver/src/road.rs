//! The way of a request, whole, top to bottom. Read this first.
//!
//! Each stage is a function in `road/` that consumes the value of the stage before it, so a request that was not
//! authorized cannot reach a verb: there is no other way to make an `Authorized`.

pub mod audited;
pub mod authorized;
pub mod decoded;
#[cfg(test)]
mod hostile;
pub mod identified;
pub mod impersonated;
pub mod negotiated;
pub mod received;
pub mod seated;
pub(crate) mod timed;
mod written;

pub(crate) use written::watched;

use crate::answer::{self, Answer, Failure};
use crate::audit::Slip;
use crate::metrics;
use crate::registry::unreadable;
use crate::server::Server;
use crate::serving;
use crate::spans::{self, Trip};
use crate::transport::{Going, Headers};
use crate::verb;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use api::status::Status;
use received::Received;
use std::rc::Rc;
use std::sync::Arc;

/// Answers one request.
pub async fn travel(server: web::Data<Server>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    let headers = Headers::take(&request);
    let origin = headers.get("origin").and_then(|origin| origin.to_str().ok()).map(str::to_owned);
    let mut response = if request.method() == "OPTIONS" && server.rules.welcomes(origin.as_deref()) {
        HttpResponse::NoContent().finish()
    } else {
        answered(&server, request, headers, body).await
    };
    server.rules.dress(origin.as_deref(), &mut response);
    response
}

async fn answered(server: &Server, request: HttpRequest, headers: HeaderMap, body: web::Payload) -> HttpResponse {
    let going = request.extensions().get::<Arc<Going>>().cloned();
    let mut received = match received::receive(&request, headers, body) {
        Ok(received) => received,
        Err(failure) => return answer::render(Err(failure), None),
    };
    if let Some(answer) = server.ends.refusal(&received).or_else(|| received.unclear()) {
        received.body.drain().await;
        return answer::render(Ok(answer), None);
    }
    let time = server.rules.departure(&received.info);
    let held = time.map(|_| server.ends.requests.hold());
    let slip = server.audit.as_ref().map(|audit| Slip::new(audit, &received.steps));
    received.slip.clone_from(&slip);
    let trip = server.tracer.as_ref().map(|tracer| Trip::new(tracer, &received.steps));
    received.trip.clone_from(&trip);
    let trace = received.trace();
    let (matched, warned, steps) = (Rc::clone(&received.matched), Rc::clone(&received.warned), received.steps.clone());
    let body = received.body.clone();
    let passed = trip.is_none() && spans::passed_through(&received);
    let outcome = match slip.is_some() || trip.is_some() || passed {
        // Few are watched: the others are not built for it.
        true => Box::pin(steps.watched(in_time(server, received))).await,
        false => in_time(server, received).await,
    };
    let outcome = match outcome {
        Ok(mut answer) => {
            if answer.code >= 400 {
                body.drain().await;
            }
            if trace.info.verb == "watch" && server.ends.has_grace() {
                answer.body = match answer.body {
                    answer::Body::Stream(events) => answer::Body::Stream(server.ends.until_watches_end(events)),
                    whole => whole,
                };
            }
            Ok(answer)
        }
        Err(failure) => {
            body.drain().await;
            Err(unreadable::explained(server, failure).await)
        }
    };
    let refused = |failure| answer::refusal(failure, trace.refused);
    let outcome = match warned.get() {
        Some(text) => Ok(outcome.unwrap_or_else(refused).warn([(*text).to_owned()])),
        None => outcome,
    };
    let outcome = match &slip {
        Some(slip) => Ok(slip.answered(outcome.unwrap_or_else(refused)).await),
        None => outcome,
    };
    server.metrics.observe(&server.offer.load().served, &trace, &outcome);
    steps.tell(&trace, &outcome);
    let outcome = match &trip {
        Some(trip) => Ok(trip.answered(outcome.unwrap_or_else(refused))),
        None => outcome,
    };
    let mut response = answer::render(outcome, Some(&trace));
    seated::dress(&matched, &mut response);
    if let (Some(going), Some(time)) = (going, time) {
        going.within(time, held);
    }
    watched(response, slip, trip)
}

/// The whole way, given up where it takes too long: a client that sends its body byte by byte holds nothing for ever.
async fn in_time(server: &Server, received: Box<Received>) -> Result<Answer, Failure> {
    let patience = match server.rules.patience(&received.info, &received.query) {
        Ok(patience) => patience,
        Err(status) => {
            if let Some(slip) = &received.slip {
                slip.unknown(&received, &status).await;
            }
            return Err(status.into());
        }
    };
    match patience {
        None => pass(server, received).await,
        Some(patience) => match tokio::time::timeout(patience, pass(server, received)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::timeout("request did not complete within the allotted timeout", 0).into()),
        },
    }
}

async fn pass(server: &Server, received: Box<Received>) -> Result<Answer, Failure> {
    let steps = received.steps.clone();
    let identified = identified::identify(server, received).await?;
    if let Some(trip) = &identified.received.trip {
        trip.begin(&identified.received, &identified.user);
    }
    steps.enter("audited");
    let audited = audited::audit(identified).await?;
    steps.enter("impersonated");
    let acting = impersonated::impersonate(server, audited).await?;
    steps.enter("seated");
    let seated = match seated::seat(server, acting).await? {
        seated::Outcome::Seated(seated) => seated,
        seated::Outcome::Refused(answer) => return Ok(answer),
    };
    steps.enter("authorized");
    let mut authorized = authorized::authorize(server, seated).await?;
    count(server, &mut authorized.received);
    steps.enter("verb");
    verb::answer(server, authorized).await
}

/// Counts a request that lasts, until all that it has begun is over.
fn count(server: &Server, received: &mut Received) {
    if serving::is_long(&received.info) {
        let counted = metrics::verb(received.method.as_str(), &received.info, false);
        let running = server.metrics.lasting.begin(&server.offer.load().served, counted, &received.info);
        received.lasting = Some(Rc::new(running));
    }
}
