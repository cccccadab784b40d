//! The volumes of a pod on this node: prepares a directory or file for each, keeps projected ones up to date, takes them
//! away. Storage that needs attaching is refused with a clear sentence.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;

use crate::downward::Facts;
use crate::objects::Objects;
use crate::{model, quantity};

pub(crate) mod atomic;
pub(crate) mod mounts;
pub(crate) mod payload;

use atomic::Files;

/// Where the volumes of a pod are, by volume name.
pub type Prepared = BTreeMap<String, PathBuf>;

/// Why a volume could not be prepared. Trying again later may help.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
pub struct VolumeError {
    /// Volume name.
    pub volume: String,
    /// What went wrong.
    pub reason: String,
}

/// Directories of one pod below the kubelet's root.
#[derive(Debug, Clone)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The directory of a pod.
    pub fn new(root: &Path, uid: &str) -> Self {
        Self(root.join("pods").join(uid))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The `/etc/hosts` file that its containers get.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// Where a container's termination message files are.
    pub fn container(&self, name: &str) -> PathBuf {
        self.0.join("containers").join(name)
    }

    /// Where the n-th mount of a container is pinned when it has a sub-path.
    pub fn sub_path(&self, volume: &str, container: &str, index: usize) -> PathBuf {
        self.0.join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }

    /// Where an image volume is mounted.
    pub fn image(&self, name: &str) -> PathBuf {
        self.volume("image", name)
    }

    /// Where the pod's image volumes are mounted, those of a pod that nobody remembers too.
    pub fn images(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.image(""));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| mounts::is_mounted(path))
            .collect()
    }

    fn volume(&self, plugin: &str, name: &str) -> PathBuf {
        self.0.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }
}

fn fs_group(pod: &core::Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Prepares every volume of a pod. Doing it again refreshes projected content.
///
/// # Errors
/// The first volume that cannot be prepared, and why.
pub async fn prepare(pod: &core::Pod, dir: &PodDir, objects: &Objects, facts: &Facts) -> Result<Prepared, VolumeError> {
    let mut prepared = Prepared::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = one(pod, volume, dir, objects, facts)
            .await
            .map_err(|reason| VolumeError { volume: volume.name.clone(), reason })?;
        prepared.insert(volume.name.clone(), path);
    }
    Ok(prepared)
}

async fn one(
    pod: &core::Pod,
    volume: &core::Volume,
    dir: &PodDir,
    objects: &Objects,
    facts: &Facts,
) -> Result<PathBuf, String> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir(&dir.volume("empty-dir", &volume.name), source, fs_group(pod)).map_err(|e| e.to_string());
    }
    if volume.image.is_some() {
        // Mounted when a container that uses it starts.
        let path = dir.image(&volume.name);
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        return Ok(path);
    }
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    let Some((plugin, files)) = files(pod, volume, objects, facts).await? else {
        let kinds = serde_json::to_value(volume).ok();
        let kind = kinds.as_ref().and_then(|value| value.as_object()).and_then(|map| map.keys().find(|k| *k != "name"));
        return Err(format!("volume type {} is not supported by this node", kind.map_or("unknown", String::as_str)));
    };
    let path = dir.volume(plugin, &volume.name);
    let stamp = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N").to_string();
    let group = fs_group(pod);
    let target = path.clone();
    let write = move || atomic::write(&target, &files, group, &stamp);
    tokio::task::spawn_blocking(write).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(path)
}

/// The files of a volume whose content comes from the API.
async fn files(
    pod: &core::Pod,
    volume: &core::Volume,
    objects: &Objects,
    facts: &Facts,
) -> Result<Option<(&'static str, Files)>, String> {
    let namespace = model::namespace(pod);
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let map = objects.config_map(namespace, &source.name).await.map_err(|e| e.to_string())?;
        let mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
        let optional = source.optional == Some(true);
        payload::config_map(&mut files, &source.name, map.as_ref(), source.items.as_deref(), mode, optional)?;
        return Ok(Some(("configmap", files)));
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let secret = objects.secret(namespace, name).await.map_err(|e| e.to_string())?;
        let mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
        let optional = source.optional == Some(true);
        payload::secret(&mut files, name, secret.as_ref(), source.items.as_deref(), mode, optional)?;
        return Ok(Some(("secret", files)));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
        payload::downward_api(&mut files, pod, source.items.as_deref().unwrap_or_default(), mode, facts)?;
        return Ok(Some(("downward-api", files)));
    }
    let Some(source) = &volume.projected else { return Ok(None) };
    let mode = source.default_mode.unwrap_or(payload::DEFAULT_MODE);
    for item in source.sources.iter().flatten() {
        projection(pod, item, mode, objects, facts, &mut files).await?;
    }
    Ok(Some(("projected", files)))
}

