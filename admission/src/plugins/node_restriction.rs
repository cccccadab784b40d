//! `NodeRestriction`: a kubelet changes only what is its own: its Node (and there not what keeps pods away or calls others to it), Lease,
//! CSINode and ResourceSlices, the pods bound to it, and tokens for these pods.
//!
//! Authorization says which kinds a node may touch; this plugin says which objects. Not looked at: audiences of CSI drivers behind volumes
//! of old kinds, which upstream translates.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request, Right};
use api::json::{Map, Text, Value};
use api::kinds::certificates_v1::certificate_signing_request;
use api::{meta, pod_references, value};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// See the file.
pub struct NodeRestriction;

pub(crate) static PLUGIN: NodeRestriction = NodeRestriction;

type Outcome = Result<(), String>;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn by_default(&self) -> bool {
        false
    }

    fn sees_bodies(&self) -> bool {
        true
    }

    fn judges_deletions_first(&self) -> bool {
        true
    }

    /// All is judged as it is asked for: what others add later is not the node's wish, and nobody outside is asked about what is refused.
    async fn mutate(&self, request: &Request<'_>, object: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let judged = match node_of(request) {
            Ok(Some(node)) => judge(request, object, node, lookup).await,
            other => other.map(drop),
        };
        judged.map_err(|why| request.forbidden(&why))
    }
}

async fn judge(request: &Request<'_>, object: &Value, node: &str, lookup: &dyn Lookup) -> Outcome {
    match (request.kind.group, request.kind.plural) {
        ("", "pods") => pod(request, object, node, lookup).await,
        ("", "nodes") => own_node(request, object, node),
        ("", "persistentvolumeclaims") => claim(request, object, node),
        ("", "serviceaccounts") => token(request, object, node, lookup).await,
        ("certificates.k8s.io", "podcertificaterequests") => pod_certificate(request, object, node, lookup).await,
        ("coordination.k8s.io", "leases") => lease(request, node),
        ("storage.k8s.io", "csinodes") if request.name != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("resource.k8s.io", "resourceslices") => slice(request, object, node),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate(request, object, node),
        _ => Ok(()),
    }
}

/// The node that asks, if it is one.
fn node_of<'a>(request: &Request<'a>) -> Result<Option<&'a str>, String> {
    match request.user.strip_prefix("system:node:") {
        Some(node) if request.groups.iter().any(|group| group == "system:nodes") => match node {
            "" => Err(format!("could not determine node from user {:?}", request.user)),
            node => Ok(Some(node)),
        },
        _ => Ok(None),
    }
}

fn unexpected(request: &Request<'_>) -> String {
    format!("unexpected operation {:?}", request.operation.name())
}

