//! Who calls a component's listener and whether they may: certificates of the cluster's clients and tokens, then an access review. The
//! API server answers both questions.
//!
//! Never remembers a refusal of the API server to answer as an answer.

use super::connection::Connection;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use tokio::time::{Duration, Instant};

/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Most answers remembered.
const REMEMBERED: usize = 1024;

/// A user, as reviews name one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    fn anonymous() -> User {
        User { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// Whom a verified certificate names: common name and organizations.
    fn of(certificate: &CertificateDer<'_>) -> Option<User> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let name = api::x509::common_name(certificate.subject())?.to_owned();
        let mut groups = api::x509::organizations(certificate.subject());
        groups.push("system:authenticated".to_owned());
        Some(User { name, groups })
    }
}

/// A question with its answer and when that was given.
type Answers = Mutex<HashMap<(Option<String>, User, String, String), (Instant, bool)>>;

/// Guards a listener.
pub(crate) struct Guard {
    connection: Connection,
    /// Paths that everybody may read; `*` at the end stands for any rest.
    open: Vec<String>,
    answers: Answers,
}

impl Guard {
    /// A guard that asks over this connection and leaves some paths open.
    pub(crate) fn new(connection: Connection, open: Vec<String>) -> Guard {
        Guard { connection, open, answers: Answers::default() }
    }

    fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|open| match open.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == open,
        })
    }

    /// Lets a request pass, or gives the refusal.
    ///
    /// # Errors
    /// 401 for a token that is none, 403 without the right, 500 when the API server does not answer.
    pub(crate) async fn check(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
        method: &http::Method,
        path: &str,
    ) -> Result<(), (StatusCode, String)> {
        if self.is_open(path) {
            return Ok(());
        }
        let header = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|text| text.strip_prefix("Bearer ")).map(|text| text.trim().to_owned());
        let named = certificates.first().and_then(User::of);
        let failed = |error: kube::Error| {
            tracing::warn!(%error, "a request was not reviewed");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n".to_owned())
        };
        let user = match (named, &token) {
            (Some(user), _) => user,
            (None, Some(token)) => self
                .identify(token)
                .await
                .map_err(failed)?
                .ok_or_else(|| (StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned()))?,
            (None, None) => User::anonymous(),
        };
        let verb = method.as_str().to_ascii_lowercase();
        let question = (token, user.clone(), verb.clone(), path.to_owned());
        let known = self.answers.lock().get(&question).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, may)| *may);
        let may = match known {
            Some(may) => may,
            None => {
                let may = self.may(&user, &verb, path).await.map_err(failed)?;
                let mut answers = self.answers.lock();
                if answers.len() >= REMEMBERED {
                    answers.clear();
                }
                answers.insert(question, (Instant::now(), may));
                may
            }
        };
        if may {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, format!("Forbidden: User {:?} cannot {verb} path {path:?}\n", user.name)))
    }

    async fn identify(&self, token: &str) -> Result<Option<User>, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.connection.client());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| User { name: user.username.unwrap_or_default(), groups: user.groups.unwrap_or_default() }))
    }

    async fn may(&self, user: &User, verb: &str, path: &str) -> Result<bool, kube::Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some(verb.to_owned()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.connection.client());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}
