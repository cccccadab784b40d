//! The columns of every kind against those of Kubernetes v1.36, of which `testdata/columns.txt` holds digests.

use crate::columns::descriptions;
use api::kind::{Kind, Verb};
use api::kinds::ALL;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The columns as they are digested.
fn shown(kind: &Kind) -> String {
    let mut out = String::new();
    for (column, description) in kind.columns.iter().zip(descriptions(kind)) {
        let (name, form, format, priority) = (column.name, column.kind, column.format, column.priority);
        writeln!(out, "{name}\t{form}\t{format}\t{priority}\t{description}").unwrap();
    }
    out
}

#[test]
fn columns_are_upstreams() {
    let facts: BTreeMap<&str, &str> = include_str!("../../testdata/columns.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let mut wrong = Vec::new();
    for kind in ALL.iter().filter(|kind| kind.verbs.contains(&Verb::Get)) {
        let own = match kind.group {
            "" | "events.k8s.io" => kind.kind.to_owned(),
            group => format!("{}.{group}", kind.kind),
        };
        let wanted = facts.get(own.as_str()).unwrap_or(&facts["*"]);
        let text = shown(kind);
        let digest: String = Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        if digest != *wanted {
            wrong.push(format!("{kind:?}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
