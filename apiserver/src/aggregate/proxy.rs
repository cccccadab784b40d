//! A request that an aggregated API server answers: passed on with the user's name, and its answer passed back.
//!
//! Never looks into either. After an upgrade the connection is a tunnel. Source: upstream's `handler_proxy.go`.

use super::remote::{Remote, Unreachable};
use crate::answer::{Answer, Body, Failure};
use crate::authn::User;
use crate::road::authorized::Authorized;
use crate::server::Server;
use crate::spans::Asking;
use crate::verb::connect::{HOP, exchange, passed_on, pieces, session, tunnel};
use api::status::Status;
use futures::StreamExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::TokioIo;

/// Headers with which a client could say something that only we may say.
const OURS: [&str; 2] = ["impersonate-", "x-remote-"];

/// Answers a request through the server of an APIService.
///
/// # Errors
/// 500 for a request that cannot be passed on; whom it cannot be passed on to is an answer of its own.
pub(crate) async fn answer(server: &Server, authorized: Authorized, remote: &Remote) -> Result<Answer, Failure> {
    if !remote.available {
        return Ok(unavailable());
    }
    let received = &authorized.received;
    let session = session(received, authorized.permit.user())?;
    let (stream, authority) = match remote.connect(server).await {
        Ok(connected) => connected,
        Err(Unreachable::Service(why)) => {
            tracing::debug!(%why, name = remote.name, "an aggregated API server cannot be found");
            return Ok(unavailable());
        }
        Err(Unreachable::Backend(why)) => return Ok(unreachable(&why)),
    };
    let upgrading = received.header("upgrade").is_some();
    let target = received.request.uri().path_and_query().map_or("/", |target| target.as_str());
    // Upstream's tunnels are not told of a trace beyond what their client says.
    let mut asking = (!upgrading)
        .then(|| Asking::begin(received.method.as_str(), &remote.host(), || format!("https://{authority}{target}")));
    let told = asking.as_ref().map(Asking::headers).unwrap_or_default();
    let mut request = http::Request::builder().method(received.method.as_str()).uri(target);
    request = request.header("host", authority);
    for (name, value) in &received.headers {
        let name = name.as_str();
        let hop = HOP.contains(&name) && name != "content-length" && !(upgrading && name == "connection");
        // Credentials are for this server alone.
        let said = told.iter().any(|(own, _)| *own == name);
        let kept = !hop && !said && name != "authorization" && !OURS.iter().any(|prefix| name.starts_with(prefix));
        if kept {
            request = request.header(name, value.as_bytes());
        }
    }
    for (name, value) in user_headers(authorized.permit.user()) {
        request = request.header(name, value);
    }
    for (name, value) in told {
        request = request.header(name, value);
    }
    let body = received.body.take();
    let frames = body.map(|chunk| chunk.map(Frame::data).map_err(|error| std::io::Error::other(error.to_string())));
    let request = request.body(StreamBody::new(frames)).map_err(Status::internal)?;
    let response = match exchange(TokioIo::new(stream), request).await {
        Ok(response) => response,
        Err(error) => return Ok(unreachable(&error.to_string())),
    };
    if let Some(asking) = &mut asking {
        asking.answered(response.status().as_u16());
    }
    if response.status().as_u16() == 101 {
        return tunnel(received, response, session);
    }
    let (code, headers) = (response.status().as_u16(), passed_on(&response, false));
    let answer = Answer::of(code, "", Body::Stream(pieces(response, received.records())));
    Ok(answer.with_all(headers))
}

fn unavailable() -> Answer {
    Answer::bytes(503, "text/plain; charset=utf-8", "service unavailable\n").with("x-content-type-options", "nosniff")
}

fn unreachable(why: &str) -> Answer {
    Answer::bytes(503, "text/plain; charset=utf-8", format!("error trying to reach service: {why}"))
}

/// Who asks, as the front proxy says it.
fn user_headers(user: &User) -> Vec<(String, String)> {
    let mut out = vec![("x-remote-user".to_owned(), user.name.clone())];
    if !user.uid.is_empty() {
        out.push(("x-remote-uid".to_owned(), user.uid.clone()));
    }
    out.extend(user.groups.iter().map(|group| ("x-remote-group".to_owned(), group.clone())));
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        out.extend(values.iter().map(|value| (name.clone(), value.clone())));
    }
    out
}

/// A key as part of the name of a header: what may not stand there is written in percents.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_in_headers() {
        let mut user = User::new("jane", &["a", "b"]);
        user.uid = "u".to_owned();
        user.extra.insert("example.com/scope%".to_owned(), vec!["x".to_owned(), "y".to_owned()]);
        let headers = user_headers(&user);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            headers,
            [
                ("x-remote-user", "jane"),
                ("x-remote-uid", "u"),
                ("x-remote-group", "a"),
                ("x-remote-group", "b"),
                ("x-remote-extra-example.com%2Fscope%25", "x"),
                ("x-remote-extra-example.com%2Fscope%25", "y"),
            ]
        );
    }
}
