//! Stage 5: a seat. Bounds the work in progress; a request that finds no seat in time is told to come back.
//!
//! Long-running requests (watch, log, exec) take no seat, and nothing bounds their number yet. Priority
//! levels and flow schemas refine this stage; the bound is upstream's `--max-requests-inflight` family.

use super::impersonated::Acting;
use crate::answer::Failure;
use crate::authn::User;
use crate::road::received::Received;
use crate::server::Server;
use crate::serving;
use api::status::Status;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long a request may wait for a seat.
const PATIENCE: Duration = Duration::from_secs(15);

/// A request that may use the server's time.
pub struct Seated {
    pub(super) received: Received,
    pub(super) user: User,
    pub(super) seat: Option<OwnedSemaphorePermit>,
}

/// Stage 5.
///
/// # Errors
/// 429 with `Retry-After` when the server is full.
pub async fn seat(server: &Server, acting: Acting) -> Result<Seated, Failure> {
    let Acting { received, user } = acting;
    let exempt = user.groups.iter().any(|group| group == "system:masters");
    if exempt || serving::is_long(&received.info) {
        return Ok(Seated { received, user, seat: None });
    }
    let waiting = std::sync::Arc::clone(&server.seats).acquire_owned();
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(Ok(seat)) => Ok(Seated { received, user, seat: Some(seat) }),
        _ => Err(Failure::Status(Status::too_many_requests("too many requests, please try again later", 1))),
    }
}
