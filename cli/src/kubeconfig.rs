//! kubeconfig files: made whole, written so that only the owner reads them.
//!
//! Never merges into a file that is there; it replaces it.

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::json;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A kubeconfig with one cluster, one user with a client certificate, one context.
pub(crate) fn render(server: &str, ca: &str, certificate: &str, key: &str) -> anyhow::Result<String> {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "ironkeel",
        "clusters": [{"name": "ironkeel", "cluster": {"server": server, "certificate-authority-data": encode(ca)}}],
        "users": [{"name": "ironkeel-admin", "user": {
            "client-certificate-data": encode(certificate), "client-key-data": encode(key)}}],
        "contexts": [{"name": "ironkeel", "context": {"cluster": "ironkeel", "user": "ironkeel-admin"}}],
    });
    Ok(serde_yaml_ng::to_string(&config)?)
}

/// Writes a file that only its owner may read, in one step: a reader sees the old or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).context("the file has no name")?;
    let scratch = directory.join(format!(".{name}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&scratch)
        .with_context(|| format!("cannot write {shown}"))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {shown}"))?;
    std::fs::rename(&scratch, path).with_context(|| format!("cannot write {shown}"))
}
