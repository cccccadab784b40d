//! Who is asking: an ordered table of authenticators, each of which turns credentials into a [`User`].
//!
//! The order of [`TABLE`] is meaning: the first authenticator that recognises the caller decides, a rejection is kept until
//! all had their turn, and `anonymous` (always last) speaks only where no credential was refused. This module knows nothing
//! of HTTP beyond the texts in [`Credentials`], and never decides what a user may do.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod anonymous;
mod bootstrap_token;
mod front_proxy;
pub mod oidc;
mod remembered;
mod service_account;
mod signature;
mod token_file;
pub mod tokens;
mod webhook;
mod x509;

pub use bootstrap_token::BOOTSTRAP_GROUP;
pub use front_proxy::FrontProxy;
pub use oidc::{Anonymous, Issuers};
pub(crate) use remembered::Remembered;
pub use service_account::{Counters as TokenCounters, ServiceAccounts};
pub use webhook::TokenWebhook;

/// The name of a caller without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of callers without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of every caller with accepted credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of all service accounts; each namespace's is this, a colon and the namespace.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The key in [`User::extra`] that names the credential used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Upstream's `user.Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name that bindings and audit refer to.
    pub name: String,
    /// Stable over renames where the authenticator knows one, else empty.
    pub uid: String,
    /// Groups, in the order in which the authenticator gave them.
    pub groups: Vec<String>,
    /// What else the authenticator found; keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of this name and these groups, with no uid and nothing extra.
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..Self::default() }
    }

    /// The caller without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// A service account as upstream names it: `system:serviceaccount:<namespace>:<name>` with its two groups.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: service_account_username(namespace, name),
            uid: uid.to_owned(),
            groups: vec![SERVICE_ACCOUNTS.to_owned(), [SERVICE_ACCOUNTS, ":", namespace].concat()],
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is a member of `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Adds `system:authenticated` unless the user carries it already or is unauthenticated.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// `system:serviceaccount:<namespace>:<name>`.
#[must_use]
pub fn service_account_username(namespace: &str, name: &str) -> String {
    ["system:serviceaccount:", namespace, ":", name].concat()
}

/// Namespace and name out of a service account's user name.
#[must_use]
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?
        .split_once(':')
        .filter(|(ns, name)| !ns.is_empty() && !name.is_empty() && !name.contains(':'))
}

/// What a request brought to prove who sent it. All fields borrow from the request.
#[derive(Clone)]
pub struct Credentials<'a> {
    /// The chain the TLS peer showed (leaf first; possession of the key proven by the handshake, trust not judged), or empty.
    pub client_certs: &'a [CertificateDer<'static>],
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// What a WebSocket offers as its protocols.
    pub websocket: Offered<'a>,
    /// Names (lower case) and values of headers in which a front proxy may name the user; empty where none is trusted.
    pub headers: &'a [(String, String)],
    /// The request's path, without its query.
    pub path: &'a str,
    /// Unix seconds; the callers' clock, so that tests run on virtual time.
    pub now: i64,
    /// Where what is worth saying of them goes, if anybody wants to know.
    pub remarks: Option<&'a Remarks>,
}

/// What is worth saying of credentials beyond whether they hold.
#[derive(Debug, Default)]
pub struct Remarks(Mutex<Vec<Remark>>);

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// An annotation of the audit event: key and value.
    Audit(&'static str, String),
    /// For the client.
    Warning(&'static str),
}

impl Remarks {
    /// One more.
    pub fn add(&self, remark: Remark) {
        self.0.lock().push(remark);
    }

    /// All of them; none are left.
    #[must_use]
    pub fn take(&self) -> Vec<Remark> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Credentials<'_> {
    /// No credentials, at this Unix second.
    #[must_use]
    pub fn none(now: i64) -> Self {
        Self {
            client_certs: &[],
            authorization: None,
            websocket: Offered::default(),
            headers: &[],
            path: "/",
            now,
            remarks: None,
        }
    }

    /// The bearer token, from the header or from the protocols of a WebSocket. An empty token counts as none.
    ///
    /// # Errors
    /// One sentence for a token among the protocols that cannot be read.
    pub fn bearer(&self) -> Result<Option<Cow<'_, str>>, &'static str> {
        match self.header() {
            Some(token) => Ok(Some(Cow::Borrowed(token))),
            None => Ok(self.websocket.token()?.map(Cow::Owned)),
        }
    }

    fn header(&self) -> Option<&str> {
        let (scheme, token) = self.authorization?.trim().split_once(' ')?;
        let end = memchr::memchr(b' ', token.as_bytes()).unwrap_or(token.len());
        let token = token.get(..end).unwrap_or_default();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    }
}

/// The protocols that a WebSocket offers.
#[derive(Clone, Debug, Default)]
pub struct Offered<'a> {
    /// Each `<this>` of `Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.<this>`, still base64url.
    pub tokens: Vec<&'a str>,
    /// There are others: one that the answer can name.
    pub others: bool,
}

impl Offered<'_> {
    fn token(&self) -> Result<Option<String>, &'static str> {
        let encoded = match self.tokens.as_slice() {
            [] => return Ok(None),
            [one] => one,
            _ => return Err("multiple base64.bearer.authorization tokens specified"),
        };
        let bytes = tokens::base64url_decode(encoded).ok_or("invalid base64.bearer.authorization token encoding")?;
        let token = String::from_utf8(bytes).map_err(|_| "invalid base64.bearer.authorization token")?;
        match token.as_str() {
            "" => Ok(None),
            _ if !self.others => Err("missing additional subprotocol"),
            _ => Ok(Some(token)),
        }
    }
}

/// What an authenticator found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller is this user.
    User(User),
    /// No credential of the kind this authenticator reads.
    None,
    /// A credential of its kind that does not hold; one sentence, for the log only (clients get `Unauthorized`).
    Rejected(String),
}

/// A token that was accepted: who it is and which of the asked audiences it serves (`TokenReview.status`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The user, already in `system:authenticated`.
    pub user: User,
    /// Intersection of the asked and the token's audiences.
    pub audiences: Vec<String>,
}

/// One way to recognise callers.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Judges the credentials it understands, at `credentials.now`. `bearer` is what `credentials.bearer()` gives.
    async fn request(&self, credentials: &Credentials<'_>, bearer: Option<&str>) -> Outcome {
        match bearer {
            Some(token) => {
                match self.token(token, &[], credentials.now, credentials.remarks.unwrap_or(&Remarks::default())).await
                {
                    Ok(Some(accepted)) => Outcome::User(accepted.user),
                    Ok(None) => Outcome::None,
                    Err(why) => Outcome::Rejected(why),
                }
            }
            None => Outcome::None,
        }
    }

    /// Judges a bearer token for these audiences (empty: the API server's own), at this Unix second, and says what is worth saying of it.
    /// `Ok(None)`: not of its kind; `Err`: one sentence why it does not hold.
    async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        remarks: &Remarks,
    ) -> Result<Option<Accepted>, String> {
        let _ = (token, audiences, now, remarks);
        Ok(None)
    }

    /// Whether its tokens name their audiences; others are good for the API server's audiences only.
    fn knows_audiences(&self) -> bool {
        false
    }

    /// Speaks only where nothing was rejected before it.
    fn only_without_credentials(&self) -> bool {
        false
    }
}

/// An object's identity, as much as a bound token needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.deletionTimestamp`, Unix seconds. It lies in the future while a pod's grace period runs.
    pub deleted_at: Option<i64>,
}

