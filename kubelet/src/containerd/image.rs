//! OCI image archives: writes the one that holds the pause program, and imports any archive into containerd.
//! Never speaks to a registry and never unpacks anything itself.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::command::run;
use super::{Error, pause};

/// The namespace of containerd in which the CRI keeps what Kubernetes uses.
pub const NAMESPACE: &str = "k8s.io";

/// The image every sandbox runs, by its full name; a person may write `ironkeel/pause:1`.
pub const PAUSE_IMAGE: &str = "docker.io/ironkeel/pause:1";

/// Imports an OCI or Docker image archive into containerd's Kubernetes namespace and unpacks it.
///
/// Returns the full names of the images it held, as containerd reports them.
///
/// # Errors
/// [`Error::Missing`] without `ctr`; [`Error::Failed`] with containerd's own words when the file is absent or is no image archive.
pub async fn import_image(socket: &Path, archive: &Path) -> Result<Vec<String>, Error> {
    let socket = socket.to_string_lossy();
    let archive = archive.to_string_lossy();
    let output =
        run("ctr", &["--address", &socket, "--namespace", NAMESPACE, "images", "import", &archive], None).await?;
    Ok(imported_names(&output))
}

/// The full names of all images that containerd's Kubernetes namespace holds, digests left out, sorted.
///
/// # Errors
/// [`Error::Missing`] without `ctr`; [`Error::Failed`] when containerd does not answer.
pub async fn image_names(socket: &Path) -> Result<Vec<String>, Error> {
    let socket = socket.to_string_lossy();
    let output =
        run("ctr", &["--address", &socket, "--namespace", NAMESPACE, "images", "list", "--quiet"], None).await?;
    let mut names: Vec<String> =
        output.lines().filter(|line| !line.starts_with("sha256:") && !line.is_empty()).map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Mounts an image's files at `target`, for reading alone. `image` is a full name or an id as the CRI says it.
///
/// # Errors
/// [`Error::Missing`] without `ctr`; [`Error::Failed`] with containerd's own words when the image is absent or cannot be mounted.
pub async fn mount_image(socket: &Path, image: &str, target: &Path) -> Result<(), Error> {
    let (socket, target) = (socket.to_string_lossy(), target.to_string_lossy());
    let args = ["--address", &socket, "--namespace", NAMESPACE, "images", "mount", image, &target];
    run("ctr", &args, None).await.map(|_| ())
}

/// Undoes [`mount_image`], with the snapshot that it made.
///
/// # Errors
/// As for [`mount_image`].
pub async fn unmount_image(socket: &Path, target: &Path) -> Result<(), Error> {
    let (socket, target) = (socket.to_string_lossy(), target.to_string_lossy());
    let args = ["--address", &socket, "--namespace", NAMESPACE, "images", "unmount", "--rm", &target];
    run("ctr", &args, None).await.map(|_| ())
}

/// Makes sure that [`PAUSE_IMAGE`] is there; `scratch` is a directory that a small file may pass through.
///
/// # Errors
/// Those of [`import_image`]; [`Error::File`] when `scratch` cannot be written.
pub async fn ensure_pause_image(socket: &Path, scratch: &Path) -> Result<(), Error> {
    if image_names(socket).await?.iter().any(|name| name == PAUSE_IMAGE) {
        return Ok(());
    }
    let path = scratch.join("pause.tar");
    let failed = |source| Error::File { path: path.clone(), source };
    tokio::fs::write(&path, pause_archive()).await.map_err(failed)?;
    let result = import_image(socket, &path).await;
    tokio::fs::remove_file(&path).await.map_err(failed)?;
    result.map(|_| ())
}

/// The words after `unpacking` (containerd 1.6 to 2.0), or the first words of the lines that end in `saved` (2.1 and later).
fn imported_names(output: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in output.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words.as_slice() {
            ["unpacking", name, ..] | [name, .., "saved"] => *name,
            _ => continue,
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// An OCI image layout, as one tar archive, with the pause program as its only file. The same bytes every time.
pub fn pause_archive() -> Vec<u8> {
    let layer = tar(&[Entry { path: "pause", mode: 0o755, data: &pause::executable() }]);
    let config = json!({
        "architecture": pause::ARCHITECTURE,
        "os": "linux",
        "config": { "Entrypoint": ["/pause"], "User": "65535:65535" },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string();
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest.as_bytes()),
        "size": manifest.len(),
        "annotations": {
            "io.containerd.image.name": PAUSE_IMAGE,
            "org.opencontainers.image.ref.name": PAUSE_IMAGE.rsplit(':').next(),
        },
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let blob = |data: &[u8]| format!("blobs/sha256/{}", hex(data));
    tar(&[
        Entry { path: "oci-layout", mode: 0o644, data: br#"{"imageLayoutVersion":"1.0.0"}"# },
        Entry { path: "index.json", mode: 0o644, data: index.as_bytes() },
        Entry { path: &blob(manifest.as_bytes()), mode: 0o644, data: manifest.as_bytes() },
        Entry { path: &blob(config.as_bytes()), mode: 0o644, data: config.as_bytes() },
        Entry { path: &blob(&layer), mode: 0o644, data: &layer },
    ])
}

fn descriptor(media_type: &str, data: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(data), "size": data.len() })
}

fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex(data))
}

/// The SHA-256 of `data` in lower-case hexadecimal digits.
pub(crate) fn hex(data: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(data).iter().fold(String::with_capacity(64), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string never fails");
        out
    })
}

