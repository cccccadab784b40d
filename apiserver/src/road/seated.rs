//! Stage 5: seats. A request that finds none waits in a queue of its priority level, or is told to come back.
//!
//! What is meant to last (log, exec) takes no seat; a watch has its seats until it has begun. Who gets one is decided in `fairness.rs`. Source:
//! KEP-1040; upstream's filters of priority and fairness and of the plain bounds.

use super::impersonated::Acting;
use crate::answer::{Answer, Failure};
use crate::authn::User;
use crate::fairness::{Refused, Schema, Seats, Size, Watching};
use crate::road::received::{Received, RequestInfo};
use crate::server::Server;
use crate::serving;
use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

/// The flow schema of a request, once it is known.
pub(crate) type Matched = Rc<OnceCell<Arc<Schema>>>;

/// What a request holds while it uses the server's time.
#[derive(Default)]
pub struct Held {
    _seat: Option<Seat>,
    watching: Option<Watching>,
}

enum Seat {
    Fair(#[allow(dead_code, reason = "held until it is dropped")] crate::fairness::Seat),
    Plain(#[allow(dead_code, reason = "held until it is dropped")] crate::fairness::Taken),
}

impl Held {
    /// Gives the seats back and goes on being counted as a watch.
    #[must_use]
    pub(crate) fn begun(self) -> Option<Watching> {
        self.watching
    }
}

/// A request that may use the server's time.
pub struct Seated {
    pub(super) received: Box<Received>,
    pub(super) user: User,
    pub(super) held: Held,
}

/// What becomes of a request.
#[allow(clippy::large_enum_variant, reason = "nearly all are of the large one, and it is moved once")]
pub enum Outcome {
    /// It goes on.
    Seated(Seated),
    /// 429.
    Refused(Answer),
}

/// Stage 5.
///
/// # Errors
/// 400 for a `timeout` that is no duration.
pub async fn seat(server: &Server, acting: Acting) -> Result<Outcome, Failure> {
    let Acting { received, user } = acting;
    let lasts = serving::is_long(&received.info);
    let watches = received.info.verb == "watch";
    let held = match &server.seats {
        _ if lasts && !watches => Held::default(),
        Seats::Plain(_) if lasts => Held::default(),
        Seats::Plain(plain) => match plain.take(&user, &received.info) {
            Some(taken) => Held { _seat: Some(Seat::Plain(taken)), watching: None },
            None => return Ok(Outcome::Refused(refusal(1))),
        },
        Seats::Fair(fairness) => match fairness.classify(&user, &received.info) {
            None => Held::default(),
            Some(schema) => {
                let schema = received.matched.get_or_init(|| schema);
                let patience = server.rules.queue_wait(&received.info, &received.query)?;
                let (info, query) = (&received.info, &received.query);
                match fairness.seat(schema, &user, info, query, || size(server, info), patience).await {
                    Ok(seat) => {
                        let watching = if watches { fairness.watching(info) } else { None };
                        Held { _seat: Some(Seat::Fair(seat)), watching }
                    }
                    Err(Refused { retry_after }) => return Ok(Outcome::Refused(refusal(retry_after))),
                }
            }
        },
    };
    Ok(Outcome::Seated(Seated { received, user, held }))
}

/// Seconds.
fn refusal(retry_after: u64) -> Answer {
    Answer::bytes(429, "text/plain; charset=utf-8", "Too many requests, please try again later.\n")
        .with("retry-after", retry_after.to_string())
        .with("x-content-type-options", "nosniff")
}

static FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Says which flow schema and priority level a request belonged to. By uid: names may say more than who asks should know.
pub(crate) fn dress(matched: &Matched, response: &mut HttpResponse) {
    let Some(schema) = matched.get() else { return };
    for (name, uid) in [(&FLOW_SCHEMA, &schema.uid), (&PRIORITY_LEVEL, &schema.level_uid)] {
        if let Ok(value) = HeaderValue::from_str(uid) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
}

/// How large the kind of a request is.
fn size(server: &Server, info: &RequestInfo) -> Option<Size> {
    let kept = server.caches.named(&crate::authz::group_resource(&info.group, &info.resource));
    // Kept under another group's name.
    let elsewhere = || {
        let offer = server.offer();
        server.caches.of(offer.served.by_resource(&info.group, &info.version, &info.resource)?)
    };
    Some(kept.or_else(elsewhere)?.size())
}