/// What the authenticators ask of the cluster's state.
#[async_trait]
pub trait Objects: Send + Sync {
    /// The identity of an object of the core group (`pods`, `secrets`, `nodes`, `serviceaccounts`); `namespace` is empty for
    /// nodes. `None` when it does not exist.
    async fn identity(&self, resource: &str, namespace: &str, name: &str) -> Option<Identity>;

    /// A secret whole, for bootstrap tokens and legacy service account tokens.
    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;

    /// Names of the secrets that a service account lists.
    async fn listed_secrets(&self, namespace: &str, account: &str) -> Vec<String>;

    /// The token of a secret, which had this uid, was used on this day (`2026-01-31`), and the secret does not say so yet.
    async fn used(&self, namespace: &str, secret: &str, uid: &str, day: &str);
}

/// What the flags say; each authenticator takes its part and stays away where that is empty.
#[derive(Clone, Default)]
pub struct Settings {
    /// `--client-ca-file`'s content, PEM.
    pub client_ca: Option<String>,
    /// `--token-auth-file`'s content: `token,user,uid[,"group1,group2"]` per line.
    pub token_file: Option<String>,
    /// Service account tokens.
    pub service_accounts: Option<ServiceAccounts>,
    /// What their uses are counted with.
    pub token_counters: Option<TokenCounters>,
    /// `--enable-bootstrap-token-auth`; needs `objects`.
    pub bootstrap_tokens: bool,
    /// Issuers beyond the cluster.
    pub issuers: Issuers,
    /// `--authentication-token-webhook-config-file` and its companions.
    pub webhook: Option<TokenWebhook>,
    /// `--requestheader-client-ca-file` and its companions.
    pub front_proxy: Option<FrontProxy>,
    /// `--anonymous-auth`, or what the file of `--authentication-config` says.
    pub anonymous: Anonymous,
    /// `--api-audiences`: what tokens of other kinds than service accounts' are good for.
    pub api_audiences: Vec<String>,
    /// The cluster's state.
    pub objects: Option<Arc<dyn Objects>>,
}

