//! Encryption at rest, as an operator meets it: a file, a restart or none, kubectl, and the bytes on the disk.

use e2e::{Cluster, Kind, control_plane, eventually};
use std::path::Path;
use std::time::Duration;

/// 32 bytes each.
const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Writes a configuration for secrets with these providers.
fn configure(file: &Path, providers: &[String]) {
    let mut text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
    text.push_str("- resources: [secrets]\n  providers:\n");
    for provider in providers {
        text.push_str(&format!("  - {provider}\n"));
    }
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("the file is written");
    std::fs::rename(beside, file).expect("the file is put in its place");
}

fn provider(cipher: &str, name: &str, secret: &str) -> String {
    format!("{cipher}: {{keys: [{{name: {name}, secret: '{secret}'}}]}}")
}

/// Whether any file of the store holds these bytes.
fn on_disk(cluster: &Cluster, needle: &str) -> bool {
    fn look(place: &Path, needle: &[u8]) -> bool {
        let Ok(entries) = std::fs::read_dir(place) else {
            // Files come and go while the cluster runs.
            return std::fs::read(place).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle));
        };
        entries.flatten().any(|entry| look(&entry.path(), needle))
    }
    look(&cluster.data().join("store"), needle.as_bytes())
}

#[test]
fn secrets_are_encrypted_keys_rotate_and_old_data_are_rewritten() {
    let Some(shared) = control_plane() else { return };
    drop(shared);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("encryption.yaml");
    let (first, second) = (provider("secretbox", "key1", ONE), provider("aesgcm", "key2", TWO));
    configure(&file, &[first.clone(), "identity: {}".to_owned()]);
    let flag = format!("--encryption-provider-config={}", file.display());
    let cluster = Cluster::start(Kind::ControlPlane, &[&flag, "--encryption-provider-config-automatic-reload"]);
    let kubectl = cluster.namespace("sealed");

    kubectl.ok("create secret generic s --from-literal=k=topsecretvalue");
    kubectl.ok("create configmap c --from-literal=k=plainforeverybody");
    let value = |name: &str| kubectl.ok(&format!("get secret {name} -o jsonpath={{.data.k}}"));
    let encoded = "dG9wc2VjcmV0dmFsdWU=";
    assert_eq!(value("s"), encoded);
    assert!(on_disk(&cluster, "plainforeverybody"), "what is not encrypted can be found like this");
    assert!(on_disk(&cluster, "k8s:enc:secretbox:v1:key1:"));
    assert!(!on_disk(&cluster, encoded) && !on_disk(&cluster, "topsecretvalue"));
    assert_eq!(kubectl.ok("get --raw /readyz/kms-providers"), "ok");

    // A file that cannot be used changes nothing; the next good one does, without a restart.
    configure(&file, &[provider("aesgcm", "key2", "AAAA")]);
    eventually("the log says so", Duration::from_secs(30), || {
        let log = cluster.log_tail();
        if log.contains("the encryption configuration in force stays") { Ok(()) } else { Err(log) }
    });
    kubectl.ok("create secret generic meanwhile --from-literal=k=v");
    configure(&file, &[second.clone(), first.clone()]);
    eventually("the new configuration", Duration::from_secs(30), || {
        kubectl.run("delete secret probe --ignore-not-found");
        kubectl.ok("create secret generic probe --from-literal=k=v");
        if on_disk(&cluster, "k8s:enc:aesgcm:v1:key2:") { Ok(()) } else { Err(cluster.log_tail()) }
    });

    // Writing the same again counts where it lies under the old key, and only there.
    let version = || kubectl.ok("get secret s -o jsonpath={.metadata.resourceVersion}");
    let again = || {
        let object = kubectl.ok("get secret s -o json");
        kubectl.feed("replace -f -", object.as_bytes()).ok();
    };
    let old = version();
    again();
    let new = version();
    assert_ne!(old, new, "the secret was under the old key");
    again();
    assert_eq!(version(), new, "and is under the new one now");

    // Everything else, and the past, in one go.
    let denied = kubectl.feed("create --raw /ironkeel/rewrite-encryption -f - --as=jane", b"");
    assert!(denied.code > 0 && denied.stderr.contains("forbidden"), "{denied}");
    let line = format!("rewrite-encryption --kubeconfig {}", cluster.directory().join("kubeconfig").display());
    let said = Cluster::ironkeel().run(&line);
    assert!(said.code == 0 && said.stderr.contains("secrets: ") && said.stderr.contains("can be removed"), "{said}");
    let nothing = Cluster::ironkeel().run(&line);
    assert!(nothing.stderr.contains("secrets: 0 objects and 0 past states"), "{nothing}");
    assert_eq!(version(), new, "a rewrite changes no object");

    // The old key goes; history goes back to before.
    assert_eq!(cluster.stop(), Some(0));
    configure(&file, &[second]);
    cluster.launch();
    assert_eq!((value("s").as_str(), value("meanwhile").as_str()), (encoded, "dg=="));
    let path = format!("/api/v1/namespaces/sealed/secrets?watch=1&timeoutSeconds=2&resourceVersion={old}");
    let events = kubectl.ok(&format!("get --raw {path}"));
    assert!(events.contains(r#""name":"meanwhile""#) && !events.contains("ERROR"), "{events}");

    // Without its key a secret is an error that says why, and nothing else suffers.
    assert_eq!(cluster.stop(), Some(0));
    configure(&file, &["identity: {}".to_owned()]);
    cluster.launch();
    kubectl.fails("get secret s", "no matching prefix found");
    kubectl.fails("get secrets", "unable to transform key \"/registry/secrets/sealed/");
    assert_eq!(kubectl.ok("get configmap c -o jsonpath={.data.k}"), "plainforeverybody");
    kubectl.ok("create secret generic fresh --from-literal=k=v");
    let refused = Cluster::ironkeel().run(&line);
    assert!(refused.code > 0 && refused.stderr.contains("cannot be decrypted"), "{refused}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_one_clear_sentence() {
    let Some(shared) = control_plane() else { return };
    drop(shared);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("encryption.yaml");
    configure(&file, &[provider("aescbc", "key1", "AAAA")]);
    let place = scratch.path().display();
    let up = |further: &str| {
        let line = format!(
            "up --no-node --secure-port=0 --bind-address=127.0.0.1 --kubeconfig={place}/k --data-dir={place}/d {further}"
        );
        Cluster::ironkeel().limit(Duration::from_secs(20)).run(&line)
    };
    let said = up(&format!("--encryption-provider-config={}", file.display()));
    let want = "ironkeel: --encryption-provider-config: resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 3, expected one of [16 24 32]";
    assert!(said.code > 0 && said.stderr.lines().any(|line| line == want), "{said}");
    let said = up("--encryption-provider-config-automatic-reload");
    assert!(said.code > 0 && said.stderr.contains("--encryption-provider-config <FILE>"), "{said}");
}