async fn projection(
    pod: &core::Pod,
    item: &core::VolumeProjection,
    mode: i32,
    objects: &Objects,
    facts: &Facts,
    files: &mut Files,
) -> Result<(), String> {
    let namespace = model::namespace(pod);
    if let Some(part) = &item.config_map {
        let map = objects.config_map(namespace, &part.name).await.map_err(|e| e.to_string())?;
        payload::config_map(files, &part.name, map.as_ref(), part.items.as_deref(), mode, part.optional == Some(true))
    } else if let Some(part) = &item.secret {
        let secret = objects.secret(namespace, &part.name).await.map_err(|e| e.to_string())?;
        payload::secret(files, &part.name, secret.as_ref(), part.items.as_deref(), mode, part.optional == Some(true))
    } else if let Some(part) = &item.downward_api {
        payload::downward_api(files, pod, part.items.as_deref().unwrap_or_default(), mode, facts)
    } else if let Some(part) = &item.service_account_token {
        let seconds = part.expiration_seconds.unwrap_or(3600);
        let token = objects
            .token(pod, part.audience.as_deref(), seconds)
            .await
            .map_err(|e| format!("failed to fetch token: {e}"))?;
        payload::token(files, &part.path, token, mode)
    } else if item.cluster_trust_bundle.is_some() {
        Err("ClusterTrustBundle projection is not supported by this node".to_owned())
    } else {
        Err("projected volume source is not supported by this node".to_owned())
    }
}

fn empty_dir(path: &Path, source: &core::EmptyDirVolumeSource, group: Option<u32>) -> io::Result<PathBuf> {
    if path.exists() && source.medium.as_deref() != Some("Memory") {
        return Ok(path.to_path_buf());
    }
    std::fs::create_dir_all(path)?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if mounts::is_mounted(path) {
                return Ok(path.to_path_buf());
            }
            mounts::mount_tmpfs(path, source.size_limit.as_ref().and_then(quantity::value).filter(|size| *size > 0))?;
        }
        medium => {
            let text = format!("storage medium {medium:?} is not supported by this node");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    }
    std::os::unix::fs::chown(path, None, group)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(path.to_path_buf())
}

fn host_path(source: &core::HostPathVolumeSource) -> Result<PathBuf, String> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = std::fs::metadata(&path).ok().map(|metadata| metadata.file_type());
    let wrong = |what: &str| format!("hostPath type check failed: {} is not a {what}", source.path);
    match kind {
        "" => Ok(path),
        "DirectoryOrCreate" if found.is_none() => {
            std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
            Ok(path)
        }
        "FileOrCreate" if found.is_none() => {
            std::fs::write(&path, b"").map_err(|e| e.to_string())?;
            Ok(path)
        }
        _ => {
            let (fits, what) = match kind {
                "DirectoryOrCreate" | "Directory" => (found.is_some_and(|kind| kind.is_dir()), "directory"),
                "FileOrCreate" | "File" => (found.is_some_and(|kind| kind.is_file()), "file"),
                "Socket" => (found.is_some_and(|kind| kind.is_socket()), "socket file"),
                "CharDevice" => (found.is_some_and(|kind| kind.is_char_device()), "character device"),
                "BlockDevice" => (found.is_some_and(|kind| kind.is_block_device()), "block device"),
                other => return Err(format!("{other} is an invalid volume type")),
            };
            if fits { Ok(path) } else { Err(wrong(what)) }
        }
    }
}

/// Whether any volume's content may change while the pod runs.
pub fn refreshable(pod: &core::Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    })
}

/// Unmounts and removes the volumes of a pod that has ended; its termination messages stay until it is gone.
///
/// # Errors
/// The file system's; doing it again goes on where it stopped.
pub async fn release(dir: &PodDir) -> io::Result<()> {
    let path = dir.path().to_path_buf();
    let work = move || -> io::Result<()> {
        mounts::unmount_below(&path)?;
        for part in ["volumes", "volume-subpaths"] {
            match std::fs::remove_dir_all(path.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Unmounts and removes everything of a pod below the kubelet's root.
///
/// # Errors
/// The file system's; doing it again goes on where it stopped.
pub async fn tear_down(dir: &PodDir) -> io::Result<()> {
    let path = dir.path().to_path_buf();
    let work = move || -> io::Result<()> {
        if !path.exists() {
            return Ok(());
        }
        mounts::unmount_below(&path)?;
        std::fs::remove_dir_all(&path)
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_path_types_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"").unwrap();
        let check = |path: &Path, kind: &str| {
            host_path(&core::HostPathVolumeSource {
                path: path.to_string_lossy().into_owned(),
                type_: Some(kind.to_owned()),
            })
            .is_ok()
        };
        let missing = dir.path().join("missing");
        let cases = [
            (dir.path(), "Directory", true),
            (dir.path(), "File", false),
            (&file, "File", true),
            (&file, "Socket", false),
            (&missing, "Directory", false),
            (&missing, "", true),
            (&missing, "Nonsense", false),
            (&missing, "DirectoryOrCreate", true),
            (&missing, "Directory", true),
        ];
        for (path, kind, expected) in cases {
            assert_eq!(check(path, kind), expected, "{} {kind}", path.display());
        }
    }
}
