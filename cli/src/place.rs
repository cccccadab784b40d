//! Which store a command is about, for the commands that work on a store without a cluster.
//!
//! Never makes a store where there is none, except where that is what was asked for.

use crate::flags::Cluster;
use anyhow::Context as _;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::engines;
use storage::kv::{Kv, KvError};

/// A store.
#[derive(Args, Clone)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// Storage engine and its place [default: embedded:DATA-DIR/store]
    #[arg(long, value_name = "ENGINE:PLACE", conflicts_with = "data_dir")]
    pub(crate) storage: Option<String>,
    /// Option of the storage engine; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) storage_option: Vec<String>,
}

/// The store of a cluster with a data directory of its own.
pub(crate) fn embedded(data: &Path) -> String {
    format!("embedded:{}", data.join("store").display())
}

impl Place {
    /// Engine and place.
    pub(crate) fn name(&self) -> anyhow::Result<String> {
        match &self.storage {
            Some(storage) => Ok(storage.clone()),
            None => Ok(embedded(&self.cluster.data_dir()?)),
        }
    }

    /// Where the files are, if it is an engine with files of its own.
    pub(crate) fn directory(&self) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.name()?.strip_prefix("embedded:").map(PathBuf::from))
    }

    /// Opens the store, and makes one if there is none.
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn Kv>> {
        let name = self.name()?;
        let options = self
            .storage_option
            .iter()
            .map(|text| text.split_once('=').with_context(|| format!("--storage-option: {text:?} is not NAME=VALUE")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        engines::open_with(&name, &options).with_context(|| format!("the store {name} cannot be opened"))
    }

    /// Opens a store that is there.
    pub(crate) fn open_existing(&self) -> anyhow::Result<Arc<dyn Kv>> {
        if let Some(directory) = self.directory()? {
            anyhow::ensure!(
                directory.join("data").exists(),
                "there is no store in {}; name the cluster's data directory with --data-dir",
                directory.display()
            );
        }
        self.open()
    }
}

/// Whether somebody else has the store open.
pub(crate) fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<KvError>(), Some(KvError::Locked(_)))
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes / 100 % 10),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Unix milliseconds as a time, to the second.
pub(crate) fn time(millis: u64) -> String {
    api::meta::time(i64::try_from(millis / 1000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (bytes, want) in
            [(0, "0 bytes"), (999, "999 bytes"), (1_950, "1.9 kB"), (12_345_678, "12.3 MB"), (5_600_000_000, "5.6 GB")]
        {
            assert_eq!(size(bytes), want);
        }
        assert_eq!(time(1_700_000_000_999), "2023-11-14T22:13:20Z");
    }
}
