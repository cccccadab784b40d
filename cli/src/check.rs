//! `ironkeel check`: whether a store is sound. Findings go to standard output, one per line.
//!
//! Never changes the store.

use crate::place::{Place, is_locked, size};
use crate::progress::Progress;
use clap::Args;
use std::io::Write as _;

#[derive(Args)]
#[command(after_help = "\
Exits with 1 and one line per finding when something is not as it should be: restore the store from a backup then. No server may run on\n\
a data directory that is checked; of a server that runs, take a backup, which is checked as it is read.")]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Checks a store.
pub(crate) async fn run(flags: &Check) -> anyhow::Result<()> {
    let kv = flags.place.open_existing().map_err(|error| {
        if is_locked(&error) { error.context("stop the server that runs on it first") } else { error }
    })?;
    let progress = Progress::new();
    progress.doing("checking");
    let report = storage::store::check::check(kv.as_ref()).await?;
    progress.finish();
    let mut out = std::io::stdout().lock();
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    let findings = u64::try_from(report.findings.len()).unwrap_or(0).saturating_add(report.more);
    anyhow::ensure!(
        findings == 0,
        "{findings} findings in {}{}: restore the store from a backup",
        flags.place.name()?,
        if report.more > 0 { format!(", {} of them not named", report.more) } else { String::new() }
    );
    progress.done(&format!(
        "{} is sound at revision {}: {} objects, {} changes, {} rows, {}",
        flags.place.name()?,
        report.revision,
        report.objects,
        report.changes,
        report.rows,
        size(report.bytes)
    ));
    Ok(())
}
