//! Stage 2: who asks. Every request has a user afterwards, if only the anonymous one.
//!
//! Never decides what that user may do.

use super::received::Received;
use crate::answer::Failure;
use crate::authn::{Authenticators, Credentials, Outcome, Remark, Remarks, User};
use crate::server::Server;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use api::status::Status;

/// A bearer token where browsers cannot set headers.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// A request with its user.
pub struct Identified {
    pub(super) received: Box<Received>,
    pub(super) user: User,
}

const PROTOCOLS: &str = "sec-websocket-protocol";

/// Takes secrets out of the headers, so that nothing behind this stage can pass them on.
fn forget_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    if !headers.contains_key(PROTOCOLS) {
        return;
    }
    let others: Vec<String> = headers
        .get_all(PROTOCOLS)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(BEARER))
        .map(str::to_owned)
        .collect();
    headers.remove(PROTOCOLS);
    if let Ok(value) = HeaderValue::from_str(&others.join(", "))
        && !others.is_empty()
    {
        headers.insert(HeaderName::from_static(PROTOCOLS), value);
    }
}

/// Headers in which a front proxy names the user.
fn named_by_proxy(authn: &Authenticators, received: &Received) -> Vec<(String, String)> {
    if !authn.is_proxied() {
        return Vec::new();
    }
    let own = received.headers.iter().filter(|(name, _)| authn.reads(name.as_str()));
    own.filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))).collect()
}

/// Stage 2.
///
/// # Errors
/// 401 when credentials were given and none was accepted, or when anonymous requests are off.
pub async fn identify(server: &Server, mut received: Box<Received>) -> Result<Identified, Failure> {
    // Inside the process the transport vouches for the caller.
    if let Some(user) = received.trusted.take() {
        return Ok(Identified { received, user });
    }
    let protocols = received.header(PROTOCOLS).unwrap_or_default();
    let in_protocol = protocols.split(',').find_map(|protocol| protocol.trim().strip_prefix(BEARER));
    let authn = server.authn.load_full();
    let proxied = named_by_proxy(&authn, &received);
    let remarks = Remarks::default();
    let credentials = Credentials {
        client_certs: &received.peer.certificates,
        authorization: received.header("authorization"),
        websocket_protocol_token: in_protocol,
        headers: &proxied,
        path: &received.info.path,
        now: server.now(),
        remarks: Some(&remarks),
    };
    let outcome = authn.authenticate(&credentials).await;
    let said = remarks.take();
    for remark in &said {
        match remark {
            Remark::Audit(..) => {}
            Remark::Warning(text) => drop(received.warned.set(text)),
        }
    }
    if let Some(slip) = &received.slip {
        slip.remarked(said);
    }
    match outcome {
        Outcome::User(user) => {
            forget_credentials(&mut received.headers);
            for (name, _) in &proxied {
                received.headers.remove(name.as_str());
            }
            Ok(Identified { received, user })
        }
        Outcome::None => Err(refused(&received).await),
        Outcome::Rejected(why) => {
            let from = received.peer.address.map(|address| address.to_string());
            tracing::info!(why, from, path = received.info.path, "credentials refused");
            Err(refused(&received).await)
        }
    }
}

async fn refused(received: &Received) -> Failure {
    let status = Status::unauthorized();
    if let Some(slip) = &received.slip {
        slip.unknown(received, &status).await;
    }
    Failure::Status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_travel_on() {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer x"));
        let protocols = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0";
        headers.insert(HeaderName::from_static(PROTOCOLS), HeaderValue::from_static(protocols));
        forget_credentials(&mut headers);
        assert!(!headers.contains_key("authorization"));
        assert_eq!(headers.get(PROTOCOLS).unwrap(), "v4.channel.k8s.io");
    }
}