fn lease(request: &Request<'_>, node: &str) -> Outcome {
    if request.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    if request.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn slice(request: &Request<'_>, object: &Value, node: &str) -> Outcome {
    let slice = if request.operation == Operation::Create { object } else { request.old };
    if value::text(slice, "spec.nodeName") != node {
        return Err(match request.operation {
            Operation::Create => {
                "can only create ResourceSlice with the same NodeName as the requesting node".to_owned()
            }
            Operation::Delete => {
                "can only delete ResourceSlice with the same NodeName as the requesting node".to_owned()
            }
            _ => return Ok(()),
        });
    }
    Ok(())
}

/// As a kubelet a node asks for its own certificates alone; what else they must be their signer checks.
fn certificate(request: &Request<'_>, object: &Value, node: &str) -> Outcome {
    const OF_KUBELETS: &[&str] = &["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    let signer = value::text(object, "spec.signerName");
    if request.operation != Operation::Create || !request.subresource.is_empty() || !OF_KUBELETS.contains(&signer) {
        return Ok(());
    }
    let wanted = certificate_signing_request::request(object).map_err(|why| format!("unable to parse csr: {why}"))?;
    if wanted.common_name().strip_prefix("system:node:") != Some(node) {
        return Err(format!("can only create a node CSR with CN=system:node:{node}"));
    }
    Ok(())
}

async fn pod(request: &Request<'_>, object: &Value, node: &str, lookup: &dyn Lookup) -> Outcome {
    match (request.subresource, request.operation) {
        ("", Operation::Create) => mirror(object, node, lookup).await,
        ("", Operation::Delete) if value::text(request.old, "spec.nodeName") == node => Ok(()),
        ("", Operation::Delete) => Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        ("", _) => Err(format!("{}, node {node:?} can only create and delete mirror pods", unexpected(request))),
        ("status", Operation::Update) => {
            if value::text(request.old, "spec.nodeName") != node {
                let why = "can only update pod status for pods with spec.nodeName set to itself";
                return Err(format!("node {node:?} {why}"));
            }
            if differ(request.old, object, "metadata.labels") {
                return Err(format!("node {node:?} cannot update labels through pod status"));
            }
            if differ(request.old, object, "status.resourceClaimStatuses") {
                return Err(format!("node {node:?} cannot update resource claim statues"));
            }
            if differ(request.old, object, "status.extendedResourceClaimStatus") {
                return Err(format!("node {node:?} cannot update extended resource claim status"));
            }
            Ok(())
        }
        ("status", _) => Err(unexpected(request)),
        // The write that the eviction leads to comes by here too, and is the pod's deletion or nothing.
        ("eviction", _) => {
            let name = if request.name.is_empty() { meta::name(object) } else { request.name };
            if name.is_empty() {
                return Err("could not determine pod from request data".to_owned());
            }
            let pod = lookup.get("", "pods", request.namespace, name).await;
            if pod.is_some_and(|pod| value::text(&pod, "spec.nodeName") != node) {
                return Err(format!("node {node} can only evict pods with spec.nodeName set to itself"));
            }
            Ok(())
        }
        (other, _) => Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
    }
}

/// The two have something else there; what is empty is not there.
fn differ(old: &Value, new: &Value, path: &str) -> bool {
    !same(value::get(old, path).unwrap_or(&Value::Null), value::get(new, path).unwrap_or(&Value::Null))
}

/// The two say the same, where what is empty is not there: clients have it both ways.
fn same(one: &Value, other: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            let there = ones.iter().all(|(name, one)| same(one, others.get(name.as_str()).unwrap_or(&Value::Null)));
            there && others.iter().all(|(name, other)| ones.get(name.as_str()).is_some() || empty(other))
        }
        (Value::Array(ones), Value::Array(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other))
        }
        _ => one == other || empty(one) && empty(other),
    }
}

