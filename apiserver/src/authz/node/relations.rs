//! Which objects belong to a node: those that the pods bound to it refer to, and what hangs on these.
//!
//! Never decides about verbs. Asked anew for every request, out of the caches: there is no graph that could lag behind them. Pods are
//! narrowed by namespace, node and the mention of the name before one is read. Source: upstream's node authorizer.

use api::json::Value;
use api::{meta, pod_references, value};

/// The cluster's objects, as the authorizer asks for them.
pub trait Objects: Send + Sync {
    /// One object.
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// Pods bound to `node` in `namespace` in whose JSON `mention` stands as a text.
    fn pods(&self, node: &str, namespace: &str, mention: &str) -> Vec<Value>;
    /// Persistent volumes in whose JSON `mention` stands as a text.
    fn volumes(&self, mention: &str) -> Vec<Value>;
}

/// What a node may have to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    ServiceAccount,
    Slice,
    Pod,
    CertificateRequest,
}

/// The object has to do with the node.
pub(super) fn related(objects: &dyn Objects, node: &str, what: What, namespace: &str, name: &str) -> bool {
    let names = |path: &str, resource: &str| {
        objects.get(resource, namespace, name).is_some_and(|object| value::text(&object, path) == node)
    };
    match what {
        What::Pod => names("spec.nodeName", "pods"),
        What::Attachment => names("spec.nodeName", "volumeattachments.storage.k8s.io"),
        What::Slice => names("spec.nodeName", "resourceslices.resource.k8s.io"),
        What::CertificateRequest => names("spec.nodeName", "podcertificaterequests.certificates.k8s.io"),
        What::Volume => {
            let volume = objects.get("persistentvolumes", "", name);
            volume.is_some_and(|volume| claimed(objects, node, &volume))
        }
        What::Secret => {
            mentioned(objects, node, what, namespace, name)
                || objects.volumes(name).iter().any(|volume| {
                    secrets_of_volume(volume).any(|secret| secret == (namespace, name))
                        && claimed(objects, node, volume)
                })
        }
        What::Claim => {
            // The claim of an ephemeral volume is named after pod and volume, and stands nowhere.
            mentioned(objects, node, what, namespace, name)
                || name.match_indices('-').any(|(at, _)| {
                    let (Some(pod), Some(volume)) = (name.get(..at), name.get(at + 1..)) else { return false };
                    let pod =
                        objects.get("pods", namespace, pod).filter(|pod| value::text(pod, "spec.nodeName") == node);
                    pod.is_some_and(|pod| {
                        !is_mirror(&pod)
                            && value::items(&pod, "spec.volumes")
                                .iter()
                                .any(|own| value::text(own, "name") == volume && value::get(own, "ephemeral").is_some())
                    })
                })
        }
        What::ConfigMap | What::ResourceClaim | What::ServiceAccount => mentioned(objects, node, what, namespace, name),
    }
}

/// A pod of the node uses the claim to which the volume is bound.
fn claimed(objects: &dyn Objects, node: &str, volume: &Value) -> bool {
    let text = |field: &str| value::text(volume, &format!("spec.claimRef.{field}"));
    let (namespace, name) = (text("namespace"), text("name"));
    !name.is_empty() && related(objects, node, What::Claim, namespace, name)
}

