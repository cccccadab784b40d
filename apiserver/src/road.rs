//! The way of a request, whole, top to bottom. Read this first.
//!
//! Each stage is a function in `road/` that consumes the value of the stage before it, so a request that was not
//! authorized cannot reach a verb: there is no other way to make an `Authorized`.

pub mod audited;
pub mod authorized;
pub mod decoded;
pub mod identified;
pub mod impersonated;
pub mod negotiated;
pub mod received;
pub mod seated;

use crate::answer::{self, Answer, Failure};
use crate::registry::unreadable;
use crate::server::Server;
use crate::verb;
use actix_web::{HttpRequest, HttpResponse, web};

/// Answers one request.
pub async fn travel(server: web::Data<Server>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    let received = match received::receive(&request, body) {
        Ok(received) => received,
        Err(failure) => return answer::render(Err(failure), None),
    };
    let trace = received.trace();
    let body = received.body.clone();
    let outcome = pass(&server, received).await;
    let outcome = match outcome {
        Ok(answer) => {
            if answer.code >= 400 {
                body.drain().await;
            }
            Ok(answer)
        }
        Err(failure) => {
            body.drain().await;
            Err(unreadable::explained(&server, failure).await)
        }
    };
    server.metrics.observe(&trace, &outcome);
    answer::render(outcome, Some(&trace))
}

async fn pass(server: &Server, received: received::Received) -> Result<Answer, Failure> {
    let identified = identified::identify(server, received).await?;
    let audited = audited::audit(server, identified);
    let acting = impersonated::impersonate(server, audited).await?;
    let seated = seated::seat(server, acting).await?;
    let authorized = authorized::authorize(server, seated).await?;
    verb::answer(server, authorized).await
}
