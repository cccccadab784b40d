//! A backup of a server that runs, and what comes back from it.

use e2e::{Cluster, Kind, Output, control_plane};
use std::path::Path;

fn ironkeel(line: &str) -> Output {
    Cluster::ironkeel().run(line)
}

/// Puts a cluster's data directory aside, and an empty one in its place.
fn aside(cluster: &Cluster, name: &str) {
    let old = cluster.directory().join(name);
    std::fs::rename(cluster.data(), old).expect("a directory can be renamed");
}

fn copy_pki(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("pki")).expect("a directory can be made");
    for file in std::fs::read_dir(from.join("pki")).expect("there are keys") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join("pki").join(file.file_name())).expect("a file can be copied");
    }
}

#[test]
fn a_running_cluster_is_copied_and_comes_back_as_it_was() {
    if control_plane().is_none() {
        return;
    }
    let cluster = Cluster::start(Kind::ControlPlane, &[]);
    let data = cluster.data().display().to_string();
    let file = cluster.directory().join("backup").display().to_string();
    let kubectl = cluster.namespace("kept");
    let token = kubectl.ok("create token default");
    kubectl.ok("create configmap a --from-literal=k=old");
    let address = kubectl.ok("create service clusterip web --tcp=80 -o jsonpath={.spec.clusterIP}");
    let point = kubectl.ok("create configmap mark -o jsonpath={.metadata.resourceVersion}");
    kubectl.ok(r#"patch configmap a -p '{"data":{"k":"changed"}}'"#);
    kubectl.ok("delete service web");
    kubectl.ok("create configmap b");

    // Only an administrator gets it, and never over a file.
    let refused = cluster.anonymous().get("/ironkeel/backup");
    assert_eq!((refused.status, &refused.body["reason"]), (403, &"Forbidden".into()));
    let output = ironkeel(&format!("backup --data-dir {data} {file}"));
    assert!(output.code == 0 && output.stderr.contains("it can restore any revision from 0 "), "{output}");
    ironkeel(&format!("backup --data-dir {data} {file}")).check_failed("is there already");
    let kubeconfig = cluster.directory().join("kubeconfig").display().to_string();
    ironkeel(&format!("backup --kubeconfig {kubeconfig} {file}.second")).ok();
    ironkeel(&format!("check --data-dir {data}")).check_failed("stop the server that runs on it first");
    ironkeel(&format!("restore --data-dir {data} {file}")).check_failed("stop the server that runs on it");

    // The old cluster goes on, and ends.
    kubectl.ok("delete configmap a b");
    let lost = kubectl.ok("create configmap lost -o jsonpath={.metadata.resourceVersion}");
    assert_eq!(cluster.stop(), Some(0));
    let sound = ironkeel(&format!("check --data-dir {data}"));
    assert!(sound.code == 0 && sound.stderr.contains("is sound at revision"), "{sound}");
    ironkeel(&format!("restore --data-dir {data} {file}")).check_failed("overwrites nothing");

    // Nothing comes of a bad file or a bad point, and nothing is made for it.
    aside(&cluster, "first");
    let whole = std::fs::read(&file).expect("the backup");
    std::fs::write(format!("{file}.short"), &whole[..whole.len() / 2]).expect("a file");
    ironkeel(&format!("restore --data-dir {data} {file}.short")).check_failed("is damaged or cut short");
    ironkeel(&format!("restore --data-dir {data} {kubeconfig}")).check_failed("is no backup");
    ironkeel(&format!("restore --data-dir {data} --at {lost} {file}")).check_failed("is outside of what");
    ironkeel(&format!("restore --data-dir {data} --at 2001-01-01T00:00:00Z {file}")).check_failed("is outside of what");
    ironkeel(&format!("backup --data-dir {data} {file}.none")).check_failed("there is no store");
    ironkeel(&format!("check --data-dir {data}")).check_failed("there is no store");
    assert!(!cluster.data().exists() && !Path::new(&format!("{file}.none")).exists());

    // As of a revision, with the old keys.
    let output = ironkeel(&format!("restore --data-dir {data} --at {point} {file}"));
    assert!(output.code == 0 && output.stderr.contains("copy the old cluster's pki folder"), "{output}");
    assert!(ironkeel(&format!("check --data-dir {data}")).ok().is_empty());
    copy_pki(&cluster.directory().join("first"), &cluster.data());
    cluster.launch();
    let names = "get configmaps -o jsonpath={.items[*].metadata.name}";
    assert_eq!(kubectl.ok(names), "a kube-root-ca.crt mark");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "old");
    assert_eq!(kubectl.ok("get configmap mark -o jsonpath={.metadata.resourceVersion}"), point);
    assert_eq!(kubectl.ok("get service web -o jsonpath={.spec.clusterIP}"), address);
    kubectl.fails(&format!("create service clusterip other --tcp=80 --clusterip={address}"), "already allocated");
    let review = format!(
        r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}"}}}}"#,
        token.trim()
    );
    let said = kubectl.feed("create --validate=false -f - -o jsonpath={.status.authenticated}", review.as_bytes()).ok();
    assert_eq!(said, "true", "the old keys sign on");
    // Revisions go on above everything that anybody has seen, and who saw what is gone has to list again.
    let new = kubectl.ok("create configmap new -o jsonpath={.metadata.resourceVersion}");
    let number = |text: &str| text.parse::<u64>().expect("a revision");
    assert!(number(&new) > number(&lost), "{new} after {lost}");
    let watch = |from: &str| {
        let path = "/api/v1/namespaces/kept/configmaps";
        kubectl.run(&format!("get --raw {path}?watch=1&timeoutSeconds=2&resourceVersion={from}"))
    };
    let gone = watch(&lost);
    assert!(format!("{}{}", gone.stdout, gone.stderr).contains("too old resource version"), "{gone}");
    assert!(watch(&point).ok().contains(r#""name":"new""#));

    // As of the backup, with keys of its own.
    assert_eq!(cluster.stop(), Some(0));
    aside(&cluster, "second");
    ironkeel(&format!("restore --data-dir {data} {file}.second")).ok();
    cluster.launch();
    assert_eq!(kubectl.ok(names), "a b kube-root-ca.crt mark");
    assert_eq!(kubectl.ok("get configmap a -o jsonpath={.data.k}"), "changed");
    kubectl.ok(&format!("create service clusterip other --tcp=80 --clusterip={address}"));

    // Without a server, from the store itself.
    assert_eq!(cluster.stop(), Some(0));
    ironkeel(&format!("backup --data-dir {data} {file}.third")).ok();
}
