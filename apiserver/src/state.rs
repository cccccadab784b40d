//! The cluster's own objects as authentication, authorization and admission ask for them, out of the caches.
//!
//! Waits for the store only where the latest is asked for: what these stages see otherwise may lag behind by the time an
//! event takes.

use crate::answer::Failure;
use crate::authn::{Identity, Objects, User};
use crate::authz::{Attributes, Decision, ResourceAttributes};
use crate::cache::{Caches, Snapshot};
use crate::legacy_tokens::Use;
use crate::road::timed::{Work, timed};
use crate::server::Server;
use admission::{Dynamic, Lookup, Refusal, Request, Right};
use api::cel::lib::authorizer::{self as cel, Question};
use api::json::Value;
use api::kind::Kind;
use api::{meta, value};
use async_trait::async_trait;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Secret;
use storage::store::Key as StoreKey;
use tokio::sync::mpsc;

/// See the file.
pub struct State {
    caches: Caches,
    uses: mpsc::Sender<Use>,
}

impl State {
    /// Uses of legacy tokens go to `uses`.
    pub(crate) fn new(caches: Caches, uses: mpsc::Sender<Use>) -> State {
        State { caches, uses }
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        Some(self.caches.named(resource)?.peek(namespace, name)?.value())
    }
}

#[async_trait]
impl Objects for State {
    async fn identity(&self, resource: &str, namespace: &str, name: &str) -> Option<Identity> {
        let entry = self.caches.named(resource)?.peek(namespace, name)?;
        // Asked for every request with a token: what stands at the object's head is enough.
        if let Some((uid, deleted)) = entry.identity() {
            return Some(Identity { uid: uid.to_owned(), deleted_at: deleted.and_then(meta::seconds) });
        }
        let object = entry.value();
        let deleted_at = meta::seconds(value::text(&object, "metadata.deletionTimestamp"));
        Some(Identity { uid: meta::uid(&object).to_owned(), deleted_at })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        api::json::from_value(self.get("secrets", namespace, name)?).ok()
    }

    async fn listed_secrets(&self, namespace: &str, account: &str) -> Vec<String> {
        let account = self.get("serviceaccounts", namespace, account).unwrap_or_default();
        let names = value::items(&account, "secrets").iter().map(|secret| value::text(secret, "name"));
        names.map(str::to_owned).collect()
    }

    async fn used(&self, namespace: &str, secret: &str, uid: &str, day: &str) {
        let [namespace, secret, uid, day] = [namespace, secret, uid, day].map(str::to_owned);
        // Where too many wait, the next use tells it again.
        let _ = self.uses.try_send(Use { namespace, secret, uid, day });
    }
}

