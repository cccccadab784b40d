//! RBAC learns from the caches what roles and bindings there are.
//!
//! A cache tells of a change before it tells who watches. What cannot be read is not there.

use super::{Change, GROUP, Rbac};
use crate::cache::{Caches, Entry, Follower, Key, Turn};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// How objects of a kind are read, and what it means that one is gone.
struct Followed {
    resource: &'static str,
    read: fn(&Entry) -> Option<Change>,
    gone: fn(String, String) -> Change,
}

const FOLLOWED: [Followed; 4] = [
    Followed {
        resource: "clusterroles",
        read: read::<ClusterRole>,
        gone: |_, name| Change::ClusterRole { name, now: None },
    },
    Followed {
        resource: "roles",
        read: read::<Role>,
        gone: |namespace, name| Change::Role { namespace, name, rules: None },
    },
    Followed {
        resource: "clusterrolebindings",
        read: read::<ClusterRoleBinding>,
        gone: |namespace, name| Change::Binding { namespace, name, gives: None },
    },
    Followed {
        resource: "rolebindings",
        read: read::<RoleBinding>,
        gone: |namespace, name| Change::Binding { namespace, name, gives: None },
    },
];

fn read<T: DeserializeOwned + Into<Change>>(entry: &Entry) -> Option<Change> {
    api::json::from_slice::<T>(&entry.json).ok().map(Into::into)
}

struct Following {
    rbac: Arc<Rbac>,
    followed: &'static Followed,
}

impl Follower for Following {
    fn turned(&self, turns: &[Turn]) {
        let gone = |key: &Key| (self.followed.gone)(key.namespace.to_string(), key.name.to_string());
        let change = |turn: &Turn| match (&turn.now, &turn.before) {
            (Some(now), _) => Some((self.followed.read)(now).unwrap_or_else(|| gone(&now.key))),
            (None, before) => before.as_ref().map(|before| gone(&before.key)),
        };
        self.rbac.change(turns.iter().filter_map(change));
    }
}

impl Rbac {
    /// What the caches hold, and what happens in them from now on.
    pub(crate) fn follow(self: &Arc<Self>, caches: &Caches) {
        for followed in &FOLLOWED {
            if let Some(cache) = caches.named(&format!("{}.{GROUP}", followed.resource)) {
                cache.follow_with(Arc::new(Following { rbac: Arc::clone(self), followed }));
            }
        }
    }
}
