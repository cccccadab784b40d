//! Mount points below a pod's directory: memory-backed directories and pinned sub-paths.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

/// Whether something is mounted exactly at `path`.
pub(crate) fn is_mounted(path: &Path) -> bool {
    mounted().iter().any(|point| point == path)
}

/// All mount points of this process.
fn mounted() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text))).collect()
}

/// Octal escapes of mountinfo (`\040` for a space).
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Mounts a memory file system at `path`, of `size` bytes at most.
pub(crate) fn mount_tmpfs(path: &Path, size: Option<i64>) -> io::Result<()> {
    if is_mounted(path) {
        return Ok(());
    }
    let options = size.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).map_err(io::Error::from)
}

/// Unmounts everything at or below `path`, deepest first.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    let mut points: Vec<PathBuf> = mounted().into_iter().filter(|point| point.starts_with(path)).collect();
    points.sort();
    for point in points.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    Ok(())
}

/// Binds `sub_path` of a volume at `target`, following no link out of the volume; a missing directory is made.
/// What a container later does to links in the volume cannot redirect the bound path.
pub(crate) fn bind_sub_path(volume: &Path, sub_path: &Path, target: &Path) -> io::Result<()> {
    if is_mounted(target) {
        umount2(target, MntFlags::MNT_DETACH).map_err(io::Error::from)?;
    }
    let root = open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let opened = match openat2(&root, sub_path, how) {
        Err(nix::Error::ENOENT) => {
            make_below(&root, sub_path)?;
            openat2(&root, sub_path, how)
        }
        other => other,
    }
    .map_err(io::Error::from)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let directory = std::fs::metadata(&source)?.is_dir();
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if directory {
        std::fs::create_dir_all(target)?;
    } else if !target.exists() {
        std::fs::write(target, b"")?;
    }
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(io::Error::from)
}

/// Makes the directories of `path` below `root`, refusing to leave it.
fn make_below(root: &impl std::os::fd::AsFd, path: &Path) -> io::Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut parent: Option<std::os::fd::OwnedFd> = None;
    for component in path.components() {
        let name: &Path = component.as_ref();
        let at = parent.as_ref().map_or_else(|| root.as_fd(), std::os::fd::AsFd::as_fd);
        match nix::sys::stat::mkdirat(at, name, Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        parent = Some(openat2(at, name, how).map_err(io::Error::from)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_mount_table() {
        assert_eq!(unescape(r"/a\040b\134c\x"), r"/a b\c\x");
    }

    #[test]
    fn missing_directories_are_made_below_the_volume_only() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/tmp", volume.join("out")).unwrap();
        let root = open(&volume, OFlag::O_PATH, Mode::empty()).unwrap();
        make_below(&root, Path::new("a/b")).unwrap();
        assert!(volume.join("a/b").is_dir());
        assert!(make_below(&root, Path::new("out/x")).is_err());
        assert!(bind_sub_path(&volume, Path::new("out"), &dir.path().join("t")).is_err());
        assert!(bind_sub_path(&volume, Path::new("../v"), &dir.path().join("t")).is_err());
    }
}