/// Admission reads the store, so that it sees what the client has just written.
#[async_trait]
impl Lookup for Server {
    async fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = crate::authz::group_resource(group, plural);
        let found = timed(Work::Store, self.store.get(&StoreKey::new(&resource, namespace, name))).await.ok()??;
        api::codec::json::stored(&found.bytes).ok()
    }

    async fn pause(&self, time: std::time::Duration) {
        tokio::time::sleep(time).await;
    }

    fn takes_objects(&self, namespace: &str) -> bool {
        let Some(cache) = self.caches.named("namespaces") else { return false };
        cache.sound("", namespace).is_some_and(|entry| {
            entry.field(cache.kind(), "status.phase") == Some("Active")
                && entry.identity().is_some_and(|(_, deleted)| deleted.is_none())
        })
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(cache) = self.caches.named(&crate::authz::group_resource(group, plural)) else {
            return Vec::new();
        };
        inside(&cache.snapshot(), namespace)
    }

    async fn list_latest(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Value>, Refusal> {
        let Some(cache) = self.caches.named(&crate::authz::group_resource(group, plural)) else {
            return Ok(Vec::new());
        };
        let snapshot = cache.consistent(None).await.map_err(|error| {
            let (error, name) = (Box::new(error), String::new());
            Refusal(crate::answer::status(Failure::Store { error, resource: ("", ""), name }))
        })?;
        Ok(inside(&snapshot, namespace))
    }

    async fn may(&self, request: &Request<'_>, right: Right<'_>) -> bool {
        let resource = ResourceAttributes {
            group: right.group.to_owned(),
            version: "*".to_owned(),
            resource: right.resource.to_owned(),
            subresource: right.subresource.to_owned(),
            namespace: right.namespace.to_owned(),
            name: right.name.to_owned(),
            ..ResourceAttributes::default()
        };
        let attributes = Attributes {
            user: user(request),
            verb: right.verb.to_owned(),
            resource: Some(resource),
            path: String::new(),
        };
        self.authz.authorize(&attributes).await.is_allowed()
    }

    async fn peek(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        Some(self.caches.named(&crate::authz::group_resource(group, plural))?.peek(namespace, name)?.value())
    }

    fn generation(&self, group: &str, plural: &str) -> u64 {
        self.caches.named(&crate::authz::group_resource(group, plural)).map_or(0, |cache| cache.revision())
    }

    fn equivalents(&self, kind: &'static Kind) -> Vec<&'static Kind> {
        // By name: a definition that has changed meanwhile has kinds of its own.
        let place = |kind: &'static Kind| (kind.stored().group, kind.stored().plural);
        let other = |other: &&'static Kind| {
            place(other) == place(kind) && (other.group, other.version) != (kind.group, kind.version)
        };
        self.offer().served.kinds().iter().copied().filter(other).collect()
    }

    async fn converted(&self, from: &'static Kind, to: &'static Kind, mut object: Value) -> Result<Value, String> {
        if to.custom.is_some_and(|custom| custom.conversion.is_some()) {
            let converted = self.conversions.value(to, object).await;
            return converted.map_err(|failure| match failure {
                Failure::Status(status) => status.message,
                Failure::Store { error, .. } => error.to_string(),
            });
        }
        from.to_stored(&mut object);
        to.from_stored(&mut object);
        Ok(object)
    }

    fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
        let same = |other: &&&'static Kind| (other.group, other.version, other.kind) == (group, version, kind);
        self.offer().served.kinds().iter().find(same).copied()
    }

    fn decide(&self, request: &Request<'_>, question: &Question) -> cel::Decision {
        let user = match &question.service_account {
            Some((namespace, name)) => User::new(
                format!("system:serviceaccount:{namespace}:{name}"),
                &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            ),
            None => user(request),
        };
        let (resource, path) = match &question.on {
            cel::On::Path(path) => (None, path.clone()),
            cel::On::Resource(on) => {
                let resource = ResourceAttributes {
                    group: on.group.clone(),
                    version: "*".to_owned(),
                    resource: on.resource.clone(),
                    subresource: on.subresource.clone(),
                    namespace: on.namespace.clone(),
                    name: on.name.clone(),
                    ..ResourceAttributes::default()
                };
                let fields = Some(on.field_selector.as_str()).filter(|text| !text.is_empty());
                let labels = Some(on.label_selector.as_str()).filter(|text| !text.is_empty());
                (Some(resource.narrowed(fields, labels)), String::new())
            }
        };
        let attributes = Attributes { user, verb: question.verb.clone(), resource, path };
        // Expressions do not wait: an authorizer that does has no answer for them.
        match self.authz.authorize(&attributes).now_or_never() {
            Some(Decision::Allow(reason)) => cel::Decision { allowed: true, reason, error: None },
            Some(Decision::Deny(reason) | Decision::NoOpinion(reason)) => {
                cel::Decision { allowed: false, reason, error: None }
            }
            None => {
                let error = Some("the authorizers do not answer at once".to_owned());
                cel::Decision { error, ..cel::Decision::default() }
            }
        }
    }

    fn dynamic(&self) -> Option<&Dynamic> {
        Some(&self.dynamic)
    }
}

fn user(request: &Request<'_>) -> User {
    User {
        name: request.user.to_owned(),
        uid: request.uid.to_owned(),
        groups: request.groups.to_vec(),
        extra: request.extra.clone(),
    }
}

/// The objects of a namespace; of all when it is empty.
fn inside(snapshot: &Snapshot, namespace: &str) -> Vec<Value> {
    let objects = snapshot.objects.iter();
    objects
        .filter(|(key, _)| namespace.is_empty() || *key.namespace == *namespace)
        .map(|(_, entry)| entry.value())
        .collect()
}
