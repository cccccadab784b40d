//! Who calls the kubelet and whether they may: client certificates and bearer tokens, then a right on a subresource of the node.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls_pki_types::CertificateDer;

use super::{Body, text};
use crate::delegated::{Reviews, Right, User, bearer};

/// The other end of a connection, as its certificate names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    user: Option<User>,
}

impl Peer {
    /// The user named by a verified client certificate.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        Self { user: chain.and_then(<[_]>::first).and_then(User::of) }
    }
}

/// Asks the API server who someone is and what they may do with this node.
pub(crate) struct Authorizer {
    reviews: Reviews,
    node: String,
}

/// The verb of an access review for a method.
fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    }
}

/// Subresources of `nodes` any of which permits a path, narrow ones first.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').find(|part| !part.is_empty()).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "pods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        _ => &["proxy"],
    }
}

impl Authorizer {
    /// An authorizer for one node's API.
    pub(crate) fn new(client: &kube::Client, node: String) -> Self {
        Self { reviews: Reviews::new(client.clone(), client.clone()), node }
    }

    /// Lets a request pass, or gives the answer that refuses it.
    pub(crate) async fn check(&self, request: &Request<Incoming>, peer: &Peer) -> Result<(), Response<Body>> {
        let failed = |error: kube::Error| {
            tracing::warn!(%error, "request to the kubelet not reviewed");
            text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        };
        let user = match (&peer.user, bearer(request.headers())) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(token)) => self.reviews.identify(token).await.map_err(failed)?,
            (None, None) => None,
        };
        let user = user.ok_or_else(|| text(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            let right = Right::Node { node: self.node.clone(), verb, subresource };
            if self.reviews.may(&user, &right).await.map_err(failed)? {
                return Ok(());
            }
        }
        let last = subresources.last().copied().unwrap_or("proxy");
        let message = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{last}])\n", user.name);
        Err(text(StatusCode::FORBIDDEN, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_their_subresource() {
        let cases: [(&str, &[&str]); 7] = [
            ("/stats/summary", &["stats"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/", &["proxy"]),
        ];
        for (path, expected) in cases {
            assert_eq!(subresources(path), expected, "{path}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST)), ("get", "create"));
    }
}
