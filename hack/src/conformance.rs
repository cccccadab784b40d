//! Runs the official conformance tests against a running cluster and writes `docs/conformance.md`.
//! The test binary is upstream's `e2e.test`, from `E2E_TEST` or PATH; this never builds, brings or changes it, and starts no cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::repo;

/// What marks a test as part of the conformance suite.
const LABEL: &str = r"\[Conformance\]";

/// One entry of the report that ginkgo writes with `--json-report`; fields that are not read are left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    run_time: u64,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

/// What became of one test.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    name: String,
    passed: bool,
    seconds: u64,
    /// The first line of what it said when it failed.
    said: String,
}

/// Runs the tests whose names match `focus` (all without one) and writes the document.
///
/// # Errors
/// When there is no test binary or no cluster, when nothing ran, or when a test failed; the document is written in the last case too.
pub(crate) fn conformance(focus: Option<&str>) -> Result<()> {
    let binary = binary()?;
    let kubeconfig =
        std::env::var("KUBECONFIG").context("KUBECONFIG names no cluster; `ironkeel up` writes one and says where")?;
    let directory = repo::target().join("conformance");
    std::fs::create_dir_all(&directory)?;
    let report = directory.join("report.json");
    let _ = std::fs::remove_file(&report);
    run(&binary, Path::new(&kubeconfig), focus, &directory, &report)?;
    let report = std::fs::read_to_string(&report)
        .with_context(|| format!("the tests left no report; their log is {}", directory.join("log").display()))?;
    let outcomes = outcomes(&report)?;
    ensure!(!outcomes.is_empty(), "no conformance test matches the focus");
    let server = Command::new("kubectl").args(["version", "--kubeconfig", &kubeconfig]).output();
    let server = server.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let server = server.lines().find_map(|line| line.strip_prefix("Server Version: ")).unwrap_or("unknown");
    std::fs::write(repo::root().join("docs/conformance.md"), document(&outcomes, focus, server))?;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    println!("{} passed, {failed} failed; docs/conformance.md has them by SIG", outcomes.len() - failed);
    ensure!(failed == 0, "{failed} of {} conformance tests failed", outcomes.len());
    Ok(())
}

fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("E2E_TEST") {
        let named = PathBuf::from(named);
        ensure!(named.is_file(), "E2E_TEST names {}, which is not there", named.display());
        return Ok(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|dir| dir.join("e2e.test")).find(|file| file.is_file()) {
        Some(found) => Ok(found),
        None => bail!("left out: no e2e.test on PATH and none in E2E_TEST; it comes with a build of Kubernetes v1.36"),
    }
}

/// Runs the test binary; its whole output goes to `log`, a line for each finished test to standard error.
fn run(binary: &Path, kubeconfig: &Path, focus: Option<&str>, directory: &Path, report: &Path) -> Result<()> {
    let focus = focus.map_or_else(|| LABEL.to_owned(), |focus| format!("({focus}).*{LABEL}|{LABEL}.*({focus})"));
    let mut child = Command::new(binary)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(["--provider=skeleton", "--ginkgo.v", "--ginkgo.no-color", "--ginkgo.timeout=24h", "--disable-log-dump"])
        .arg(format!("--ginkgo.focus={focus}"))
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} cannot be run", binary.display()))?;
    let mut log = std::fs::File::create(directory.join("log"))?;
    let lines = child.stdout.take().context("the tests have no output")?;
    let (mut finished, mut mark) = (0, None);
    for line in BufReader::new(lines).split(b'\n') {
        let mut line = line?;
        line.push(b'\n');
        log.write_all(&line)?;
        let line = String::from_utf8_lossy(&line);
        // A finished test is a line with its mark and time, then one with its name.
        if line.starts_with('\u{2022}') {
            mark = Some(line.trim().to_owned());
        } else if let Some(mark) = mark.take() {
            finished += 1;
            eprintln!("{finished:4} {mark} {}", line.trim());
        }
    }
    child.wait()?; // non-zero when a test failed; the report says which
    Ok(())
}

