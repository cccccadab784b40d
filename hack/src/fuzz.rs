//! Fuzzes with an optimised build that counts which code each input reaches. What is fuzzed lives in `api`; this only builds and starts it.
//!
//! The counters are those of LLVM's coverage pass, which stable Rust has too: no other toolchain is needed.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repo;

/// Inlined counters, one for each edge between blocks.
const COUNTING: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cdebug-assertions=yes";

/// Builds and runs the fuzzer with its own arguments. Inputs that reached new code are kept in the target directory for the next time.
pub(crate) fn fuzz(arguments: &[&str]) -> Result<()> {
    let target = repo::target().join("fuzz");
    let version = repo::output("rustc", &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // With a target named, the flags are not for build scripts, which have nobody who counts.
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(repo::root()).env("RUSTFLAGS", COUNTING).args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "api",
    ]);
    command.args(["--example", "fuzz", "--target", host, "--target-dir"]).arg(&target);
    command.arg("--").arg("--corpus").arg(target.join("corpus"));
    if !arguments.contains(&"--seconds") {
        command.args(["--seconds", "3600"]);
    }
    let status = command.args(arguments).status().context("cannot run cargo")?;
    ensure!(status.success(), "fuzzing found something");
    Ok(())
}
