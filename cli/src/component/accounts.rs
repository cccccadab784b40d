//! Each controller under its own service account: tokens by TokenRequest, fetched when they are needed and again before they end.
//!
//! Never writes a token anywhere. Source: upstream's `--use-service-account-credentials`.

use super::connection::Connection;
use http::{Request, Response};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::client::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where the accounts are.
const NAMESPACE: &str = "kube-system";
/// How long a token is asked for, seconds.
const LIFE: i64 = 3600;
/// How long one is used.
const USED: Duration = Duration::from_secs(3600 * 4 / 5);

/// A connection as one service account of `kube-system`.
#[derive(Clone)]
pub(crate) struct Account {
    name: Arc<str>,
    /// Asks for tokens.
    asker: kube::Client,
    /// Carries the requests, without credentials of its own.
    bare: Connection,
    agent: http::HeaderValue,
    token: Arc<Mutex<Option<(http::HeaderValue, Instant)>>>,
}

impl Account {
    /// A client that acts as the account `name`.
    pub(crate) fn client(name: &str, asker: &Connection, bare: &Connection, agent: &str) -> kube::Client {
        let agent = format!("{agent}/{name}");
        let account = Account {
            name: name.into(),
            asker: asker.client(),
            bare: bare.clone(),
            agent: http::HeaderValue::from_str(&agent).unwrap_or(http::HeaderValue::from_static("ironkeel")),
            token: Arc::default(),
        };
        let service = tower::service_fn(move |request| {
            let account = account.clone();
            async move { account.send(request).await }
        });
        kube::Client::new(service, "default")
    }

    async fn token(&self) -> Result<http::HeaderValue, kube::Error> {
        let mut held = self.token.lock().await;
        if let Some((token, at)) = held.as_ref()
            && at.elapsed() < USED
        {
            return Ok(token.clone());
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.asker.clone(), NAMESPACE);
        if api.get_opt(&self.name).await?.is_none() {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some(self.name.to_string());
            match api.create(&PostParams::default(), &account).await {
                Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 409) => return Err(error),
                _ => {}
            }
        }
        let spec = TokenRequestSpec { expiration_seconds: Some(LIFE), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = api.create_token_request(&self.name, &PostParams::default(), &request).await?;
        let token = answer.status.and_then(|status| status.token).unwrap_or_default();
        let header = http::HeaderValue::from_str(&format!("Bearer {token}"));
        let mut header = header.map_err(|error| kube::Error::HttpError(error.into()))?;
        header.set_sensitive(true);
        *held = Some((header.clone(), Instant::now()));
        Ok(header)
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        request.headers_mut().insert(http::header::USER_AGENT, self.agent.clone());
        request.headers_mut().insert(http::header::AUTHORIZATION, self.token().await?);
        let response = self.bare.send(request).await?;
        if response.status() == http::StatusCode::UNAUTHORIZED {
            // The account was made anew, or the key changed: the next request brings another token.
            *self.token.lock().await = None;
        }
        Ok(response)
    }
}
