//! Who calls a component's listener and whether they may: a front proxy's word, certificates of the cluster's clients, tokens, then an access
//! review. The API server answers the questions about tokens and rights.
//!
//! Never lets anybody pass because a question was not answered.

use super::trust::{Found, Trust};
use http::{HeaderMap, StatusCode};
use kubelet::delegated::{Reviews, Right, User, bearer};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;

/// Guards a listener.
pub(crate) struct Guard {
    reviews: Reviews,
    trust: Arc<Trust>,
    /// Paths that everybody may read; `*` at the end stands for any rest.
    open: Vec<String>,
}

impl Guard {
    /// A guard that asks there, knows callers by this trust and leaves some paths open.
    pub(crate) fn new(reviews: Reviews, trust: Arc<Trust>, open: Vec<String>) -> Guard {
        Guard { reviews, trust, open }
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
    /// 401 for credentials that are none, 403 without the right, 500 when the API server does not answer.
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
        let failed = |error: kube::Error| {
            tracing::warn!(%error, "a request was not reviewed");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n".to_owned())
        };
        let user = match (self.trust.identify(certificates, headers).await, bearer(headers)) {
            (Found::User(user), _) => Some(user),
            (_, Some(token)) => self.reviews.identify(token).await.map_err(failed)?,
            (Found::Refused, None) => None,
            (Found::Nobody, None) => Some(User::anonymous()),
        };
        let user = user.ok_or_else(|| (StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned()))?;
        let verb = method.as_str().to_ascii_lowercase();
        let right = Right::Path { verb: verb.clone(), path: path.to_owned() };
        if self.reviews.may(&user, &right).await.map_err(failed)? {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, format!("Forbidden: User {:?} cannot {verb} path {path:?}\n", user.name)))
    }
}
