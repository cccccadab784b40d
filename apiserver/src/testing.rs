//! Whole API servers for tests, over a store in memory.

use crate::authn::{AUTHENTICATED, User};
use crate::encryption::Encryption;
use crate::server::{Config, Running};
use crate::transport::Identity;
use api::json::Value;
use kube::client::Body;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::SystemClock;
use storage::kv::Kv;
use storage::sim::{Faults, Sim};
use storage::store::Store;
use tokio_util::sync::CancellationToken;

/// A server on a port of its own, with RBAC.
pub(crate) fn config(encryption: &Arc<Encryption>) -> Config {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let signing_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    Config {
        disable_admission: vec!["ServiceAccount".to_owned()],
        encryption: Arc::clone(encryption),
        ..Config::new(Identity { certificates: certificate.pem(), key: key.serialize_pem() }, signing_key)
    }
}

/// A server that is set up.
pub(crate) struct World {
    pub(crate) running: Running,
    stop: CancellationToken,
}

impl World {
    /// Starts one with these changes to its configuration.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> World {
        World::over(&World::store().await, change).await
    }

    /// A store in memory.
    pub(crate) async fn store() -> Store {
        let kv: Arc<dyn Kv> = Arc::new(Sim::new(1, Faults::NONE));
        Store::open_sealed(kv, Arc::new(SystemClock), Encryption::none()).await.unwrap()
    }

    /// Starts one over this store, beside others.
    pub(crate) async fn over(store: &Store, change: impl FnOnce(&mut Config)) -> World {
        let mut config = config(&Encryption::none());
        change(&mut config);
        let (clock, stop, store) = (Arc::new(SystemClock), CancellationToken::new(), store.clone());
        let world = World { running: crate::start(config, store, clock, stop.clone()).await.unwrap(), stop };
        // Roles are read from the cache.
        let (user, review) = (User::new("somebody", &[AUTHENTICATED]), api::json::json!({}));
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        for _ in 0..500 {
            if world.ask(&user, "POST", path, &review).await.0 == 201 {
                return world;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the roles of every cluster do not come");
    }

    /// Stops it, and returns when the requests in progress have ended and what they left is on record.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.running.closed().await;
    }

    /// Code and body of an answer, asked for as this user inside the process.
    pub(crate) async fn ask(&self, user: &User, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        self.send(user, method, path, media, body).await
    }

    /// The same with a body of this media type, which is written as JSON.
    pub(crate) async fn send(&self, user: &User, method: &str, path: &str, media: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", media);
        let client = self.running.client(user.clone(), "test");
        let answer = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (code, api::json::from_str(&text).unwrap_or_else(|_| Value::from(text)))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