/// One regular file of an archive, owned by root, dated 1970 so that the archive's bytes depend on its content alone.
struct Entry<'a> {
    /// At most 100 bytes: longer names need an extension that nothing here uses.
    path: &'a str,
    mode: u32,
    data: &'a [u8],
}

/// A tar archive in the ustar format of POSIX.1-1988: 512-byte header blocks, data padded to blocks, two empty blocks at the end.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        debug_assert!(entry.path.len() <= 100, "{} does not fit a ustar header", entry.path);
        let mut header = Vec::with_capacity(512);
        header.extend(format!("{:\0<100}", entry.path).bytes());
        header.extend(format!("{:07o}\0{:07o}\0{:07o}\0", entry.mode, 0, 0).bytes());
        header.extend(format!("{:011o}\0{:011o}\0", entry.data.len(), 0).bytes());
        let after_checksum = format!("0{:\0<100}ustar\x0000{:\0<247}", "", "");
        // The checksum is that of the header with eight spaces in the checksum's own place.
        let sum: u32 =
            header.iter().copied().chain(after_checksum.bytes()).map(u32::from).sum::<u32>() + 8 * u32::from(b' ');
        header.extend(format!("{sum:06o}\0 ").bytes());
        header.extend(after_checksum.bytes());
        out.extend(header);
        out.extend(entry.data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn tar_command(args: &[&str], archive: &[u8]) -> Vec<u8> {
        let mut child = Command::new("tar").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "tar {args:?}");
        output.stdout
    }

    #[test]
    fn the_archive_is_a_tar_whose_digests_hold() {
        let archive = pause_archive();
        assert_eq!(archive, pause_archive(), "the same bytes every time");
        let list = String::from_utf8(tar_command(&["-t"], &archive)).unwrap();
        assert_eq!(list.lines().count(), 5, "{list}");
        let blobs: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix("blobs/sha256/")).collect();
        assert_eq!(blobs.len(), 3);
        for blob in blobs {
            let data = tar_command(&["-xO", &format!("blobs/sha256/{blob}")], &archive);
            assert_eq!(hex(&data), blob);
        }
        let index: serde_json::Value = serde_json::from_slice(&tar_command(&["-xO", "index.json"], &archive)).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], PAUSE_IMAGE);
    }

    #[test]
    fn the_layer_holds_the_executable() {
        let program = pause::executable();
        let layer = tar(&[Entry { path: "pause", mode: 0o755, data: &program }]);
        assert_eq!(tar_command(&["-xO", "pause"], &layer), program);
        let list = String::from_utf8(tar_command(&["-tv", "--numeric-owner"], &layer)).unwrap();
        assert!(list.starts_with("-rwxr-xr-x 0/0"), "{list}");
    }

    #[test]
    fn names_are_read_from_what_ctr_prints() {
        let check = |output: &str, names: &[&str]| assert_eq!(imported_names(output), names, "{output}");
        check("unpacking docker.io/ironkeel/web:1 (sha256:00aa)...done\n", &["docker.io/ironkeel/web:1"]);
        check(
            "docker.io/ironkeel/web:1              \tsaved\t\napplication/vnd.oci.image.manifest.v1+json sha256:00aa\nImporting\telapsed: 0.1 s\n",
            &["docker.io/ironkeel/web:1"],
        );
        check("unpacking a (x)...done\nunpacking b (y)...done\nunpacking a (x)...done\n", &["a", "b"]);
        check("", &[]);
    }
}
