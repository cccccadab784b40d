//! `ironkeel restore`: a store from a backup, as of any revision or time that the backup reaches back to.
//!
//! Only into an empty place: never writes over a cluster, and never touches keys or certificates.

use crate::place::{Place, is_locked, size, time};
use crate::progress::Progress;
use anyhow::Context as _;
use apiserver::backup::short_lived;
use clap::Args;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use storage::clock::SystemClock;
use storage::store::Revision;
use storage::store::backup::{At, BackupError, Point, Restored, Source};

#[derive(Args)]
#[command(after_help = "\
The place must be empty, and no server may run on it. The backup is read and checked whole before anything is written. Certificates and\n\
the key that signs service-account tokens are not in a backup: copy pki from the old data directory into the new one before the first\n\
`ironkeel up`, or new ones are made, and old kubeconfigs and the tokens in running pods are refused from then on. Encrypted objects need\n\
the same --encryption-provider-config as before.\n\
\n\
Events and Leases are kept for minutes only: of an earlier time, those are restored that are known to have been so, and not the others.")]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The state to restore: a revision (a resourceVersion), a time such as 2026-03-01T12:00:00Z, or Unix seconds as @1772366400
    /// [default: the state at the time of the backup]
    #[arg(long, value_name = "REVISION|TIME", value_parser = parse)]
    pub(crate) at: Option<At>,
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

fn parse(text: &str) -> Result<At, String> {
    let wrong =
        || "neither a revision, nor a time such as 2026-03-01T12:00:00Z, nor Unix seconds as @1772366400".to_owned();
    let millis = |seconds: u64| seconds.checked_mul(1000).map(At::Time);
    if text == "latest" {
        return Ok(At::Latest);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok().and_then(millis).ok_or_else(wrong);
    }
    if let Ok(revision) = text.parse::<Revision>() {
        return Ok(At::Revision(revision));
    }
    let seconds = api::meta::seconds(text).and_then(|seconds| u64::try_from(seconds).ok());
    seconds.and_then(millis).ok_or_else(wrong)
}

/// Restores a store.
pub(crate) async fn run(flags: &Restore) -> anyhow::Result<()> {
    let progress = Progress::new();
    let shown = flags.file.display().to_string();
    let file = File::open(&flags.file).with_context(|| format!("cannot read {shown}"))?;
    progress.doing(&format!("reading {shown}"));
    let mut source = Source::verify(BufReader::with_capacity(1 << 20, file), short_lived).context(shown.clone())?;
    let summary = *source.summary();
    let point = source.point(flags.at.unwrap_or(At::Latest)).map_err(|error| outside(error, &shown))?;
    progress.done(&format!("{shown} is whole: {} objects, {} changes", summary.objects, summary.changes));

    let kv = flags.place.open().map_err(|error| {
        if is_locked(&error) { error.context("stop the server that runs on it, or name another place") } else { error }
    })?;
    let rows = summary.rows.max(1);
    let restored = source
        .restore(kv.as_ref(), &SystemClock, point, |row| {
            progress.doing(&format!("restored {} %", row.saturating_mul(100) / rows));
        })
        .await;
    let restored = match restored {
        Err(BackupError::NotEmpty) => {
            anyhow::bail!(
                "{} holds data already, and a restore overwrites nothing: name an empty place, or remove the cluster in it with `ironkeel reset`",
                flags.place.name()?
            )
        }
        outcome => outcome?,
    };
    told(flags, &progress, point, &restored)
}

/// A point outside of the backup, with what there is.
fn outside(error: BackupError, file: &str) -> anyhow::Error {
    let BackupError::OutOfRange { wanted, known } = error else { return error.into() };
    anyhow::anyhow!(
        "--at: {wanted} is outside of what {file} can restore: revision {} ({}) to revision {} ({})",
        known.oldest,
        time(known.oldest_at),
        known.latest,
        time(known.latest_at)
    )
}

fn told(flags: &Restore, progress: &Progress, point: Point, restored: &Restored) -> anyhow::Result<()> {
    let last = point.at.map_or_else(String::new, |at| format!(", last changed {}", time(at)));
    progress.done(&format!(
        "revision {}{last}: {} objects, {} changes, {}; new revisions follow {}",
        point.revision,
        restored.objects,
        restored.changes,
        size(restored.bytes),
        restored.after
    ));
    for (resource, objects) in &restored.left_out {
        progress.note(&format!("{objects} {resource} left out: their log does not reach back to that revision"));
    }
    progress.finish();
    if flags.place.storage.is_some() {
        eprintln!("Start the servers on it with the pki folder and the encryption keys that they had.");
        return Ok(());
    }
    let data = flags.place.cluster.data_dir()?;
    if !data.join("pki").exists() {
        eprintln!(
            "There are no keys and certificates in {0}: copy the old cluster's pki folder to {0}/pki first, or `up` makes new ones,\nand old kubeconfigs and the tokens in running pods are refused.",
            data.display()
        );
    }
    eprintln!("Start it: ironkeel up --data-dir {}", data.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read() {
        for (text, want) in [
            ("latest", Some(At::Latest)),
            ("4711", Some(At::Revision(Revision(4711)))),
            ("@1772366400", Some(At::Time(1_772_366_400_000))),
            ("2026-03-01T12:00:00Z", Some(At::Time(1_772_366_400_000))),
            ("2026-03-01T13:00:00+01:00", Some(At::Time(1_772_366_400_000))),
            ("yesterday", None),
            ("@soon", None),
            ("-1", None),
            ("1960-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }
}
