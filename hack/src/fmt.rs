//! Formats by list: `cargo fmt` does not follow modules that a macro declares, and our tables are such macros.
//! Never decides a style; `rustfmt.toml` does.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repo;

/// Formats every Rust file, or, with `check`, fails where one would change.
pub(crate) fn fmt(check: bool) -> Result<()> {
    let mut command = Command::new("rustfmt");
    command.current_dir(repo::root()).args(["--edition", "2024", "--config-path"]).arg(repo::root());
    if check {
        command.arg("--check");
    }
    let status = command.args(repo::rust_files()?).status().context("cannot run rustfmt")?;
    ensure!(status.success(), "rustfmt is not content; `cargo xtask fmt` puts the files right");
    Ok(())
}