/// Why the flags cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The client CA bundle is unusable.
    #[error("--client-ca-file: {0}")]
    ClientCa(String),
    /// The token file is unusable.
    #[error("--token-auth-file: {0}")]
    TokenFile(String),
    /// The issuers cannot be used.
    #[error("--authentication-config, --oidc-*: {0}")]
    Issuers(String),
    /// The webhook cannot be used.
    #[error("--authentication-token-webhook-config-file: {0}")]
    Webhook(String),
    /// The front proxy's authorities or headers cannot be used.
    #[error("--requestheader-*: {0}")]
    FrontProxy(String),
}

type Build = fn(&Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError>;

/// All authenticators in order. One more is one file and one line.
const TABLE: &[(&str, Build)] = &[
    ("front_proxy", front_proxy::build),
    ("x509", x509::build),
    ("token_file", token_file::build),
    ("service_account", service_account::build),
    ("bootstrap_token", bootstrap_token::build),
    // Behind the cluster's own tokens: these may have to ask somebody.
    ("oidc", oidc::build),
    ("webhook", webhook::build),
    ("anonymous", anonymous::build),
];

/// The authenticators that the settings turned on.
pub struct Authenticators {
    active: Vec<(&'static str, Box<dyn Authenticator>)>,
    api_audiences: Vec<String>,
    proxied: Vec<String>,
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.active.iter().map(|(name, _)| name)).finish()
    }
}

impl Authenticators {
    /// Builds those that `settings` ask for.
    ///
    /// # Errors
    /// When a file that a setting names cannot be understood.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let mut active = Vec::new();
        for (name, build) in TABLE {
            if let Some(authenticator) = build(settings)? {
                active.push((*name, authenticator));
            }
        }
        let proxied = settings.front_proxy.as_ref().map(FrontProxy::headers).unwrap_or_default();
        Ok(Self { active, api_audiences: settings.api_audiences.clone(), proxied })
    }

    /// Whether a header of this name (lower case) speaks about the user when a front proxy sends it.
    #[must_use]
    pub fn reads(&self, header: &str) -> bool {
        self.proxied.iter().any(|own| match own.strip_suffix('*') {
            Some(prefix) => header.starts_with(prefix),
            None => header == own,
        })
    }

    /// Whether there is a front proxy at all.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        !self.proxied.is_empty()
    }

    /// Who sent the request. A bearer token that nobody knows is a rejection, as is a certificate of another authority: only
    /// a request without credentials is anonymous. `Outcome::None` happens only with anonymous access turned off.
    pub async fn authenticate(&self, credentials: &Credentials<'_>) -> Outcome {
        let (bearer, mut rejected) = match credentials.bearer() {
            Ok(bearer) => (bearer, None),
            Err(why) => (None, Some(why.to_owned())),
        };
        let bearer = bearer.as_deref();
        for (name, authenticator) in &self.active {
            if authenticator.only_without_credentials() && (rejected.is_some() || bearer.is_some()) {
                continue;
            }
            match authenticator.request(credentials, bearer).await {
                Outcome::User(user) => return Outcome::User(user.authenticated()),
                Outcome::None => {}
                Outcome::Rejected(why) => {
                    rejected.get_or_insert_with(|| format!("{name}: {why}"));
                }
            }
        }
        match rejected {
            Some(why) => Outcome::Rejected(why),
            None if bearer.is_some() => Outcome::Rejected("invalid bearer token".to_owned()),
            None => Outcome::None,
        }
    }

    /// Judges a token for `TokenReview`; empty `audiences` stand for the API server's own.
    ///
    /// # Errors
    /// The sentence for `status.error` when some authenticator knows the token's kind and refuses it.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        remarks: &Remarks,
    ) -> Result<Option<Accepted>, String> {
        let mut refused = None;
        let own: Vec<String> = match audiences {
            [] => self.api_audiences.clone(),
            asked => asked.iter().filter(|audience| self.api_audiences.contains(audience)).cloned().collect(),
        };
        for (_, authenticator) in &self.active {
            if !authenticator.knows_audiences() && own.is_empty() && !audiences.is_empty() {
                continue;
            }
            match authenticator.token(token, audiences, now, remarks).await {
                Ok(Some(accepted)) => {
                    let audiences = if authenticator.knows_audiences() { accepted.audiences } else { own };
                    return Ok(Some(Accepted { user: accepted.user.authenticated(), audiences }));
                }
                Ok(None) => {}
                Err(why) => {
                    refused.get_or_insert(why);
                }
            }
        }
        refused.map_or(Ok(None), Err)
    }
}

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
