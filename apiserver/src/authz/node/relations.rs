//! Which objects belong to a node: those that the pods bound to it refer to, and what hangs on these.
//!
//! Never decides about verbs. Follows the caches, which tell it of every change before they tell who watches, so that it knows what they know.
//! Source: upstream's node authorizer.

use super::graph::{Graph, Holder, Leads, Place, What};
use crate::cache::{Caches, Entry, Follower, Key, Turn};
use api::json::Value;
use api::{meta, pod_references, value};
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;

/// See the file.
#[derive(Debug, Default)]
pub struct Relations(RwLock<Graph>);

/// How objects of a kind are read.
struct Followed {
    resource: &'static str,
    what: What,
    read: fn(&Key, &Value) -> Option<Holder>,
    /// Members that `read` looks at: where they stay as they were, an object is not read again.
    members: &'static [&'static [&'static str]],
}

const FOLLOWED: &[Followed] = &[
    Followed {
        resource: "pods",
        what: What::Pod,
        read: of_pod,
        members: &[
            &["metadata", "annotations"],
            &["spec"],
            &["status", "resourceClaimStatuses"],
            &["status", "extendedResourceClaimStatus"],
        ],
    },
    Followed { resource: "persistentvolumes", what: What::Volume, read: of_volume, members: &[&["spec"]] },
    Followed {
        resource: "volumeattachments.storage.k8s.io",
        what: What::Attachment,
        read: |key, object| of_named(What::Attachment, key, object),
        members: &[&["spec", "nodeName"]],
    },
    Followed {
        resource: "resourceslices.resource.k8s.io",
        what: What::Slice,
        read: |key, object| of_named(What::Slice, key, object),
        members: &[&["spec", "nodeName"]],
    },
    Followed {
        resource: "podcertificaterequests.certificates.k8s.io",
        what: What::CertificateRequest,
        read: |key, object| of_named(What::CertificateRequest, key, object),
        members: &[&["spec", "nodeName"]],
    },
];

impl Relations {
    /// What the caches hold, and what happens in them from now on.
    pub(crate) fn follow(self: &Arc<Self>, caches: &Caches) {
        for followed in FOLLOWED {
            if let Some(cache) = caches.named(followed.resource) {
                cache.follow_with(Arc::new(Following { relations: Arc::clone(self), followed }));
            }
        }
    }

    /// The object has to do with the node.
    pub(super) fn related(&self, node: &str, what: What, namespace: &str, name: &str) -> bool {
        let Key { namespace, name } = Key::new(namespace, name);
        self.0.read().reaches(node, &Place { what, namespace, name })
    }

