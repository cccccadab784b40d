//! Every scenario, small and short, against the real control plane: each measures something and nothing fails; two runs compare.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use std::process::Command;

use e2e::{Cluster, Kind};
use serde_json::Value;

#[test]
fn every_scenario_measures_something() {
    if e2e::binary().is_none() {
        eprintln!("left out: the load generator against a server: `cargo build --package cli` makes the binary");
        return;
    }
    let cluster = Cluster::start(Kind::ControlPlane, &[]);
    let dir = tempfile::tempdir().unwrap();
    let (json, page) = (dir.path().join("run.json"), dir.path().join("run.html"));
    let kubeconfig = cluster.directory().join("kubeconfig");
    let bench = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).env_remove("KUBECONFIG").output().unwrap();
        (done.status.success(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let listed = bench(&["--list"]).1;
    let pid = cluster.pid().to_string();
    // The second time what differs between the protocols and encodings.
    for (http, encoding, only) in [("1", "json", "."), ("2", "protobuf", "^(create|get|list|watch|informer_storm)$")] {
        let only_these = regex::Regex::new(only).unwrap();
        let (ok, said, progress) = bench(&[
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "--name",
            "ironkeel",
            "--pids",
            &pid,
            "--scale",
            "0.005",
            "--seconds",
            "0.3",
            "--warm-up",
            "0.1",
            "--only",
            only,
            "--http",
            http,
            "--encoding",
            encoding,
            "--json",
            json.to_str().unwrap(),
            "--html",
            page.to_str().unwrap(),
        ]);
        assert!(ok, "{progress}\n{said}");
        let run: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(run["failed"], serde_json::json!({}), "{http} {encoding}\n{said}");
        let names = listed.lines().map(|line| line.split(' ').next().unwrap());
        for name in names.filter(|name| only_these.is_match(name)) {
            let cases = run["scenarios"][name].as_array().unwrap_or_else(|| panic!("{name} is missing: {said}"));
            for case in cases.iter().filter(|case| case["unit"] != "nothing") {
                assert!(
                    case["count"].as_u64().unwrap() > 0 && case["failures"] == 0,
                    "{http} {encoding} {name}: {case}"
                );
                assert!(case["used"]["memory"].as_u64().unwrap() > 1 << 20, "{name}: {case}");
            }
        }
        assert!(std::fs::read_to_string(&page).unwrap().contains("informer_storm"));
    }
    let file = json.to_str().unwrap();
    let (ok, said, _) = bench(&["--compare", file, file, "--output", "markdown"]);
    assert!(ok && said.contains("| 1.00, 1.00, 1.00 |"), "{said}");
    let (ok, _, progress) = bench(&["--compare", file, "/dev/null"]);
    assert!(!ok && progress.contains("/dev/null holds no run of this program"), "{progress}");
}
