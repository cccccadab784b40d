//! Stock kubectl over every kind that the server offers with everything turned on: create, get, describe, explain, edit and delete.
//!
//! Never names a kind: what there is comes from discovery, what is created from `samples.yaml`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use e2e::{Cli, Cluster, Kind, control_plane};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

/// Gates without which a kind is not served.
pub(crate) const GATES: &str = "--feature-gates=GenericWorkload=true,StorageVersionMigrator=true,PodCertificateRequest=true,\
                     ClusterTrustBundle=true";

/// A resource of one version.
struct Resource {
    kind: String,
    plural: String,
    verbs: Vec<String>,
}

impl Resource {
    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

/// A group with all its versions, each with its resources.
struct Group {
    name: String,
    versions: Vec<(String, Vec<Resource>)>,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn resources(list: &Value) -> Vec<Resource> {
    let all = list["resources"].as_array().unwrap();
    let own = all.iter().filter(|resource| !text(resource, "name").contains('/'));
    own.map(|resource| Resource {
        kind: text(resource, "kind"),
        plural: text(resource, "name"),
        verbs: serde_json::from_value(resource["verbs"].clone()).unwrap(),
    })
    .collect()
}

fn offered(cluster: &Cluster) -> Vec<Group> {
    let http = cluster.http();
    let mut out =
        vec![Group { name: String::new(), versions: vec![("v1".to_owned(), resources(&http.get("/api/v1").body))] }];
    for group in http.get("/apis").body["groups"].as_array().unwrap() {
        let versions = group["versions"].as_array().unwrap().iter().map(|version| {
            let version = text(version, "groupVersion");
            let list = resources(&http.get(&format!("/apis/{version}")).body);
            (version, list)
        });
        out.push(Group { name: text(group, "name"), versions: versions.collect() });
    }
    out
}

/// The value of a field at the beginning of a line.
fn line<'a>(document: &'a str, field: &str) -> &'a str {
    document.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim()
}

fn version_of(document: &str) -> &str {
    line(document, "apiVersion:")
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The object of a kind in this version.
fn sample(api_version: &str, kind: &str, namespace: &str) -> Option<String> {
    let documents = include_str!("samples.yaml").split("\n---\n").filter(|text| line(text, "kind:") == kind);
    let own = documents.clone().find(|text| version_of(text) == api_version);
    let other = documents.clone().find(|text| group_of(version_of(text)) == group_of(api_version));
    let found = own.or(other)?;
    let renamed =
        found.replacen(&format!("apiVersion: {}", version_of(found)), &format!("apiVersion: {api_version}"), 1);
    Some(renamed.replace("NAMESPACE", namespace))
}

/// One object of every kind that keeps them, in this namespace.
pub(crate) fn samples(namespace: &str) -> String {
    let documents = include_str!("samples.yaml").split("\n---\n").filter(|text| text.contains("edited: \"no\""));
    let mut seen = BTreeSet::new();
    let first = documents.filter(|text| seen.insert((group_of(version_of(text)), line(text, "kind:"))));
    first.collect::<Vec<_>>().join("\n---\n").replace("NAMESPACE", namespace)
}

/// Takes kubectl through one version of a group; what went wrong, said at length.
fn journey(
    kubectl: &Cli,
    api_version: &str,
    resources: &[Resource],
    namespace: &str,
    directory: &std::path::Path,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let flat = api_version.replace('/', ".");
    let write = |name: &str, kinds: &[&Resource]| {
        let file = directory.join(format!("{flat}.{name}.yaml"));
        let documents: Vec<_> = kinds.iter().filter_map(|kind| sample(api_version, &kind.kind, namespace)).collect();
        std::fs::write(&file, documents.join("\n---\n")).unwrap();
        file.display().to_string()
    };
    for resource in resources {
        if resource.can("create") && sample(api_version, &resource.kind, namespace).is_none() {
            wrong.push(format!("{api_version} {}: no object in samples.yaml", resource.kind));
        }
        let line = format!("explain {} --api-version={api_version} --recursive", resource.plural);
        let said = kubectl.run(&line);
        let kind = format!("KIND:       {}\n", resource.kind);
        if said.code != 0 || !said.stdout.contains(&kind) || !said.stdout.contains("  apiVersion\t<string>") {
            wrong.push(said.to_string());
        }
    }
    // The tables of what is there already, and of kinds that nobody can create.
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let full = |resource: &Resource| format!("{}.{version}.{group}", resource.plural);
    let listed: Vec<_> = resources.iter().filter(|resource| resource.can("list")).map(full).collect();
    if !listed.is_empty() {
        let said = kubectl.run(&format!("get {} --all-namespaces -o wide", listed.join(",")));
        if said.code != 0 {
            wrong.push(said.to_string());
        }
    }

    let (kept, answered): (Vec<_>, Vec<_>) =
        resources.iter().filter(|resource| resource.can("create")).partition(|resource| resource.can("get"));
    let mut step = |line: &str, editor: &str, count: usize, tells: fn(&str) -> bool| {
        let said = kubectl.clone().env("KUBE_EDITOR", editor).run(line);
        let found = said.stdout.lines().filter(|line| tells(line)).count();
        let fine = said.code == 0 && found == count;
        if !fine {
            wrong.push(format!("{count} lines expected, {found} found: {said}"));
        }
        fine
    };
    let count = kept.len();
    let file = write("kept", &kept);
    if count > 0 && !step(&format!("create -f {file}"), "", count, |line| line.ends_with(" created")) {
        return wrong;
    }
    if !answered.is_empty() {
        // These may be about what is there now. What is answered and forgotten has no name to be printed by.
        let file = write("answered", &answered);
        step(&format!("create -f {file} --dry-run=server"), "", answered.len(), |line| line.contains(" created"));
    }
    if count > 0 {
        // A heading and a row each.
        step(&format!("get -f {file} -o wide"), "", 2 * count, |line| !line.is_empty());
        step(&format!("describe -f {file}"), "", count, |line| line.starts_with("Name:"));
        let editor = "sed -i 's/edited: \"no\"/edited: \"yes\"/'";
        step(&format!("edit -f {file}"), editor, count, |line| line.ends_with(" edited"));
        step(&format!("get -f {file} -o custom-columns=E:.metadata.labels.edited"), "", count, |line| line == "yes");
        step(&format!("delete -f {file} --timeout=60s"), "", count, |line| line.contains(" deleted"));
    }
    wrong
}

#[test]
fn kubectl_handles_every_kind() {
    let Some(shared) = control_plane() else { return };
    drop(shared);
    let cluster = Cluster::start(Kind::ControlPlane, &["--runtime-config=api/all=true", GATES]);
    let groups = offered(&cluster);
    let kinds: usize = groups.iter().flat_map(|group| &group.versions).map(|(_, list)| list.len()).sum();
    assert!(groups.len() > 20 && kinds > 85, "{} groups, {kinds} kinds", groups.len());
    let waiting: Mutex<VecDeque<Group>> = Mutex::new(groups.into());
    let wrong = Mutex::new(Vec::new());
    // The versions of a group are one object, so they take turns.
    let work = || {
        let next = || waiting.lock().unwrap().pop_front();
        while let Some(group) = next() {
            let namespace = format!("every-{}", group.name.replace('.', "-"));
            let kubectl = cluster.namespace(namespace.trim_end_matches('-'));
            for (version, resources) in &group.versions {
                let found = journey(&kubectl, version, resources, namespace.trim_end_matches('-'), cluster.directory());
                wrong.lock().unwrap().extend(found);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
