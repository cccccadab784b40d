//! Certificates that people and nodes ask the cluster for, and the versions of groups that it registers.

use e2e::{Cli, Cluster, control_plane, eventually};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Asks for a client certificate of this name and group, as kubectl's user; the output of the attempt and the key, PEM.
fn ask(kubectl: &Cli, object: &str, signer: &str, group: &str, name: &str) -> (e2e::Output, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    let mut request = CertificateSigningRequest::default();
    request.metadata.name = Some(object.to_owned());
    request.spec.request = ByteString(pem.into_bytes());
    request.spec.signer_name = signer.to_owned();
    request.spec.usages = Some(vec!["client auth".to_owned(), "digital signature".to_owned()]);
    request.spec.expiration_seconds = Some(3600);
    // What somebody says of himself is not believed.
    request.spec.username = Some("system:admin".to_owned());
    let body = serde_json::to_vec(&request).expect("JSON");
    (kubectl.feed("create -f -", &body), key.serialize_pem())
}

fn issued(kubectl: &Cli, object: &str) -> CertificateSigningRequest {
    eventually("the certificate is issued", PATIENCE, || {
        let text = kubectl.ok(&format!("get csr {object} -o json"));
        let request: CertificateSigningRequest = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let there = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
        if there { Ok(request) } else { Err(text) }
    })
}

/// kubectl as the holder of an issued certificate.
fn holder(cluster: &Cluster, admin: &Cli, request: CertificateSigningRequest, key: &str) -> Cli {
    let place = |name: &str| cluster.directory().join(format!("holder.{name}"));
    let certificate = request.status.and_then(|status| status.certificate).expect("issued").0;
    std::fs::write(place("crt"), certificate).expect("the certificate can be written");
    std::fs::write(place("key"), key).expect("the key can be written");
    let authority = admin.ok("get configmap kube-root-ca.crt -n default -o jsonpath={.data.ca\\.crt}");
    std::fs::write(place("ca"), authority).expect("the authority can be written");
    let kubectl = admin.clone().env("KUBECONFIG", place("kubeconfig"));
    let server = format!("https://127.0.0.1:{}", cluster.port());
    kubectl.ok(&format!("config set-cluster c --server={server} --certificate-authority={}", place("ca").display()));
    let (crt, key) = (place("crt"), place("key"));
    kubectl.ok(&format!(
        "config set-credentials u --client-certificate={} --client-key={}",
        crt.display(),
        key.display()
    ));
    kubectl.ok("config set-context x --cluster=c --user=u");
    kubectl.ok("config use-context x");
    kubectl
}

#[test]
fn an_approved_request_gives_a_certificate_that_works() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.kubectl();
    let (created, key) = ask(&admin, "jane", CLIENT, "devs", "jane");
    created.ok();
    let row = admin.ok("get csr jane --no-headers");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((cells[2], cells[4], cells[5]), (CLIENT, "60m", "Pending"), "{row}");
    assert_ne!(cells[3], "system:admin", "the server says who asked");

    // Who may change approvals may not yet approve for a signer.
    admin.ok("create clusterrole judges --verb=get,update --resource=certificatesigningrequests,certificatesigningrequests/approval");
    admin.ok("create clusterrolebinding judges --clusterrole=judges --user=judge");
    eventually("the judge is refused for the signer's sake alone", PATIENCE, || {
        let output = admin.run("certificate approve jane --as=judge");
        let want = format!("user not permitted to approve requests with signerName \"{CLIENT}\"");
        if output.code != 0 && output.stderr.contains(&want) { Ok(()) } else { Err(output.to_string()) }
    });
    let signers = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "signers"},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/*"],
            "verbs": ["approve"]}]});
    admin.feed("create -f -", signers.to_string().as_bytes()).ok();
    admin.ok("create clusterrolebinding signers --clusterrole=signers --user=judge");
    eventually("the judge approves", PATIENCE, || {
        let output = admin.run("certificate approve jane --as=judge");
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });

    let request = issued(&admin, "jane");
    assert!(admin.ok("get csr jane --no-headers").trim_end().ends_with("Approved,Issued"));
    let jane = holder(&cluster, &admin, request, &key);
    let who = jane.ok("auth whoami -o jsonpath={.status.userInfo.username}|{.status.userInfo.groups}");
    assert_eq!(who, r#"jane|["devs","system:authenticated"]"#);
    jane.fails("get nodes", "nodes is forbidden: User \"jane\" cannot list resource \"nodes\"");
    admin.ok("get csr --field-selector=spec.signerName=kubernetes.io/kube-apiserver-client -o name");

    // Nobody becomes an administrator this way.
    let (refused, _) = ask(&admin, "root", CLIENT, "system:masters", "root");
    refused.check_failed(&format!("use of {CLIENT} signer with system:masters group is not allowed"));
    let (created, _) = ask(&admin, "denied", CLIENT, "devs", "jane");
    created.ok();
    admin.ok("certificate deny denied");
    assert!(admin.ok("get csr denied --no-headers").trim_end().ends_with("Denied"));
}

#[test]
fn what_is_served_is_registered() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.kubectl();
    let rows = admin.ok("get apiservices --no-headers");
    for name in ["v1.", "v1.apps", "v1.certificates.k8s.io", "v2.autoscaling", "v1.resource.k8s.io"] {
        let row = rows.lines().find(|row| row.split_whitespace().next() == Some(name));
        let cells: Vec<&str> = row.map(|row| row.split_whitespace().skip(1).take(2).collect()).unwrap_or_default();
        assert_eq!(cells, ["Local", "True"], "{name}\n{rows}");
    }
    admin.run("delete apiservice v1.apps --dry-run=server").ok();
}

#[test]
fn nodes_get_their_client_certificates_unasked() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.kubectl();
    let role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    admin.ok(&format!("create clusterrolebinding nodes-renew --clusterrole={role} --group=system:nodes"));
    let node = admin.clone().with("--as=system:node:n1 --as-group=system:nodes");
    let (created, _) = ask(&node, "n1", KUBELET, "system:nodes", "system:node:n1");
    created.ok();
    let request = issued(&admin, "n1");
    let condition = request.status.and_then(|status| status.conditions).and_then(|list| list.into_iter().next());
    let said = condition.map(|condition| (condition.type_, condition.reason.unwrap_or_default()));
    assert_eq!(said, Some(("Approved".to_owned(), "AutoApproved".to_owned())));
    // Not those of others.
    let (refused, _) = ask(&node, "n2", KUBELET, "system:nodes", "system:node:n2");
    refused.check_failed("can only create a node CSR with CN=system:node:n1");
    // Nor where nobody gave it the right: a person decides.
    let stranger = admin.clone().with("--as=system:bootstrap:abcdef --as-group=system:bootstrappers");
    let role = "create clusterrolebinding joiners --clusterrole=system:node-bootstrapper --group=system:bootstrappers";
    admin.ok(role);
    eventually("a joining node may ask", PATIENCE, || {
        let (output, _) = ask(&stranger, "joining", KUBELET, "system:nodes", "system:node:n3");
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    // Asked later and decided: whoever decides has seen the other by then.
    let (created, _) = ask(&node, "n1-again", KUBELET, "system:nodes", "system:node:n1");
    created.ok();
    issued(&admin, "n1-again");
    assert!(admin.ok("get csr joining --no-headers").trim_end().ends_with("Pending"));
}
