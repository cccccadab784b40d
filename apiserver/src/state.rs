//! The cluster's own objects as authentication, authorization and admission ask for them, out of the caches.
//!
//! Waits for the store only where the latest is asked for: what these stages see otherwise may lag behind by the time an
//! event takes.

use crate::answer::Failure;
use crate::authn::{Identity, Objects, User};
use crate::authz::rbac::Policy;
use crate::authz::{Attributes, Decision, ResourceAttributes};
use crate::cache::{Cache, Caches, Entry, Key, Snapshot};
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
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use storage::store::Key as StoreKey;
use tokio::sync::mpsc;

/// See the file.
pub struct State {
    caches: Caches,
    /// Of the four RBAC kinds: every request asks how far they are.
    rbac: Vec<Arc<Cache>>,
    cluster_roles: Kept<ClusterRole>,
    cluster_role_bindings: Kept<ClusterRoleBinding>,
    roles: Kept<Role>,
    role_bindings: Kept<RoleBinding>,
    uses: mpsc::Sender<Use>,
}

/// The four RBAC kinds.
const RBAC: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];
const GROUP: &str = "rbac.authorization.k8s.io";

impl State {
    /// Uses of legacy tokens go to `uses`.
    pub(crate) fn new(caches: Caches, uses: mpsc::Sender<Use>) -> State {
        let rbac = RBAC.iter().filter_map(|resource| caches.named(&format!("{resource}.{GROUP}"))).collect();
        State {
            caches,
            rbac,
            cluster_roles: Kept::default(),
            cluster_role_bindings: Kept::default(),
            roles: Kept::default(),
            role_bindings: Kept::default(),
            uses,
        }
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        Some(self.caches.named(resource)?.peek(namespace, name)?.value())
    }

    fn all<T: DeserializeOwned>(&self, resource: &str, kept: &Kept<T>) -> Vec<Arc<T>> {
        let Some(cache) = self.caches.named(&format!("{resource}.{GROUP}")) else {
            return Vec::new();
        };
        kept.of(&cache.snapshot())
    }
}

/// The objects of one kind as they were read last, so that a change of one costs the reading of one.
struct Kept<T>(Mutex<HashMap<Key, Read<T>>>);

/// What is in the cache and what was read of it, if it could be.
type Read<T> = (Arc<Entry>, Option<Arc<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept(Mutex::default())
    }
}

impl<T: DeserializeOwned> Kept<T> {
    /// Those of a snapshot that can be read.
    fn of(&self, snapshot: &Snapshot) -> Vec<Arc<T>> {
        let mut kept = self.0.lock();
        let mut now = HashMap::with_capacity(snapshot.objects.len());
        let mut all = Vec::with_capacity(snapshot.objects.len());
        for (key, entry) in &snapshot.objects {
            let read = match kept.remove(key) {
                Some((own, read)) if Arc::ptr_eq(&own, entry) => read,
                _ => api::json::from_slice(&entry.json).ok().map(Arc::new),
            };
            all.extend(read.clone());
            now.insert(key.clone(), (Arc::clone(entry), read));
        }
        *kept = now;
        all
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

impl Policy for State {
    fn generation(&self) -> u64 {
        // Revisions only grow, so the sum moves whenever one of them does.
        self.rbac.iter().fold(0, |sum, cache| sum.wrapping_add(cache.revision()))
    }

    fn cluster_roles(&self) -> Vec<Arc<ClusterRole>> {
        self.all("clusterroles", &self.cluster_roles)
    }

    fn cluster_role_bindings(&self) -> Vec<Arc<ClusterRoleBinding>> {
        self.all("clusterrolebindings", &self.cluster_role_bindings)
    }

    fn roles(&self) -> Vec<Arc<Role>> {
        self.all("roles", &self.roles)
    }

    fn role_bindings(&self) -> Vec<Arc<RoleBinding>> {
        self.all("rolebindings", &self.role_bindings)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::AUTHENTICATED;
    use crate::testing::World;
    use api::json::json;

    #[tokio::test]
    async fn what_did_not_change_is_not_read_again() {
        let world = World::start(|_| {}).await;
        let state = State::new(world.running.server().caches.clone(), mpsc::channel(1).0);
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
        let role = |name: &str, verb: &str| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]})
        };
        let own = |state: &State| -> Vec<Arc<Role>> {
            let mut own = state.roles();
            own.retain(|role| role.metadata.namespace.as_deref() == Some("default"));
            own
        };
        let verbs = |roles: &[Arc<Role>]| -> Vec<String> {
            roles
                .iter()
                .map(|role| {
                    role.rules.as_deref().unwrap_or_default().iter().flat_map(|rule| rule.verbs.clone()).collect()
                })
                .collect()
        };
        let becomes = async |wanted: &[&str]| {
            for _ in 0..300 {
                let roles = own(&state);
                if verbs(&roles) == wanted {
                    return roles;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("{:?} is not {wanted:?}", verbs(&own(&state)));
        };
        for name in ["a", "b"] {
            assert_eq!(world.ask(&root, "POST", path, &role(name, "get")).await.0, 201);
        }
        let before = becomes(&["get", "get"]).await;
        assert_eq!(world.ask(&root, "PUT", &format!("{path}/b"), &role("b", "list")).await.0, 200);
        let after = becomes(&["get", "list"]).await;
        assert!(Arc::ptr_eq(&before[0], &after[0]) && !Arc::ptr_eq(&before[1], &after[1]));
        assert_eq!(world.ask(&root, "DELETE", &format!("{path}/a"), &Value::Null).await.0, 200);
        let left = becomes(&["list"]).await;
        assert!(Arc::ptr_eq(&after[1], &left[0]));
    }
}