/// The mirror of a file of the node.
async fn mirror(object: &Value, node: &str, lookup: &dyn Lookup) -> Outcome {
    if meta::annotation(object, "kubernetes.io/config.mirror").is_none() {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if value::text(object, "spec.nodeName") != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match value::items(object, "metadata.ownerReferences") {
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        [owner] => owner,
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let text = |field: &str| value::text(owner, field);
    if text("apiVersion") != "v1" || text("kind") != "Node" || text("name") != node {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !value::flag(owner, "controller") {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if value::flag(owner, "blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let own = lookup.get("", "nodes", "", node).await.ok_or_else(|| format!("nodes {node:?} not found"))?;
    if text("uid") != meta::uid(&own) {
        return Err(format!("node {node} UID mismatch: expected {} got {}", text("uid"), meta::uid(&own)));
    }
    match reference(object) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What of the API's objects a pod refers to.
fn reference(pod: &Value) -> Option<&'static str> {
    const OF_VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let there = |object: &Value, field: &str| value::get(object, field).is_some_and(|found| !found.is_null());
    if !value::text(pod, "spec.serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if pod_references::secrets(pod).any(|name| !name.is_empty()) {
        return Some("secrets");
    }
    if pod_references::config_maps(pod).any(|name| !name.is_empty()) {
        return Some("configmaps");
    }
    if !value::items(pod, "spec.resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    value::items(pod, "spec.volumes").iter().find_map(|volume| {
        let direct = OF_VOLUMES.iter().find(|(field, _)| there(volume, field)).map(|(_, what)| *what);
        direct.or_else(|| {
            value::items(volume, "projected.sources")
                .iter()
                .find_map(|source| PROJECTED.iter().find(|(field, _)| there(source, field)).map(|(_, what)| *what))
        })
    })
}

fn claim(request: &Request<'_>, object: &Value, node: &str) -> Outcome {
    if request.subresource != "status" {
        return Err("may only update PVC status".to_owned());
    }
    if request.operation != Operation::Update {
        return Err(unexpected(request));
    }
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for path in [
            "metadata.resourceVersion",
            "metadata.managedFields",
            "status.capacity",
            "status.conditions",
            "status.allocatedResourceStatuses",
            "status.allocatedResources",
        ] {
            value::remove(&mut rest, path);
        }
        rest
    };
    if !same(&rest(request.old), &rest(object)) {
        return Err(format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ));
    }
    Ok(())
}

fn own_node(request: &Request<'_>, object: &Value, node: &str) -> Outcome {
    if request.name != node {
        return Err(format!("node {node:?} is not allowed to modify node {:?}", request.name));
    }
    let source = value::get(object, "spec.configSource").filter(|source| !source.is_null());
    match request.operation {
        Operation::Create => {
            if source.is_some() {
                return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
            }
            let forbidden = forbidden_labels(object, &Value::Null);
            if !forbidden.is_empty() {
                return Err(format!("node {node:?} is not allowed to set the following labels: {forbidden}"));
            }
        }
        Operation::Update => {
            if source.is_some() && source != value::get(request.old, "spec.configSource") {
                return Err(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if differ(request.old, object, "spec.taints") {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            if differ(request.old, object, "metadata.ownerReferences") {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let forbidden = forbidden_labels(object, request.old);
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {forbidden}"));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// Labels that differ and that nobody believes of a node itself, in order and with commas between.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let labels = |node| value::get(node, "metadata.labels").and_then(Value::as_object);
    let keys: BTreeSet<&Text> = [new, old].into_iter().filter_map(labels).flat_map(Map::keys).collect();
    let of = |node, key: &str| labels(node).and_then(|labels| labels.get(key));
    let changed = keys.into_iter().filter(|key| of(new, key) != of(old, key));
    let forbidden: Vec<&str> = changed.map(Text::as_str).filter(|key| is_forbidden(key)).collect();
    forbidden.join(", ")
}

fn is_forbidden(key: &str) -> bool {
    const OWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    let Some((domain, _)) = key.split_once('/') else { return false };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    let free = OWN.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    reserved && !free
}

async fn token(request: &Request<'_>, body: &Value, node: &str, lookup: &dyn Lookup) -> Outcome {
    if request.operation != Operation::Create || request.subresource != "token" {
        return Ok(());
    }
    let text = |field: &str| value::text(body, &format!("spec.boundObjectRef.{field}"));
    if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if text("uid").is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let pod = lookup.get("", "pods", request.namespace, text("name")).await;
    let pod = pod.ok_or_else(|| format!("pods {:?} not found", text("name")))?;
    if text("uid") != meta::uid(&pod) {
        return Err(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        ));
    }
    if value::text(&pod, "spec.nodeName") != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    let audience = match value::items(body, "spec.audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    if mounts_for(&pod, audience, lookup).await {
        return Ok(());
    }
    let right = Right {
        verb: "request-serviceaccounts-token-audience",
        group: "",
        resource: audience,
        subresource: "",
        namespace: request.namespace,
        name: request.name,
    };
    if lookup.may(request, right).await {
        return Ok(());
    }
    Err(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        request.user
    ))
}

/// A volume of the pod wants a token for this audience.
async fn mounts_for(pod: &Value, audience: &str, lookup: &dyn Lookup) -> bool {
    for volume in value::items(pod, "spec.volumes") {
        let projected = value::items(volume, "projected.sources").iter();
        let mut tokens = projected.filter_map(|source| value::get(source, "serviceAccountToken"));
        if tokens.any(|token| value::text(token, "audience") == audience) {
            return true;
        }
        let driver = match (value::text(volume, "csi.driver"), value::get(volume, "ephemeral")) {
            ("", Some(ephemeral)) if !ephemeral.is_null() => {
                let name = format!("{}-{}", meta::name(pod), value::text(volume, "name"));
                driver_of(meta::namespace(pod), &name, lookup).await
            }
            ("", _) => match value::text(volume, "persistentVolumeClaim.claimName") {
                "" => String::new(),
                name => driver_of(meta::namespace(pod), name, lookup).await,
            },
            (driver, _) => driver.to_owned(),
        };
        if driver.is_empty() {
            continue;
        }
        let driver = lookup.get("storage.k8s.io", "csidrivers", "", &driver).await.unwrap_or_default();
        if value::items(&driver, "spec.tokenRequests").iter().any(|token| value::text(token, "audience") == audience) {
            return true;
        }
    }
    false
}

/// The CSI driver of a claim's volume.
async fn driver_of(namespace: &str, claim: &str, lookup: &dyn Lookup) -> String {
    let claim = lookup.get("", "persistentvolumeclaims", namespace, claim).await.unwrap_or_default();
    let volume = value::text(&claim, "spec.volumeName");
    let volume = lookup.get("", "persistentvolumes", "", volume).await.unwrap_or_default();
    value::text(&volume, "spec.csi.driver").to_owned()
}

async fn pod_certificate(request: &Request<'_>, object: &Value, node: &str, lookup: &dyn Lookup) -> Outcome {
    if request.operation != Operation::Create {
        return Err(unexpected(request));
    }
    if !request.subresource.is_empty() {
        return Err(format!("unexpected subresource {}", request.subresource));
    }
    let text = |field: &str| value::text(object, &format!("spec.{field}"));
    if text("nodeName") != node {
        let named = text("nodeName");
        return Err(format!(
            "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
        ));
    }
    let place = format!("{}/{}", request.namespace, text("podName"));
    let own = lookup.get("", "nodes", "", node).await.unwrap_or_default();
    let pod = lookup.get("", "pods", request.namespace, text("podName")).await.unwrap_or_default();
    let account = text("serviceAccountName");
    let found = lookup.get("", "serviceaccounts", request.namespace, account).await.unwrap_or_default();
    if meta::uid(&own) != text("nodeUID") {
        return Err(format!(
            "PodCertificateRequest for pod {place:?} names node UID {:?}, inconsistent with the running node ({:?})",
            text("nodeUID"),
            meta::uid(&own)
        ));
    }
    if meta::uid(&pod) != text("podUID") {
        return Err(format!(
            "PodCertificateRequest for pod {place:?} contains pod UID ({:?}) which differs from running pod {:?}",
            text("podUID"),
            meta::uid(&pod)
        ));
    }
    if value::text(&pod, "spec.nodeName") != node {
        return Err(format!("pod {place:?} is not running on node {node:?} named in the PodCertificateRequest"));
    }
    if meta::annotation(&pod, "kubernetes.io/config.mirror").is_some() {
        return Err(format!("pod {place:?} is a mirror pod"));
    }
    if value::text(&pod, "spec.serviceAccountName") != account {
        return Err(format!(
            "PodCertificateRequest for pod {place:?} contains serviceAccountName ({account:?}) that differs from running pod ({:?})",
            value::text(&pod, "spec.serviceAccountName")
        ));
    }
    if meta::uid(&found) != text("serviceAccountUID") {
        return Err(format!(
            "PodCertificateRequest for pod {place:?} names service account UID {:?}, which differs from the running service account ({:?})",
            text("serviceAccountUID"),
            meta::uid(&found)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Notes;
    use crate::testing::Cluster;
    use api::json::json;
    use std::collections::BTreeMap;

    #[test]
    fn labels_that_nodes_may_not_give_themselves() {
        for (key, want) in [
            ("app", false),
            ("example.com/x", false),
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/anything", false),
            ("a.kubelet.kubernetes.io/b", false),
            ("node-restriction.kubernetes.io/secure", true),
            ("x.node-restriction.kubernetes.io/secure", true),
            ("node-role.kubernetes.io/control-plane", true),
            ("kubernetes.io/role", true),
            ("a.k8s.io/b", true),
        ] {
            assert_eq!(is_forbidden(key), want, "{key}");
        }
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let old = node(json!({"kubernetes.io/role": "a", "app": "x"}));
        assert_eq!(forbidden_labels(&old, &old), "");
        assert_eq!(forbidden_labels(&node(json!({"app": "y"})), &old), "kubernetes.io/role");
    }

    #[test]
    fn what_pods_refer_to() {
        for (spec, want) in [
            (json!({"volumes": [{"hostPath": {}}, {"projected": {"sources": [{"downwardAPI": {}}]}}]}), None),
            (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
            (json!({"imagePullSecrets": [{"name": "a"}]}), Some("secrets")),
            (json!({"containers": [{"envFrom": [{"configMapRef": {}}]}]}), None),
            (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "a"}}]}]}), Some("configmaps")),
            (json!({"volumes": [{"configMap": {"name": "a"}}]}), Some("configmaps")),
            (json!({"volumes": [{"cephfs": {"monitors": []}}, {"rbd": {}}, {"flexVolume": {}}]}), None),
            (json!({"volumes": [{"cephfs": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"cinder": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"flexVolume": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"rbd": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"scaleIO": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"iscsi": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"storageos": {"secretRef": {"name": "a"}}}]}), Some("secrets")),
            (json!({"volumes": [{"secret": {}}]}), Some("secrets (via secret volumes)")),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
                Some("serviceaccounts (via projected volumes)"),
            ),
        ] {
            assert_eq!(reference(&json!({"spec": spec})), want, "{spec}");
        }
    }

    #[test]
    fn absent_and_empty_are_the_same() {
        assert!(!differ(&json!({"spec": {"taints": []}}), &json!({"spec": {}}), "spec.taints"));
        assert!(differ(&json!({"spec": {"taints": [{"key": "a"}]}}), &json!({"spec": {}}), "spec.taints"));
        assert!(same(&json!({"a": {"b": []}, "c": 1, "e": []}), &json!({"c": 1, "d": null, "a": {}})));
        assert!(same(&json!([{"a": {}}]), &json!([{}])));
        for (one, other) in [
            (json!({"a": [1]}), json!({"a": [2]})),
            (json!({"a": 1}), json!({})),
            (json!({}), json!({"a": "x"})),
            (json!({"a": [1]}), json!({"a": [1, 1]})),
            (json!({"a": {"b": 1}}), json!({"a": {"c": 1}})),
        ] {
            assert!(!same(&one, &other), "{one} {other}");
        }
    }

    #[test]
    fn deletions_are_judged_before_anybody_outside_is_asked() {
        let kind = api::kinds::by_resource("", "v1", "pods").unwrap();
        let (notes, extra, groups) = (Notes::default(), BTreeMap::new(), ["system:nodes".to_owned()]);
        for (node, refused) in [("n1", false), ("n2", true)] {
            let old = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1"}});
            let request = Request {
                operation: Operation::Delete,
                kind,
                namespace: "a",
                name: "p",
                subresource: "",
                user: &format!("system:node:{node}"),
                uid: "",
                groups: &groups,
                extra: &extra,
                old: &old,
                now: 0,
                form: crate::Form::Itself,
                dry_run: false,
                options: &Value::Null,
                notes: &notes,
                rounds: None,
            };
            let chain = crate::Chain::new(&["NodeRestriction".to_owned()], &[]).unwrap();
            let first = futures::executor::block_on(chain.mutate(&request, &mut Value::Null, &Cluster::default()));
            assert_eq!(first.is_err(), refused, "{node}");
        }
    }
}
