//! Runs the simulation of the store, optimised and for as long as asked. What it is lives in `storage`; this only starts it, so that the
//! checks of this crate build without the store.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repo;

/// Runs the simulation with its own arguments.
pub(crate) fn simulate(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(repo::root()).args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "storage",
        "--example",
        "simulate",
        "--",
    ]);
    let status = command.args(arguments).status().context("cannot run cargo")?;
    ensure!(status.success(), "the simulation did not end well");
    Ok(())
}
