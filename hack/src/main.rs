//! `cargo xtask`: the project's own checks and measurements. Never part of what is shipped.

#![allow(clippy::print_stdout)] // a command's answer goes to standard output

mod conformance;
mod figures;
mod fmt;
mod fuzz;
mod repo;
mod simulate;
mod tidy;
mod verify;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND
  tidy               check what the compiler cannot see: tables, crate graph, file sizes, banned words
  fmt [--check]      format every Rust file, those that macros declare included
  verify [--update]  run the tests that compare with golden files; rewrite the files with --update or UPDATE=1
  figures [--write]  measure the release binary and print a table; --write puts it into docs/figures.md
  simulate [--seed N] [--seeds N|forever]  run the store's simulation, optimised; 10000 seeds if nothing is said
  fuzz [--target NAME] [--seconds N] [--seed N]  fuzz all targets of the API side by side, or one; guided by coverage, 3600 s of processor time each if nothing is said
  conformance [--focus RE]  run upstream's e2e.test (E2E_TEST or PATH) against KUBECONFIG's cluster; write docs/conformance.md
  conformance --reports F... write docs/conformance.md from reports of runs that were made before (e2e.test --ginkgo.json-report=F)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy::tidy(),
        ["fmt"] => fmt::fmt(false),
        ["fmt", "--check"] => fmt::fmt(true),
        ["verify"] => verify::verify(std::env::var_os("UPDATE").is_some()),
        ["verify", "--update"] => verify::verify(true),
        ["conformance"] => conformance::conformance(None),
        ["conformance", "--focus", focus] => conformance::conformance(Some(focus)),
        ["conformance", "--reports", reports @ ..] => conformance::from_reports(reports),
        ["fuzz", arguments @ ..] => fuzz::fuzz(arguments),
        ["simulate", arguments @ ..] => simulate::simulate(arguments),
        ["figures"] => figures::figures(false),
        ["figures", "--write"] => figures::figures(true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
