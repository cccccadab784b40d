//! Stage 2: who asks. Every request has a user afterwards, if only the anonymous one.
//!
//! Never decides what that user may do.

use super::received::Received;
use crate::answer::Failure;
use crate::authn::{ANONYMOUS, Authenticators, Credentials, Offered, Outcome, Remark, Remarks, UNAUTHENTICATED, User};
use crate::server::Server;
use crate::transport::Going;
use actix_web::HttpMessage as _;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use api::status::Status;
use std::sync::Arc;

/// A bearer token where browsers cannot set headers.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// Headers in which front proxies name users, unless flags say otherwise, and what the last of them begins with.
const BY_PROXY: [&str; 3] = ["x-remote-user", "x-remote-uid", "x-remote-group"];
const BY_PROXY_TOO: &str = "x-remote-extra-";
/// Letters of a path or a reason that are logged: a client may send a million.
const SHOWN: usize = 256;

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

/// Takes out what front proxies say of users, whether one is believed here or not: whoever the request goes on to may believe it.
fn forget_proxies(authn: &Authenticators, headers: &mut HeaderMap) {
    let speaks = |name: &str| BY_PROXY.contains(&name) || name.starts_with(BY_PROXY_TOO) || authn.reads(name);
    let named: Vec<HeaderName> = headers.keys().filter(|name| speaks(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Headers in which a front proxy names the user. A value that is no text is one that nobody has: it must not look as if it were not there.
fn named_by_proxy(authn: &Authenticators, received: &Received) -> Vec<(String, String)> {
    if !authn.is_proxied() {
        return Vec::new();
    }
    let own = received.headers.iter().filter(|(name, _)| authn.reads(name.as_str()));
    own.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// The tokens among the protocols of a WebSocket; none where something else is asked for. Source: upstream's `websocket.ProtocolAuthenticator`.
fn in_protocols(received: &Received) -> Offered<'_> {
    let is = |name: &str, word: &str| {
        let words = received.header(name).into_iter().flat_map(|text| text.split(','));
        words.into_iter().any(|own| own.trim().eq_ignore_ascii_case(word))
    };
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Offered::default();
    }
    let lists = received.headers.get_all(PROTOCOLS).filter_map(|value| value.to_str().ok());
    let mut offered = Offered::default();
    for protocol in lists.flat_map(|list| list.split(',')).map(str::trim) {
        match protocol.strip_prefix(BEARER) {
            Some(token) => offered.tokens.push(token),
            None => offered.others = true,
        }
    }
    offered
}

fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default()
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
    let authn = server.authn.load_full();
    let proxied = named_by_proxy(&authn, &received);
    let remarks = Remarks::default();
    let credentials = Credentials {
        client_certs: &received.peer.certificates,
        authorization: received.header("authorization"),
        websocket: in_protocols(&received),
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
            if user.name == ANONYMOUS || user.is_in(UNAUTHENTICATED) {
                leaves(server, &received);
            }
            forget_credentials(&mut received.headers);
            forget_proxies(&authn, &mut received.headers);
            Ok(Identified { received, user })
        }
        Outcome::None => Err(refused(server, &received).await),
        Outcome::Rejected(why) => {
            let from = received.peer.address.map(|address| address.to_string());
            tracing::info!(why = shown(&why), from, path = shown(&received.info.path), "credentials refused");
            Err(refused(server, &received).await)
        }
    }
}

/// Nobody keeps a connection of HTTP/2 who does not say who asks.
fn leaves(server: &Server, received: &Received) {
    if server.config.gates.enabled("UnauthenticatedHTTP2DOSMitigation")
        && let Some(going) = received.request.extensions().get::<Arc<Going>>()
    {
        going.last();
    }
}

async fn refused(server: &Server, received: &Received) -> Failure {
    leaves(server, received);
    let status = Status::unauthorized();
    if let Some(slip) = &received.slip {
        slip.unknown(received, &status).await;
    }
    Failure::Status(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{FrontProxy, Settings};
    use crate::encryption::Encryption;

    #[test]
    fn secrets_do_not_travel_on() {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer x"));
        let protocols = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0";
        headers.insert(HeaderName::from_static(PROTOCOLS), HeaderValue::from_static(protocols));
        forget_credentials(&mut headers);
        assert!(!headers.contains_key("authorization"));
        assert_eq!(headers.get(PROTOCOLS).unwrap(), "v4.channel.k8s.io");
        // Nobody is believed here; somebody else might be.
        for name in ["x-remote-user", "X-Remote-Group", "x-remote-uid", "x-remote-extra-a", "x-remote-port", "x-custom"]
        {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name.clone(), HeaderValue::from_bytes(b"r\xf6\xf6t").unwrap());
            headers.append(name, HeaderValue::from_static("root"));
        }
        let left = |headers: &HeaderMap| {
            let mut left: Vec<String> = headers.keys().map(ToString::to_string).collect();
            left.sort();
            left
        };
        forget_proxies(&Authenticators::new(&Settings::default()).unwrap(), &mut headers);
        assert_eq!(left(&headers), [PROTOCOLS, "x-custom", "x-remote-port"]);
        let ca = crate::testing::config(&Encryption::none()).identity.certificates;
        let own = FrontProxy { ca, username_headers: vec!["X-Custom".to_owned()], ..FrontProxy::default() };
        let proxied = Settings { front_proxy: Some(own), ..Settings::default() };
        let authn = Authenticators::new(&proxied);
        forget_proxies(&authn.unwrap(), &mut headers);
        assert_eq!(left(&headers), [PROTOCOLS, "x-remote-port"]);
        assert_eq!(shown(&"\u{e9}".repeat(1000)).len(), SHOWN);
    }
}