/// Mirrors of the node's own files say what the node wants: nothing follows from them.
fn is_mirror(pod: &Value) -> bool {
    meta::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

fn mentioned(objects: &dyn Objects, node: &str, what: What, namespace: &str, name: &str) -> bool {
    let pods = objects.pods(node, namespace, name);
    pods.iter().filter(|pod| !is_mirror(pod)).any(|pod| match what {
        What::Secret => pod_references::secrets(pod).any(|own| own == name),
        What::ConfigMap => pod_references::config_maps(pod).any(|own| own == name),
        What::ServiceAccount => value::text(pod, "spec.serviceAccountName") == name,
        What::Claim => value::items(pod, "spec.volumes")
            .iter()
            .any(|volume| value::text(volume, "persistentVolumeClaim.claimName") == name),
        What::ResourceClaim => resource_claims(pod).any(|own| own == name),
        _ => false,
    })
}

fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let direct = value::items(pod, "spec.resourceClaims").iter().map(|claim| value::text(claim, "resourceClaimName"));
    let made = value::items(pod, "status.resourceClaimStatuses").iter();
    let made = made.map(|status| value::text(status, "resourceClaimName"));
    direct.chain(made).chain([value::text(pod, "status.extendedResourceClaimStatus.resourceClaimName")])
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

    struct World(Vec<(&'static str, Value)>);

    impl Objects for World {
        fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
            let found = self.0.iter().find(|(own, object)| {
                *own == resource && meta::namespace(object) == namespace && meta::name(object) == name
            });
            found.map(|(_, object)| object.clone())
        }
        fn pods(&self, node: &str, namespace: &str, mention: &str) -> Vec<Value> {
            let pods = self.0.iter().filter(|(resource, pod)| {
                *resource == "pods"
                    && meta::namespace(pod) == namespace
                    && value::text(pod, "spec.nodeName") == node
                    && pod.to_string().contains(&format!("\"{mention}\""))
            });
            pods.map(|(_, pod)| pod.clone()).collect()
        }
        fn volumes(&self, mention: &str) -> Vec<Value> {
            let volumes = self.0.iter().filter(|(resource, object)| {
                *resource == "persistentvolumes" && object.to_string().contains(&format!("\"{mention}\""))
            });
            volumes.map(|(_, object)| object.clone()).collect()
        }
    }

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
            let world = World(vec![pod("n1", spec.clone())]);
            let of = |node: &str, kind: What, namespace: &str, name: &str| related(&world, node, kind, namespace, name);
            assert!(of("n1", what, "shop", "x"), "{spec}");
            assert!(!of("n2", what, "shop", "x"), "{spec}");
            assert!(!of("n1", what, "other", "x"), "{spec}");
            assert!(!of("n1", what, "shop", "y"), "{spec}");
            for other in [Secret, ConfigMap, ServiceAccount, Claim, ResourceClaim] {
                assert_eq!(of("n1", other, "shop", "x"), other == what, "{spec}");
            }
            let mut mirror = pod("n1", spec.clone());
            value::map_mut(&mut mirror.1, "metadata.annotations").insert("kubernetes.io/config.mirror", "h".into());
            assert!(!related(&World(vec![mirror]), "n1", what, "shop", "x"), "{spec}");
        }
    }

    #[test]
    fn volumes_and_their_secrets_hang_on_claims() {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "shop", "name": "c"},
            "csi": {"nodeStageSecretRef": {"namespace": "infra", "name": "s"}, "controllerPublishSecretRef": {"namespace": "infra", "name": "no"}}}});
        let world = World(vec![
            ("persistentvolumes", volume),
            pod("n1", json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]})),
        ]);
        assert!(related(&world, "n1", What::Volume, "", "v"));
        assert!(!related(&world, "n2", What::Volume, "", "v"));
        assert!(related(&world, "n1", What::Secret, "infra", "s"));
        assert!(!related(&world, "n1", What::Secret, "infra", "no"));
        assert!(!related(&world, "n1", What::Secret, "shop", "s"));
        assert!(!related(&world, "n2", What::Secret, "infra", "s"));
        let ephemeral = World(vec![pod("n1", json!({"volumes": [{"name": "a-b", "ephemeral": {}}]}))]);
        assert!(related(&ephemeral, "n1", What::Claim, "shop", "till-a-b"));
        assert!(!related(&ephemeral, "n2", What::Claim, "shop", "till-a-b"));
        assert!(!related(&ephemeral, "n1", What::Claim, "shop", "till-a"));
    }

    #[test]
    fn what_names_its_node() {
        let named = |resource: &'static str, namespace: &str| {
            (resource, json!({"metadata": {"namespace": namespace, "name": "o"}, "spec": {"nodeName": "n1"}}))
        };
        let world = World(vec![
            named("pods", "shop"),
            named("volumeattachments.storage.k8s.io", ""),
            named("resourceslices.resource.k8s.io", ""),
        ]);
        for (what, namespace) in [(What::Pod, "shop"), (What::Attachment, ""), (What::Slice, "")] {
            assert!(related(&world, "n1", what, namespace, "o"), "{what:?}");
            assert!(!related(&world, "n2", what, namespace, "o"), "{what:?}");
            assert!(!related(&world, "n1", what, namespace, "p"), "{what:?}");
        }
    }
}
