//! Stage 2: who asks. Every request has a user afterwards, if only the anonymous one.
//!
//! Never decides what that user may do.

use super::received::Received;
use crate::answer::Failure;
use crate::authn::{Credentials, Outcome, User};
use crate::server::Server;
use api::status::Status;

/// A request with its user.
pub struct Identified {
    pub(super) received: Received,
    pub(super) user: User,
}

/// Stage 2.
///
/// # Errors
/// 401 when credentials were given and none was accepted, or when anonymous requests are off.
pub async fn identify(server: &Server, mut received: Received) -> Result<Identified, Failure> {
    // Inside the process the transport vouches for the caller.
    if let Some(user) = received.trusted.take() {
        return Ok(Identified { received, user });
    }
    let protocols = received.header("sec-websocket-protocol").unwrap_or_default();
    let in_protocol = protocols
        .split(',')
        .find_map(|protocol| protocol.trim().strip_prefix("base64url.bearer.authorization.k8s.io."));
    let credentials = Credentials {
        client_certs: &received.peer.certificates,
        authorization: received.header("authorization"),
        websocket_protocol_token: in_protocol,
        now: server.now(),
    };
    match server.authn.authenticate(&credentials).await {
        Outcome::User(user) => {
            received.headers.remove("authorization");
            Ok(Identified { received, user })
        }
        Outcome::None => Err(Failure::Status(Status::unauthorized())),
        Outcome::Rejected(why) => {
            tracing::debug!(why, "credentials refused");
            Err(Failure::Status(Status::unauthorized()))
        }
    }
}
