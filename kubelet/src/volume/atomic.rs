//! Writes a set of files so that readers see all old or all new: a timestamped directory, a `..data` link that is
//! switched by rename, and a link per file that leads through it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

/// One file of a projected volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Content.
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Files by path relative to the volume.
pub(crate) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Whether a path stays below the volume and takes none of the writer's own names.
pub(crate) fn allowed(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some()
        && !path.starts_with("..")
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Makes `dir` hold exactly `files`. Returns whether anything changed.
///
/// # Errors
/// The file system's; the old content stays visible then.
pub(crate) fn write(dir: &Path, files: &Files, group: Option<u32>, stamp: &str) -> io::Result<bool> {
    if let Some(path) = files.keys().find(|path| !allowed(path)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid file path {path:?}")));
    }
    std::fs::create_dir_all(dir)?;
    let old = std::fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&dir.join(old), files)?
    {
        return Ok(false);
    }
    let fresh_name = format!("..{stamp}");
    let fresh = dir.join(&fresh_name);
    std::fs::create_dir_all(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, &file.data)?;
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        std::os::unix::fs::chown(&target, None, group)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode & 0o7777))?;
    }
    let next = dir.join(NEXT);
    remove_file(&next)?;
    symlink(&fresh_name, &next)?;
    std::fs::rename(&next, dir.join(DATA))?;

    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let link = dir.join(top);
        let target = format!("{DATA}/{top}");
        if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(&target)) {
            remove_file(&link)?;
            symlink(target, &link)?;
        }
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == DATA || name == fresh_name || tops.contains(name) {
            continue;
        }
        if name.starts_with("..") && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else if entry.file_type()?.is_symlink() {
            remove_file(&entry.path())?;
        }
    }
    Ok(true)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn holds(dir: &Path, files: &Files) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    if !dir.is_dir() {
        return Ok(false);
    }
    collect(dir, dir, &mut present)?;
    if present.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        if !present.contains(path) || std::fs::read(dir.join(path))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(root: &Path, dir: &Path, present: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(root, &entry.path(), present)?;
        } else if let Ok(path) = entry.path().strip_prefix(root) {
            present.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, text)| ((*path).to_owned(), File { data: text.as_bytes().to_vec(), mode: 0o644 }))
            .collect()
    }

    #[test]
    fn content_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).ok();
        assert!(write(dir.path(), &files(&[("a", "1"), ("sub/b", "2")]), None, "t1").unwrap());
        assert_eq!((read("a").as_deref(), read("sub/b").as_deref()), (Some("1"), Some("2")));
        assert!(!write(dir.path(), &files(&[("a", "1"), ("sub/b", "2")]), None, "t2").unwrap());
        assert!(write(dir.path(), &files(&[("a", "3")]), None, "t3").unwrap());
        assert_eq!((read("a").as_deref(), read("sub/b")), (Some("3"), None));
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["..data", "..t3", "a"]);
    }

    #[test]
    fn paths_stay_below_the_volume() {
        let cases = [
            ("a", true),
            ("a/b", true),
            ("..a", false),
            ("a/../b", false),
            ("/etc/x", false),
            ("", false),
            ("..", false),
        ];
        for (path, expected) in cases {
            assert_eq!(allowed(path), expected, "{path:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &files(&[("../x", "1")]), None, "t").is_err());
    }
}
