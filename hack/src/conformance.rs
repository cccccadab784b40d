//! Runs the official conformance tests against a running cluster and writes `docs/conformance.md`, also from the reports of
//! runs that were made otherwise.
//! The test binary is upstream's `e2e.test`, from `E2E_TEST` or PATH; this never builds, brings or changes it, and starts no cluster.

use std::collections::{BTreeMap, BTreeSet};
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
    /// RFC 3339.
    #[serde(default)]
    start_time: String,
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
    state: State,
    /// RFC 3339; of tests that ran several times the last counts.
    began: String,
    seconds: u64,
    /// The first line of what it said when it failed.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Passed,
    Failed,
    /// Not chosen, or interrupted.
    NotRun,
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
    ensure!(report.is_file(), "the tests left no report; their log is {}", directory.join("log").display());
    let scope = focus.map_or_else(|| "all tests".to_owned(), |focus| format!("the tests whose names match `{focus}`"));
    write(&[report], &scope, &kubeconfig)
}

/// Writes the document from reports of the test binary (`--ginkgo.json-report`) that lie there already, such as those of
/// several runs side by side.
///
/// # Errors
/// As [`conformance`].
pub(crate) fn from_reports(reports: &[&str]) -> Result<()> {
    let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
    let reports: Vec<PathBuf> = reports.iter().map(PathBuf::from).collect();
    write(&reports, "each test by its last of several runs", &kubeconfig)
}

fn write(reports: &[PathBuf], scope: &str, kubeconfig: &str) -> Result<()> {
    let mut all = Vec::new();
    for report in reports {
        let text = std::fs::read_to_string(report).with_context(|| format!("{} cannot be read", report.display()))?;
        all.extend(outcomes(&text)?);
    }
    let outcomes = latest(all);
    let ran = |state| outcomes.iter().filter(|outcome| outcome.state == state).count();
    let (passed, failed) = (ran(State::Passed), ran(State::Failed));
    ensure!(passed + failed > 0, "no conformance test ran");
    let server = Command::new("kubectl").args(["version", "--kubeconfig", kubeconfig]).output();
    let server = server.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let server = server.lines().find_map(|line| line.strip_prefix("Server Version: ")).unwrap_or("unknown");
    std::fs::write(repo::root().join("docs/conformance.md"), document(&outcomes, scope, server))?;
    println!("{passed} passed, {failed} failed; docs/conformance.md has them by SIG");
    ensure!(failed == 0, "{failed} of {} conformance tests failed", passed + failed);
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

/// The conformance tests that a report knows of.
fn outcomes(report: &str) -> Result<Vec<Outcome>> {
    let suites: Vec<Suite> = serde_json::from_str(report).context("the report of the tests cannot be read")?;
    let specs = suites.into_iter().filter_map(|suite| suite.spec_reports).flatten();
    Ok(specs
        .filter(|spec| spec.leaf_node_type == "It")
        .map(|spec| {
            let mut words = spec.container_hierarchy_texts.unwrap_or_default();
            words.push(spec.leaf_node_text);
            let said = spec.failure.map(|failure| failure.message).unwrap_or_default();
            Outcome {
                name: words.join(" "),
                state: match spec.state.as_str() {
                    "passed" => State::Passed,
                    "skipped" | "pending" | "interrupted" | "aborted" => State::NotRun,
                    _ => State::Failed,
                },
                began: spec.start_time,
                seconds: spec.run_time / 1_000_000_000,
                said: said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(&spec.state).to_owned(),
            }
        })
        .filter(|outcome| outcome.name.contains("[Conformance]"))
        .collect())
}

/// One outcome for each test, in the order of their names: that of its last run.
fn latest(all: Vec<Outcome>) -> Vec<Outcome> {
    let mut tests: BTreeMap<String, Outcome> = BTreeMap::new();
    for outcome in all {
        let held = tests.get(&outcome.name);
        let newer = |held: &Outcome| {
            (outcome.state != State::NotRun, &outcome.began) > (held.state != State::NotRun, &held.began)
        };
        if held.is_none_or(newer) {
            tests.insert(outcome.name.clone(), outcome);
        }
    }
    tests.into_values().collect()
}

/// The SIG that a test's name begins with.
fn sig(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(sig, _)| sig)
}

