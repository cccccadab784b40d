//! Who calls the kubelet and whether they may: client certificates and bearer tokens, then an access review per request.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::{Body, text};

/// How long an identity or a permission is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Most entries remembered.
const REMEMBERED: usize = 1024;

/// The other end of a connection, as its certificate names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer {
    user: Option<User>,
}

/// A user as the access review names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Peer {
    /// The user named by a verified client certificate: common name and organizations.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let user = chain.and_then(<[_]>::first).and_then(|certificate| {
            let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
            let name = api::x509::common_name(certificate.subject())?.to_owned();
            let mut groups = api::x509::organizations(certificate.subject());
            groups.push("system:authenticated".to_owned());
            Some(User { name, uid: String::new(), groups, extra: BTreeMap::new() })
        });
        Self { user }
    }
}

impl From<UserInfo> for User {
    fn from(info: UserInfo) -> Self {
        Self {
            name: info.username.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        }
    }
}

struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: std::hash::Hash + Eq, V: Clone> Remembered<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        self.0.lock().get(key).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut map = self.0.lock();
        if map.len() >= REMEMBERED {
            map.retain(|_, (at, _)| at.elapsed() < BELIEVED);
            if map.len() >= REMEMBERED {
                map.clear();
            }
        }
        map.insert(key, (Instant::now(), value));
    }
}

type Question = (User, &'static str, &'static str);

/// Asks the API server who someone is and what they may do with this node.
pub(crate) struct Authorizer {
    client: kube::Client,
    node: String,
    tokens: Remembered<[u8; 32], User>,
    allowed: Remembered<Question, bool>,
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
    pub(crate) fn new(client: kube::Client, node: String) -> Self {
        Self { client, node, tokens: Remembered::new(), allowed: Remembered::new() }
    }

    /// Lets a request pass, or gives the answer that refuses it.
    pub(crate) async fn check(&self, request: &Request<Incoming>, peer: &Peer) -> Result<(), Response<Body>> {
        let failed = |error: kube::Error| {
            tracing::warn!(%error, "request to the kubelet not reviewed");
            text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        };
        let user = match &peer.user {
            Some(user) => user.clone(),
            None => self
                .identify(request)
                .await
                .map_err(failed)?
                .ok_or_else(|| text(StatusCode::UNAUTHORIZED, "Unauthorized"))?,
        };
        let verb = verb(request.method());
        let path = request.uri().path();
        for subresource in subresources(path) {
            if self.may(&user, verb, subresource).await.map_err(failed)? {
                return Ok(());
            }
        }
        let last = subresources(path).last().copied().unwrap_or("proxy");
        let message = format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{last}])\n", user.name);
        Err(text(StatusCode::FORBIDDEN, message))
    }

    async fn identify(&self, request: &Request<Incoming>) -> Result<Option<User>, kube::Error> {
        let header = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|text| text.strip_prefix("Bearer ")).map(str::trim) else { return Ok(None) };
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(user) = self.tokens.get(&key) {
            return Ok(Some(user));
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(User::from);
        if let Some(user) = &user {
            self.tokens.put(key, user.clone());
        }
        Ok(user)
    }

    async fn may(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, kube::Error> {
        let question = (user.clone(), verb, subresource);
        if let Some(allowed) = self.allowed.get(&question) {
            return Ok(allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    version: Some("v1".to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        self.allowed.put(question, allowed);
        Ok(allowed)
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

    #[test]
    fn a_certificate_names_a_user_and_its_groups() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "api");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let peer = Peer::of(Some(&[certificate.der().clone()]));
        let user = peer.user.unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("api", &["system:masters".to_owned(), "system:authenticated".to_owned()][..])
        );
        assert!(Peer::of(None).user.is_none());
    }
}