    /// As if a cache had told of these.
    #[cfg(test)]
    pub(in crate::authz) fn of(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Arc<Relations> {
        let relations = Relations::default();
        for (resource, object) in objects {
            let followed = FOLLOWED.iter().find(|followed| followed.resource == resource).expect("it is followed");
            relations.put(followed, &Key::new(meta::namespace(&object), meta::name(&object)), Some(&object));
        }
        Arc::new(relations)
    }

    fn put(&self, followed: &Followed, key: &Key, object: Option<&Value>) {
        let holder = object.and_then(|object| (followed.read)(key, object));
        self.0.write().put(&place(followed.what, &key.namespace, &key.name), holder);
    }
}

struct Following {
    relations: Arc<Relations>,
    followed: &'static Followed,
}

impl Following {
    fn is_same(&self, before: &Entry, now: &Entry) -> bool {
        self.followed.members.iter().all(|path| now.member(path).is_some_and(|own| before.member(path) == Some(own)))
    }
}

impl Follower for Following {
    fn turned(&self, turns: &[Turn]) {
        for Turn { before, now } in turns {
            match (before, now) {
                (Some(before), Some(now)) if self.is_same(before, now) => {}
                (_, Some(now)) => self.relations.put(self.followed, &now.key, Some(&now.value())),
                (Some(before), None) => self.relations.put(self.followed, &before.key, None),
                (None, None) => {}
            }
        }
    }
}

fn place(what: What, namespace: &Arc<str>, name: &Arc<str>) -> Place {
    Place { what, namespace: Arc::clone(namespace), name: Arc::clone(name) }
}

/// Objects that name their node.
fn of_named(what: What, key: &Key, object: &Value) -> Option<Holder> {
    let node = value::text(object, "spec.nodeName");
    let holds = vec![place(what, &key.namespace, &key.name)];
    (!node.is_empty()).then(|| Holder { leads: Leads::Node(node.into()), holds })
}

/// Mirrors of the node's own files say what the node wants: nothing follows from them.
fn of_pod(key: &Key, pod: &Value) -> Option<Holder> {
    let mut holder = of_named(What::Pod, key, pod)?;
    if meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Some(holder);
    }
    let mut all = HashSet::new();
    let mut hold = |what: What, name: &str| {
        if !name.is_empty() && all.insert((what, name.to_owned())) {
            holder.holds.push(place(what, &key.namespace, &name.into()));
        }
    };
    pod_references::secrets(pod).for_each(|name| hold(What::Secret, name));
    pod_references::config_maps(pod).for_each(|name| hold(What::ConfigMap, name));
    hold(What::ServiceAccount, value::text(pod, "spec.serviceAccountName"));
    for volume in value::items(pod, "spec.volumes") {
        hold(What::Claim, value::text(volume, "persistentVolumeClaim.claimName"));
        if value::get(volume, "ephemeral").is_some() {
            hold(What::Claim, &format!("{}-{}", key.name, value::text(volume, "name")));
        }
    }
    resource_claims(pod).for_each(|name| hold(What::ResourceClaim, name));
    Some(holder)
}

/// Claims by name, and those that were made of templates.
fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let made = value::items(pod, "status.resourceClaimStatuses");
    let named = value::items(pod, "spec.resourceClaims").iter().map(move |claim| {
        if value::get(claim, "resourceClaimName").is_some() {
            return value::text(claim, "resourceClaimName");
        }
        let own = made.iter().find(|status| value::text(status, "name") == value::text(claim, "name"));
        own.map_or("", |status| value::text(status, "resourceClaimName"))
    });
    named.chain([value::text(pod, "status.extendedResourceClaimStatus.resourceClaimName")])
}

/// A volume, and the secrets that a kubelet needs for it, belong to the nodes of its claim.
fn of_volume(key: &Key, volume: &Value) -> Option<Holder> {
    let text = |field: &str| value::text(volume, &format!("spec.claimRef.{field}"));
    let claim = place(What::Claim, &text("namespace").into(), &text("name").into());
    if claim.name.is_empty() {
        return None;
    }
    let mut holds = vec![place(What::Volume, &key.namespace, &key.name)];
    for (namespace, name) in secrets_of_volume(volume).filter(|(_, name)| !name.is_empty()) {
        let secret = place(What::Secret, &namespace.into(), &name.into());
        if !holds.contains(&secret) {
            holds.push(secret);
        }
    }
    Some(Holder { leads: Leads::Claim(claim), holds })
}

