//! Runs the tests that compare with committed golden files. Which crates have such tests is read from their sources: a golden test
//! looks at the variable `UPDATE`. Never compares anything itself.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repo;

/// Runs the golden tests; with `update` they rewrite their files, and the changed files are named.
pub(crate) fn verify(update: bool) -> Result<()> {
    let mut folders = BTreeSet::new();
    for file in repo::rust_files()? {
        let text = repo::read(&file)?;
        if text.contains("var_os(\"UPDATE\")") || text.contains("var(\"UPDATE\")") {
            folders.extend(file.split('/').next().map(str::to_owned));
        }
    }
    folders.remove("hack");
    ensure!(!folders.is_empty(), "no crate has a golden test");
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(repo::root()).args(["test", "--quiet", "--no-fail-fast"]);
    for folder in &folders {
        command.args(["--package", folder]);
    }
    if update {
        command.env("UPDATE", "1");
    } else {
        command.env_remove("UPDATE");
    }
    let status = command.status().context("cannot run cargo")?;
    ensure!(
        status.success(),
        "golden tests failed; `cargo xtask verify --update` rewrites the files where the change is meant"
    );
    if update {
        println!("{}", repo::output("git", &["status", "--short"])?.trim_end());
    }
    Ok(())
}