/// The tests that ran, in the order of their names.
fn outcomes(report: &str) -> Result<Vec<Outcome>> {
    let suites: Vec<Suite> = serde_json::from_str(report).context("the report of the tests cannot be read")?;
    let specs = suites.into_iter().filter_map(|suite| suite.spec_reports).flatten();
    let mut outcomes: Vec<Outcome> = specs
        .filter(|spec| spec.leaf_node_type == "It" && !matches!(spec.state.as_str(), "skipped" | "pending"))
        .map(|spec| {
            let mut words = spec.container_hierarchy_texts.unwrap_or_default();
            words.push(spec.leaf_node_text);
            let said = spec.failure.map(|failure| failure.message).unwrap_or_default();
            Outcome {
                name: words.join(" "),
                passed: spec.state == "passed",
                seconds: spec.run_time / 1_000_000_000,
                said: said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(&spec.state).to_owned(),
            }
        })
        .collect();
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outcomes)
}

/// The SIG that a test's name begins with.
fn sig(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(sig, _)| sig)
}

fn document(outcomes: &[Outcome], focus: Option<&str>, server: &str) -> String {
    let mut sigs: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for outcome in outcomes {
        let (passed, failed) = sigs.entry(sig(&outcome.name)).or_default();
        *if outcome.passed { passed } else { failed } += 1;
    }
    let mut out = String::from("# Conformance\n\n");
    let scope = match focus {
        Some(focus) => format!("the tests whose names match `{focus}`"),
        None => "all tests".to_owned(),
    };
    let _ = writeln!(
        out,
        "What `cargo xtask conformance` said last: {scope}, of upstream's suite for v1.36, against {server}.\n\n\
         | SIG | passed | failed |\n| --- | --- | --- |"
    );
    for (sig, (passed, failed)) in &sigs {
        let _ = writeln!(out, "| {sig} | {passed} | {failed} |");
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let _ = writeln!(out, "| all | {passed} | {} |", outcomes.len() - passed);
    let section = |out: &mut String, title: &str, wanted: bool| {
        let _ = writeln!(out, "\n## {title}\n");
        for outcome in outcomes.iter().filter(|outcome| outcome.passed == wanted) {
            let Outcome { name, seconds, said, .. } = outcome;
            let said = if wanted { String::new() } else { format!(": {}", said.replace('`', "'")) };
            let _ = writeln!(out, "- {name} ({seconds} s){said}");
        }
    };
    if passed < outcomes.len() {
        section(&mut out, "Failed", false);
    }
    if passed > 0 {
        section(&mut out, "Passed", true);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_document() {
        let report = r#"[{"SpecReports":[
            {"ContainerHierarchyTexts":["[sig-b] Second"],"LeafNodeType":"It","LeafNodeText":"fails [Conformance]","State":"failed","RunTime":61000000000,"Failure":{"Message":"\n first line\nsecond"}},
            {"ContainerHierarchyTexts":["[sig-a] First","inner"],"LeafNodeType":"It","LeafNodeText":"works [Conformance]","State":"passed","RunTime":1500000000},
            {"ContainerHierarchyTexts":["[sig-b] Second"],"LeafNodeType":"It","LeafNodeText":"panics","State":"panicked"},
            {"ContainerHierarchyTexts":null,"LeafNodeType":"BeforeSuite","State":"passed","RunTime":5},
            {"ContainerHierarchyTexts":["[sig-c] Third"],"LeafNodeType":"It","LeafNodeText":"is not meant","State":"skipped"}]},
            {"SpecReports":null}]"#;
        let outcomes = outcomes(report).unwrap();
        let document = document(&outcomes, Some("x|y"), "v1.36.0");
        let expected = "# Conformance\n\nWhat `cargo xtask conformance` said last: the tests whose names match `x|y`, of upstream's suite for \
            v1.36, against v1.36.0.\n\n| SIG | passed | failed |\n| --- | --- | --- |\n| sig-a | 1 | 0 |\n| sig-b | 0 | 2 |\n| all | 1 | 2 |\n\n\
            ## Failed\n\n- [sig-b] Second fails [Conformance] (61 s): first line\n- [sig-b] Second panics (0 s): panicked\n\n\
            ## Passed\n\n- [sig-a] First inner works [Conformance] (1 s)\n";
        assert_eq!(document, expected);
    }
}