/// Namespace and name of secrets that a kubelet needs for a volume.
fn secrets_of_volume(volume: &Value) -> impl Iterator<Item = (&str, &str)> {
    const REFERENCES: [&str; 10] = [
        "cephfs.secretRef",
        "cinder.secretRef",
        "flexVolume.secretRef",
        "rbd.secretRef",
        "scaleIO.secretRef",
        "iscsi.secretRef",
        "storageos.secretRef",
        "csi.nodePublishSecretRef",
        "csi.nodeStageSecretRef",
        "csi.nodeExpandSecretRef",
    ];
    let own = value::text(volume, "spec.claimRef.namespace");
    let references = REFERENCES.iter().filter_map(move |path| {
        let reference = value::get(volume, &format!("spec.{path}"))?;
        let namespace = value::text(reference, "namespace");
        Some((if namespace.is_empty() { own } else { namespace }, value::text(reference, "name")))
    });
    let azure = value::get(volume, "spec.azureFile").map(|azure| {
        let namespace = value::text(azure, "secretNamespace");
        (if namespace.is_empty() { own } else { namespace }, value::text(azure, "secretName"))
    });
    references.chain(azure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[allow(clippy::needless_pass_by_value, reason = "specs are written where they are used")]
    fn pod(node: &str, spec: Value) -> (&'static str, Value) {
        let mut pod = json!({"metadata": {"namespace": "shop", "name": "till"}, "spec": spec});
        value::set(&mut pod, "spec.nodeName", node);
        ("pods", pod)
    }

    #[test]
    fn every_reference_of_a_pod_counts_for_its_node_alone() {
        use What::{Claim, ConfigMap, ResourceClaim, Secret, ServiceAccount};
        for (what, spec) in [
            (Secret, json!({"imagePullSecrets": [{"name": "x"}]})),
            (Secret, json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "x"}}}]}]})),
            (Secret, json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "x"}}]}]})),
            (Secret, json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "x"}}]}]})),
            (Secret, json!({"volumes": [{"secret": {"secretName": "x"}}]})),
            (Secret, json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "x"}}]}}]})),
            (Secret, json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "x"}}}]})),
            (Secret, json!({"volumes": [{"iscsi": {"secretRef": {"name": "x"}}}]})),
            (ConfigMap, json!({"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "x"}}}]}]})),
            (ConfigMap, json!({"containers": [{"envFrom": [{"configMapRef": {"name": "x"}}]}]})),
            (ConfigMap, json!({"volumes": [{"configMap": {"name": "x"}}]})),
            (ConfigMap, json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "x"}}]}}]})),
            (ServiceAccount, json!({"serviceAccountName": "x"})),
            (Claim, json!({"volumes": [{"persistentVolumeClaim": {"claimName": "x"}}]})),
            (ResourceClaim, json!({"resourceClaims": [{"name": "a", "resourceClaimName": "x"}]})),
        ] {
            let world = Relations::of([pod("n1", spec.clone())]);
            let of = |node: &str, kind: What, namespace: &str, name: &str| world.related(node, kind, namespace, name);
            assert!(of("n1", what, "shop", "x"), "{spec}");
            assert!(!of("n2", what, "shop", "x"), "{spec}");
            assert!(!of("n1", what, "other", "x"), "{spec}");
            assert!(!of("n1", what, "shop", "y"), "{spec}");
            for other in [Secret, ConfigMap, ServiceAccount, Claim, ResourceClaim] {
                assert_eq!(of("n1", other, "shop", "x"), other == what, "{spec}");
            }
            let mut mirror = pod("n1", spec.clone());
            value::map_mut(&mut mirror.1, "metadata.annotations").insert("kubernetes.io/config.mirror", "h".into());
            assert!(!Relations::of([mirror]).related("n1", what, "shop", "x"), "{spec}");
        }
    }

    #[test]
    fn volumes_and_their_secrets_hang_on_claims() {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "shop", "name": "c"},
            "csi": {"nodeStageSecretRef": {"namespace": "infra", "name": "s"}, "controllerPublishSecretRef": {"namespace": "infra", "name": "no"}}}});
        let world = Relations::of([
            ("persistentvolumes", volume),
            pod("n1", json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]})),
        ]);
        assert!(world.related("n1", What::Volume, "", "v"));
        assert!(!world.related("n2", What::Volume, "", "v"));
        assert!(world.related("n1", What::Secret, "infra", "s"));
        assert!(!world.related("n1", What::Secret, "infra", "no"));
        assert!(!world.related("n1", What::Secret, "shop", "s"));
        assert!(!world.related("n2", What::Secret, "infra", "s"));
        let ephemeral = Relations::of([pod("n1", json!({"volumes": [{"name": "a-b", "ephemeral": {}}]}))]);
        assert!(ephemeral.related("n1", What::Claim, "shop", "till-a-b"));
        assert!(!ephemeral.related("n2", What::Claim, "shop", "till-a-b"));
        assert!(!ephemeral.related("n1", What::Claim, "shop", "till-a"));
    }

    #[test]
    fn what_names_its_node() {
        let named = |resource: &'static str, namespace: &str| {
            (resource, json!({"metadata": {"namespace": namespace, "name": "o"}, "spec": {"nodeName": "n1"}}))
        };
        let world = Relations::of([
            named("pods", "shop"),
            named("volumeattachments.storage.k8s.io", ""),
            named("resourceslices.resource.k8s.io", ""),
        ]);
        for (what, namespace) in [(What::Pod, "shop"), (What::Attachment, ""), (What::Slice, "")] {
            assert!(world.related("n1", what, namespace, "o"), "{what:?}");
            assert!(!world.related("n2", what, namespace, "o"), "{what:?}");
            assert!(!world.related("n1", what, namespace, "p"), "{what:?}");
        }
    }
}
