//! The data directory: its lock, its format, and its creation in one step.
//!
//! ```text
//! PATH/LOCK       locked while a process has the store open
//! PATH/data       fjall's files and FORMAT; appears by one rename, complete
//! PATH/data/FORMAT    "ironkeel storage 2\n"
//! PATH/data.new   an unfinished creation; removed by the next open
//! PATH/probe      written and removed to see whether the disk takes writes again
//! ```
//!
//! Never removes or changes anything that it did not make.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FreeSpace;
use crate::kv::KvError;

const FORMAT: &str = "ironkeel storage 2\n";

/// Creates the directory if need be and locks it against other processes.
pub(super) fn lock(path: &Path) -> Result<File, KvError> {
    let failed = |e: io::Error| KvError::Unavailable(format!("cannot open {}: {e}", path.display()));
    fs::create_dir_all(path).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("LOCK")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KvError::Locked(path.display().to_string())),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// Returns the folder with the engine's files, made by `create` if the directory is empty.
pub(super) fn prepare(path: &Path, create: impl FnOnce(&Path) -> Result<(), KvError>) -> Result<PathBuf, KvError> {
    let failed = |e: io::Error| KvError::Unavailable(format!("cannot open {}: {e}", path.display()));
    let data = path.join("data");
    if data.try_exists().map_err(failed)? {
        check_format(path, &data)?;
        return Ok(data);
    }
    let new = path.join("data.new");
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !["LOCK", "data.new", "lost+found"].iter().any(|known| name == *known) {
            return Err(KvError::Corrupt(format!(
                "{} holds {} and no ironkeel data; give an empty directory",
                path.display(),
                name.display()
            )));
        }
    }
    if new.try_exists().map_err(failed)? {
        fs::remove_dir_all(&new).map_err(failed)?;
    }
    create(&new)?;
    let mut format = File::create_new(new.join("FORMAT")).map_err(failed)?;
    format.write_all(FORMAT.as_bytes()).and_then(|()| format.sync_all()).map_err(failed)?;
    sync_dirs(&new).map_err(failed)?;
    fs::rename(&new, &data).map_err(failed)?;
    sync_dir(path).map_err(failed)?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_dir(parent).map_err(failed)?;
    }
    Ok(data)
}

fn check_format(path: &Path, data: &Path) -> Result<(), KvError> {
    let found = match fs::read(data.join("FORMAT")) {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(KvError::Corrupt(format!("{} has no FORMAT file; restore it from a backup", data.display())));
        }
        Err(e) => return Err(KvError::Unavailable(format!("cannot read the format of {}: {e}", data.display()))),
    };
    if found == FORMAT.as_bytes() {
        return Ok(());
    }
    let shown = |text: &str| text.trim().trim_start_matches("ironkeel storage ").chars().take(40).collect::<String>();
    Err(KvError::WrongFormat {
        found: shown(&String::from_utf8_lossy(&found)),
        expected: shown(FORMAT),
        place: path.display().to_string(),
    })
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs a directory and all below it. fjall syncs its files and the directories it puts files into, and not the one that holds
/// those directories.
fn sync_dirs(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dirs(&entry.path())?;
        }
    }
    sync_dir(path)
}

/// Writes and syncs a file, and removes it.
pub(super) fn probe(path: &Path) -> io::Result<()> {
    let path = path.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[1; 1 << 20])?;
        file.sync_all()
    });
    fs::remove_file(&path).and(written)
}

/// Asks the file system that holds `path`.
pub(super) fn free_space(path: PathBuf) -> FreeSpace {
    Arc::new(move || {
        let stat = nix::sys::statvfs::statvfs(&path)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    })
}
