//! Which APIs a server offers by `--runtime-config` and `--feature-gates`, and how it warns of those that will go.

use e2e::{Cluster, Kind, control_plane};
use serde_json::{Value, json};

const CANDIDATE: &str = r#"{"apiVersion": "coordination.k8s.io/v1alpha2", "kind": "LeaseCandidate", "metadata": {"name": "c"},
    "spec": {"leaseName": "l", "binaryVersion": "1.36.0", "emulationVersion": "1.36.0", "strategy": "OldestEmulationVersion"}}"#;

const MIGRATION: &str = r#"{"apiVersion": "storagemigration.k8s.io/v1beta1", "kind": "StorageVersionMigration",
    "metadata": {"name": "m"}, "spec": {"resource": {"resource": "secrets"}}}"#;

const GROUP: &str = r#"{"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {"name": "g"},
    "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}, "priority": 7}}"#;

const CLAIM: &str = r#"{"apiVersion": "resource.k8s.io/v1beta1", "kind": "ResourceClaim", "metadata": {"name": "d"},
    "spec": {"devices": {"requests": [{"name": "gpu", "deviceClassName": "gpu.example.com"}]}}}"#;

#[test]
fn only_stable_versions_without_flags() {
    let Some(cluster) = control_plane() else { return };
    let kubectl = cluster.kubectl();
    let versions = kubectl.ok("api-versions");
    let unstable: Vec<&str> = versions.lines().filter(|line| line.contains("alpha") || line.contains("beta")).collect();
    assert!(unstable.is_empty(), "{unstable:?}");
    let answer = cluster.http().get("/apis/networking.k8s.io/v1beta1/ipaddresses");
    let why = "the server could not find the requested resource";
    assert_eq!((answer.status, &answer.body["message"]), (404, &json!(why)), "{answer:?}");
    let answer = cluster.http().get("/apis/nobody.example.com/v1/things");
    assert_eq!((answer.status, answer.body), (404, json!("404 page not found\n")));
}

#[test]
fn flags_turn_apis_on() {
    let Some(shared) = control_plane() else { return };
    drop(shared);
    let cluster = Cluster::start(
        Kind::ControlPlane,
        &[
            "--runtime-config=api/alpha=true,api/beta=true",
            "--runtime-config=storage.k8s.io/v1beta1=false",
            "--feature-gates=GenericWorkload=true,ClusterTrustBundle=true,NoSuchGate=true",
        ],
    );
    let kubectl = cluster.namespace("gates");
    let versions = kubectl.ok("api-versions");
    let has = |version: &str| versions.lines().any(|line| line == version);
    assert!(
        has("coordination.k8s.io/v1alpha2")
            && has("coordination.k8s.io/v1beta1")
            && has("internal.apiserver.k8s.io/v1alpha1")
    );
    assert!(has("scheduling.k8s.io/v1alpha2") && !has("storage.k8s.io/v1beta1"));
    assert!(!has("storagemigration.k8s.io/v1beta1"), "its gate is off");
    assert!(cluster.log_tail().contains("unrecognized feature gate: NoSuchGate"), "{}", cluster.log_tail());

    // One object in two versions.
    let made = kubectl.feed("create -f -", CANDIDATE.as_bytes());
    let warning = "coordination.k8s.io/v1alpha2 LeaseCandidate is deprecated in v1.35+, unavailable in v1.38+";
    assert!(made.code == 0 && made.stderr.contains(warning), "{made:?}");
    let again = kubectl.feed("create -f -", CANDIDATE.as_bytes());
    again.check_failed("already exists");
    assert!(again.stderr.contains(warning), "a refusal warns as well: {again}");
    let read = kubectl.ok("get leasecandidates.v1beta1.coordination.k8s.io c -o json");
    let read: Value = serde_json::from_str(&read).unwrap();
    assert_eq!((&read["apiVersion"], &read["spec"]["leaseName"]), (&json!("coordination.k8s.io/v1beta1"), &json!("l")));
    let listed =
        kubectl.ok("get leasecandidates.v1alpha2.coordination.k8s.io --field-selector spec.leaseName=l -o name");
    assert_eq!(listed.trim(), "leasecandidate.coordination.k8s.io/c");
    assert!(
        kubectl.ok("explain leasecandidate.spec --api-version=coordination.k8s.io/v1alpha2").contains("binaryVersion")
    );

    // Two versions that differ in more than their names.
    kubectl.feed("create -f -", CLAIM.as_bytes()).ok();
    let requests = |version: &str| {
        let claim = kubectl.ok(&format!("get resourceclaims.{version}.resource.k8s.io d -o json"));
        serde_json::from_str::<Value>(&claim).unwrap()["spec"]["devices"]["requests"].clone()
    };
    let one = json!({"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1});
    assert_eq!(requests("v1"), json!([{"name": "gpu", "exactly": one}]));
    let mut flat = one;
    flat["name"] = json!("gpu");
    assert_eq!(requests("v1beta1"), json!([flat]));

    // Certificates that are trusted: the cluster's own.
    let trusted = std::fs::read_to_string(cluster.data().join("pki/ca.crt")).unwrap();
    let bundle = |text: &str| {
        json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": {"name": "t"},
            "spec": {"trustBundle": text}})
    };
    kubectl
        .feed("create -f -", bundle("none").to_string().as_bytes())
        .check_failed("at least one trust anchor must be provided");
    kubectl.feed("create -f -", bundle(&trusted).to_string().as_bytes()).ok();
    assert_eq!(
        kubectl.ok("get clustertrustbundles.v1alpha1.certificates.k8s.io t -o name"),
        "clustertrustbundle.certificates.k8s.io/t\n"
    );
    assert_eq!(
        kubectl.ok("get apiservice v1alpha1.certificates.k8s.io -o name"),
        "apiservice.apiregistration.k8s.io/v1alpha1.certificates.k8s.io\n"
    );

    // A field behind a gate that is off is lost; a kind behind one is not there.
    kubectl.feed("create -f -", GROUP.as_bytes()).ok();
    let group: Value = serde_json::from_str(&kubectl.ok("get podgroup g -o json")).unwrap();
    // The reference has no way to be absent in upstream's JSON.
    let wanted =
        json!({"podGroupTemplateRef": null, "schedulingPolicy": {"gang": {"minCount": 2}}, "disruptionMode": "Pod"});
    assert_eq!(group["spec"], wanted);
    kubectl.feed("create -f -", MIGRATION.as_bytes()).check_failed("no matches for kind");

    let metrics = cluster.http().get("/metrics").body;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "kubernetes_feature_enabled{name=\"GenericWorkload\",stage=\"ALPHA\"} 1",
        "apiserver_requested_deprecated_apis{group=\"coordination.k8s.io\",removed_release=\"1.38\",\
         resource=\"leasecandidates\",subresource=\"\",version=\"v1alpha2\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line}");
    }
}

#[test]
fn unknown_apis_are_refused_at_the_start() {
    if control_plane().is_none() {
        return;
    }
    for (flag, sentence) in [
        ("--runtime-config=api/legacy=true", "--runtime-config: unknown api groups api/legacy"),
        ("--runtime-config=apps/v9=true", "--runtime-config: group version apps/v9 that has not been registered"),
        (
            "--feature-gates=MultiCIDRServiceAllocator=false",
            "--feature-gates: cannot set feature gate MultiCIDRServiceAllocator to false, feature is locked to true",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().display();
        Cluster::ironkeel().fails(&format!("up --no-node --data-dir {data} --secure-port=0 {flag}"), sentence);
    }
}