fn document(outcomes: &[Outcome], scope: &str, server: &str) -> String {
    let count = |sig_of: Option<&str>, state: State| {
        let ours = |outcome: &&Outcome| sig_of.is_none_or(|wanted| sig(&outcome.name) == wanted);
        outcomes.iter().filter(ours).filter(|outcome| outcome.state == state).count()
    };
    let line = |name: &str, of: Option<&str>| {
        let [passed, failed, left] = [State::Passed, State::Failed, State::NotRun].map(|state| count(of, state));
        format!("| {name} | {passed} | {failed} | {left} |\n")
    };
    let days: BTreeSet<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.state != State::NotRun)
        .filter_map(|outcome| outcome.began.split('T').next())
        .filter(|day| !day.is_empty())
        .collect();
    let days: Vec<_> = days.into_iter().collect();
    let on = if days.is_empty() { String::new() } else { format!(" on {}", days.join(", ")) };
    let mut out = String::from("# Conformance\n\n");
    let _ = write!(
        out,
        "What `cargo xtask conformance` said last: {scope}, of upstream's suite for v1.36, against {server}{on}.\n\n\
         | SIG | passed | failed | not run |\n| --- | --- | --- | --- |\n"
    );
    let sigs: BTreeSet<&str> = outcomes.iter().map(|outcome| sig(&outcome.name)).collect();
    for name in sigs {
        out.push_str(&line(name, Some(name)));
    }
    out.push_str(&line("all", None));
    for (title, state) in [("Failed", State::Failed), ("Not run", State::NotRun), ("Passed", State::Passed)] {
        if count(None, state) == 0 {
            continue;
        }
        let _ = writeln!(out, "\n## {title}\n");
        for Outcome { name, seconds, said, .. } in outcomes.iter().filter(|outcome| outcome.state == state) {
            let _ = match state {
                State::Failed => writeln!(out, "- {name} ({seconds} s): {}", said.replace('`', "'")),
                State::Passed => writeln!(out, "- {name} ({seconds} s)"),
                State::NotRun => writeln!(out, "- {name}"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[{"SpecReports":[
        {"ContainerHierarchyTexts":["[sig-b] Second"],"LeafNodeType":"It","LeafNodeText":"fails [Conformance]","State":"failed","StartTime":"2026-01-02T01:00:00Z","RunTime":61000000000,"Failure":{"Message":"\n first line\nsecond"}},
        {"ContainerHierarchyTexts":["[sig-a] First","inner"],"LeafNodeType":"It","LeafNodeText":"works [Conformance]","State":"passed","StartTime":"2026-01-01T01:00:00Z","RunTime":1500000000},
        {"ContainerHierarchyTexts":["[sig-b] Second"],"LeafNodeType":"It","LeafNodeText":"panics [Conformance]","State":"panicked","StartTime":"2026-01-02T02:00:00Z"},
        {"ContainerHierarchyTexts":null,"LeafNodeType":"BeforeSuite","State":"passed","RunTime":5},
        {"ContainerHierarchyTexts":["[sig-c] Third"],"LeafNodeType":"It","LeafNodeText":"is not meant","State":"passed"},
        {"ContainerHierarchyTexts":["[sig-c] Third"],"LeafNodeType":"It","LeafNodeText":"is left out [Conformance]","State":"skipped"}]},
        {"SpecReports":null}]"#;

    #[test]
    fn a_report_becomes_a_document() {
        let document = document(&latest(outcomes(REPORT).unwrap()), "the tests whose names match `x|y`", "v1.36.0");
        let expected = "# Conformance\n\nWhat `cargo xtask conformance` said last: the tests whose names match `x|y`, of upstream's suite for \
            v1.36, against v1.36.0 on 2026-01-01, 2026-01-02.\n\n| SIG | passed | failed | not run |\n| --- | --- | --- | --- |\n\
            | sig-a | 1 | 0 | 0 |\n| sig-b | 0 | 2 | 0 |\n| sig-c | 0 | 0 | 1 |\n| all | 1 | 2 | 1 |\n\n\
            ## Failed\n\n- [sig-b] Second fails [Conformance] (61 s): first line\n- [sig-b] Second panics [Conformance] (0 s): panicked\n\n\
            ## Not run\n\n- [sig-c] Third is left out [Conformance]\n\n\
            ## Passed\n\n- [sig-a] First inner works [Conformance] (1 s)\n";
        assert_eq!(document, expected);
    }

    #[test]
    fn of_several_runs_the_last_counts() {
        let again = REPORT.replace("\"failed\",\"StartTime\":\"2026-01-02", "\"passed\",\"StartTime\":\"2026-01-03");
        let cut = REPORT.replace("\"failed\",\"StartTime\":\"2026-01-02", "\"interrupted\",\"StartTime\":\"2026-01-04");
        for order in [[&again, &cut, &REPORT.to_owned()], [&REPORT.to_owned(), &cut, &again]] {
            let all = order.iter().flat_map(|report| outcomes(report).unwrap()).collect();
            let states: Vec<_> = latest(all).into_iter().map(|outcome| outcome.state).collect();
            assert_eq!(states, [State::Passed, State::Passed, State::Failed, State::NotRun]);
        }
    }
}
