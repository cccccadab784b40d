//! Who calls a component's listener and whether they may, as the API server says: tokens by TokenReview, rights by SubjectAccessReview.
//!
//! Never takes a question that was not answered for a refusal.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use http::HeaderMap;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

/// How long an identity or a permission is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Most entries remembered.
const REMEMBERED: usize = 1024;

/// A user, as reviews name one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name that bindings refer to.
    pub name: String,
    /// Stable over renames, where one is known.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The caller without credentials.
    #[must_use]
    pub fn anonymous() -> User {
        let groups = vec!["system:unauthenticated".to_owned()];
        User { name: "system:anonymous".to_owned(), groups, ..User::default() }
    }

    /// Whom a certificate names that was found good: common name and organizations.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<User> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let name = api::x509::common_name(certificate.subject())?.to_owned();
        let mut groups = api::x509::organizations(certificate.subject());
        groups.push("system:authenticated".to_owned());
        Some(User { name, groups, ..User::default() })
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

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Right {
    /// A verb on a subresource of a node.
    Node {
        /// The node.
        node: String,
        /// The verb.
        verb: &'static str,
        /// The subresource.
        subresource: &'static str,
    },
    /// A verb on a path that is no resource.
    Path {
        /// The method, lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Hash + Eq, V: Clone> Remembered<K, V> {
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

/// Asks the API server, and remembers its answers for a short while.
pub struct Reviews {
    tokens: Api<TokenReview>,
    rights: Api<SubjectAccessReview>,
    known: Remembered<[u8; 32], User>,
    judged: Remembered<(User, Right), bool>,
}

/// The bearer token of a request.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

impl Reviews {
    /// Asks about tokens and about rights over these clients.
    #[must_use]
    pub fn new(tokens: kube::Client, rights: kube::Client) -> Reviews {
        let (known, judged) = (Remembered::new(), Remembered::new());
        Reviews { tokens: Api::all(tokens), rights: Api::all(rights), known, judged }
    }

    /// Whose token this is; none for one that is nobody's.
    ///
    /// # Errors
    /// When the API server does not answer the question.
    pub async fn identify(&self, token: &str) -> Result<Option<User>, kube::Error> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(user) = self.known.get(&key) {
            return Ok(Some(user));
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.tokens.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(User::from);
        if let Some(user) = &user {
            self.known.put(key, user.clone());
        }
        Ok(user)
    }

    /// Whether the user has a right.
    ///
    /// # Errors
    /// When the API server does not answer the question.
    pub async fn may(&self, user: &User, right: &Right) -> Result<bool, kube::Error> {
        let question = (user.clone(), right.clone());
        if let Some(judged) = self.judged.get(&question) {
            return Ok(judged);
        }
        let review = SubjectAccessReview { spec: asked(user, right), ..SubjectAccessReview::default() };
        let answer = self.rights.create(&PostParams::default(), &review).await?;
        let may = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        self.judged.put(question, may);
        Ok(may)
    }
}

fn asked(user: &User, right: &Right) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        ..SubjectAccessReviewSpec::default()
    };
    match right {
        Right::Node { node, verb, subresource } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some((*subresource).to_owned()),
                name: Some(node.clone()),
                version: Some("v1".to_owned()),
                ..ResourceAttributes::default()
            });
        }
        Right::Path { verb, path } => {
            spec.non_resource_attributes =
                Some(NonResourceAttributes { path: Some(path.clone()), verb: Some(verb.clone()) });
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_a_user_and_its_groups() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "api");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let user = User::of(certificate.der()).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("api", &["system:masters".to_owned(), "system:authenticated".to_owned()][..])
        );
    }

    #[test]
    fn a_token_is_what_stands_behind_the_scheme() {
        for (header, want) in [("Bearer a", Some("a")), ("Bearer  a ", Some("a")), ("Bearer ", None), ("Basic a", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, http::HeaderValue::from_static(header));
            assert_eq!(bearer(&headers), want, "{header}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn memory_stays_bounded() {
        let memory = Remembered::new();
        for key in 0..=REMEMBERED {
            memory.put(key, key);
        }
        assert!(memory.0.lock().len() <= REMEMBERED);
        assert_eq!(memory.get(&REMEMBERED), Some(REMEMBERED));
    }
}
