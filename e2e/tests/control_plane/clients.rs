//! The stock Python client and client-go list and watch every kind that the server offers: JSON and, where the client can, protobuf.
//!
//! The programs are below `e2e/clients`. Never installs anything: a client that is not at hand is left out in one line.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use crate::every_kind::{GATES, samples};
use e2e::{Cli, Cluster, Kind, control_plane, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cold build of client-go.
const BUILD: Duration = Duration::from_secs(600);

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

fn python() -> Option<PathBuf> {
    let found = tool("python-client/bin/python3");
    if found.is_none() {
        eprintln!("left out: the Python client, which is not installed (hack/setup installs it)");
    }
    found
}

/// The client-go program, built.
fn client_go() -> Option<PathBuf> {
    let Some(go) = tool("go") else {
        eprintln!("left out: the client-go program, because go is not on PATH");
        return None;
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client-go");
    let line = format!("-C {} build -mod=readonly -o {} .", program("go").display(), file.display());
    Cli::at(go).env("GOFLAGS", "").limit(BUILD).ok(&line);
    Some(file)
}

/// What a client said it found.
fn found(client: &Cli, line: &str) -> Value {
    serde_json::from_str(&client.ok(line)).unwrap()
}

#[test]
fn other_clients_list_and_watch_every_kind() {
    let Some(shared) = control_plane() else { return };
    drop(shared);
    let (python, client_go) = (python(), client_go());
    if python.is_none() && client_go.is_none() {
        return;
    }
    let cluster = Cluster::start(Kind::ControlPlane, &["--runtime-config=api/all=true", GATES]);
    let kubectl = cluster.namespace("clients");
    kubectl.feed("create -f -", samples("clients").as_bytes()).ok();
    let versions: Vec<String> = kubectl.ok("api-versions").lines().map(str::to_owned).collect();
    let at = |file: PathBuf| Cli::at(file).env("KUBECONFIG", cluster.directory().join("kubeconfig"));

    if let Some(python) = python {
        let said = found(&at(python), &format!("{}/main.py", program("python").display()));
        let of_python: Vec<String> = serde_json::from_value(said["versions"].clone()).unwrap();
        assert_eq!(of_python, versions);
    }
    if let Some(client_go) = client_go {
        let client = at(client_go);
        for encoding in ["application/json", "application/vnd.kubernetes.protobuf"] {
            let said = found(&client, encoding);
            let of_go: Vec<String> = serde_json::from_value(said["versions"].clone()).unwrap();
            assert_eq!(of_go, versions, "{encoding}");
            // Definitions and API services are of other modules.
            assert_eq!(said["untyped"], 2, "{encoding}");
        }
    }
}
