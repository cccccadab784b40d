//! A FoundationDB cluster that speaks TLS: the right certificate reads and writes; another authority's is not let in.
//!
//! The client's TLS files hold for a process, so the stranger is a process of his own: this test, started again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]

#[path = "fdb/mod.rs"]
mod fdb;

use std::path::{Path, PathBuf};
use std::process::Command;

use fdb::{Cluster, Programs, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use storage::engines;
use storage::kv::{KvError, Mutation};

const FILE: &str = "STORAGE_FDB_TLS_CLUSTER";

fn files(dir: &Path, name: &str) -> Tls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} authority"));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |what: &str, text: String| -> PathBuf {
        let path = dir.join(format!("{name}-{what}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    Tls {
        certificate: write("cert", certificate.pem()),
        key: write("key", key.serialize_pem()),
        authority: write("ca", authority.pem()),
    }
}

fn spec(file: &str) -> String {
    format!("foundationdb:{file}")
}

async fn write_with(file: &str, tls: &Tls, timeout: &str) -> Result<(), KvError> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (certificate, key, authority) = (text(&tls.certificate), text(&tls.key), text(&tls.authority));
    let options = [
        ("tls-cert-file", certificate.as_str()),
        ("tls-key-file", &key),
        ("tls-ca-file", &authority),
        ("timeout", timeout),
    ];
    let kv = engines::open_with(&spec(file), &options)?;
    let mut tx = kv.begin();
    tx.mutate(Mutation::Set("k".into(), "v".into()));
    tx.commit().await.map(drop)?;
    assert_eq!(kv.get(b"k").await?.as_deref(), Some(b"v".as_slice()));
    // The files hold for the process.
    let other = engines::open_with(&spec(file), &options[..2]).unwrap_err().to_string();
    assert!(other.contains("hold for the whole process"), "{other}");
    Ok(())
}

#[tokio::test]
async fn only_the_right_certificate_is_let_in() {
    if let Ok(file) = std::env::var(FILE) {
        let dir = tempfile::tempdir().unwrap();
        let refused = write_with(&file, &files(dir.path(), "stranger"), "3000").await.unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, KvError::Unknown(_) | KvError::Unavailable(_)), "{said}");
        return;
    }
    let Some(programs) = Programs::or_say("FoundationDB over TLS") else { return };
    let dir = tempfile::tempdir().unwrap();
    let tls = files(dir.path(), "friend");
    let cluster = Cluster::secured(&programs, tls.clone());
    let file = cluster.file().to_str().unwrap();
    write_with(file, &tls, "10000").await.unwrap();
    let stranger = Command::new(std::env::current_exe().unwrap()).env(FILE, file).output().unwrap();
    assert!(stranger.status.success(), "{}", String::from_utf8_lossy(&stranger.stdout));
}
