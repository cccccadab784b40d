//! Discovery of what others serve, merged into our own documents.
//!
//! Pure: documents in, documents out. Groups stand in the order of their priorities, versions in that of theirs.

use super::Picture;
use super::remote::Remote;
use api::custom::kinds::compare_versions;
use api::json::{Map, Value, json};
use api::value;

/// A version of which nothing is known.
pub(super) fn nothing(version: &str) -> Value {
    json!({"version": version, "resources": [], "freshness": "Current"})
}

/// A version of a group in aggregated discovery.
pub(super) fn version_of(list: &Value, group: &str, version: &str) -> Value {
    let mut groups = value::items(list, "items").iter();
    let found = groups.find(|item| value::text(item, "metadata.name") == group);
    let mut versions = found.map_or(&[][..], |found| value::items(found, "versions")).iter();
    let mut out =
        versions.find(|item| value::text(item, "version") == version).cloned().unwrap_or_else(|| nothing(version));
    value::set(&mut out, "freshness", "Current");
    out
}

/// The same from an `APIResourceList`.
pub(super) fn from_list(list: &Value, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    let all = value::items(list, "resources");
    let kind = |resource: &Value| {
        json!({"group": value::text(resource, "group"), "version": value::text(resource, "version"),
            "kind": value::text(resource, "kind")})
    };
    for resource in all {
        let name = value::text(resource, "name");
        let verbs = value::get(resource, "verbs").cloned().unwrap_or_else(|| json!([]));
        if let Some((parent, part)) = name.split_once('/') {
            let part = json!({"subresource": part, "responseKind": kind(resource), "verbs": verbs});
            if let Some(parent) = resources.iter_mut().find(|known| value::text(known, "resource") == parent) {
                let mut parts = value::items(parent, "subresources").to_vec();
                parts.push(part);
                value::set(parent, "subresources", parts);
            }
            continue;
        }
        let mut out = Map::new();
        out.insert("resource", name.into());
        out.insert("responseKind", kind(resource));
        let scope = if value::flag(resource, "namespaced") { "Namespaced" } else { "Cluster" };
        out.insert("scope", scope.into());
        out.insert("singularResource", value::text(resource, "singularName").into());
        out.insert("verbs", verbs);
        for field in ["shortNames", "categories"] {
            out.extend(resource.get(field).map(|given| (field.to_owned(), given.clone())));
        }
        resources.push(out.into());
    }
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

/// Puts a version among those of its group, by priority and then by Kubernetes' order of versions; those that were there are ours.
fn insert(versions: &mut Vec<Value>, new: Value, remote: &Remote, picture: &Picture) {
    let priority = |version: &Value| {
        let name = format!("{}.{}", value::text(version, "version"), remote.group);
        // Ours in a group with others are those of definitions.
        picture.remotes.get(&name).map_or(100, |remote| remote.version_priority)
    };
    let own = value::text(&new, "version").to_owned();
    versions.retain(|version| value::text(version, "version") != own);
    let before = |version: &Value| {
        let (theirs, ours) = (priority(version), remote.version_priority);
        theirs > ours || (theirs == ours && compare_versions(value::text(version, "version"), &own).is_gt())
    };
    let at = versions.iter().position(|version| !before(version)).unwrap_or(versions.len());
    versions.insert(at, new);
}

/// Where a group stands among others.
fn place(items: &[Value], name: impl Fn(&Value) -> String, remote: &Remote, picture: &Picture) -> usize {
    let priority = |group: &str| picture.priorities.get(group).copied().unwrap_or(i64::MAX);
    let own = priority(&remote.group);
    let after = |item: &Value| {
        let group = name(item);
        let theirs = priority(&group);
        theirs < own || (theirs == own && group > remote.group)
    };
    items.iter().position(after).unwrap_or(items.len())
}

fn group_version(remote: &Remote) -> Value {
    json!({"groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version})
}

fn add_to(group: &mut Value, remote: &Remote, picture: &Picture) {
    let mut versions = value::items(group, "versions").to_vec();
    insert(&mut versions, group_version(remote), remote, picture);
    if let Some(first) = versions.first() {
        value::set(group, "preferredVersion", first.clone());
    }
    value::set(group, "versions", versions);
}

/// Everything but the core group, whose path has no versions of others.
fn remotes(picture: &Picture) -> impl Iterator<Item = &Remote> {
    picture.remotes.values().map(AsRef::as_ref).filter(|remote| !remote.group.is_empty())
}

/// `GET /apis`.
pub(super) fn groups(mut list: Value, picture: &Picture) -> Value {
    let mut items = value::items(&list, "groups").to_vec();
    for remote in remotes(picture) {
        match items.iter_mut().find(|item| value::text(item, "name") == remote.group) {
            Some(item) => add_to(item, remote, picture),
            None => {
                let at = place(&items, |item| value::text(item, "name").to_owned(), remote, picture);
                let mut item = json!({"name": remote.group});
                add_to(&mut item, remote, picture);
                items.insert(at, item);
            }
        }
    }
    value::set(&mut list, "groups", items);
    list
}

/// `GET /apis/<group>`; `None` for one that others have no part in.
pub(super) fn group(own: Value, name: &str, picture: &Picture) -> Option<Value> {
    let mut out = match own {
        Value::Object(_) => own,
        _ => json!({"kind": "APIGroup", "apiVersion": "v1", "name": name}),
    };
    let mut some = false;
    for remote in remotes(picture).filter(|remote| remote.group == name) {
        add_to(&mut out, remote, picture);
        some = true;
    }
    some.then_some(out)
}

/// `GET /apis` in the aggregated form.
pub(super) fn aggregated(mut list: Value, picture: &Picture) -> Value {
    let mut items = value::items(&list, "items").to_vec();
    for remote in remotes(picture) {
        let found = picture.found.get(&remote.name).map(|found| found.version.clone());
        let version = found.unwrap_or_else(|| {
            let mut version = nothing(&remote.version);
            value::set(&mut version, "freshness", "Stale");
            version
        });
        let at = match items.iter().position(|item| value::text(item, "metadata.name") == remote.group) {
            Some(at) => at,
            None => {
                let at = place(&items, |item| value::text(item, "metadata.name").to_owned(), remote, picture);
                items.insert(at, json!({"metadata": {"name": remote.group}, "versions": []}));
                at
            }
        };
        let Some(item) = items.get_mut(at) else { continue };
        let mut versions = value::items(item, "versions").to_vec();
        insert(&mut versions, version, remote, picture);
        value::set(item, "versions", versions);
    }
    value::set(&mut list, "items", items);
    list
}

/// The index of OpenAPI v3.
pub(super) fn index(mut index: Value, picture: &Picture) -> Value {
    let paths = value::map_mut(&mut index, "paths");
    for remote in remotes(picture) {
        let key = format!("apis/{}/{}", remote.group, remote.version);
        match picture.found.get(&remote.name).and_then(|found| found.openapi.clone()) {
            Some(entry) => drop(paths.insert(key, entry)),
            None => drop(paths.remove(&key)),
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn picture(entries: &[(&str, &str, i64, i64)]) -> Picture {
        let mut picture = Picture::default();
        for (group, version, of_group, of_version) in entries {
            let name = format!("{version}.{group}");
            let object = json!({"metadata": {"name": name}, "spec": {"group": group, "version": version,
                "groupPriorityMinimum": of_group, "versionPriority": of_version, "insecureSkipTLSVerify": true,
                "service": {"namespace": "n", "name": "s", "port": 443}}});
            picture.remotes.insert(name, Arc::new(Remote::read(&object, None).unwrap()));
            picture.priorities.insert((*group).to_owned(), *of_group);
        }
        picture
    }

    fn group_of(name: &str, versions: &[&str]) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
            .collect();
        json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
    }

    #[test]
    fn groups_and_versions_stand_by_priority() {
        let mut picture = picture(&[
            ("b.io", "v1", 2000, 15),
            ("c.io", "v2", 500, 200),
            ("c.io", "v1", 500, 10),
            ("a.io", "v1", 100, 1),
        ]);
        picture.priorities.extend([("apps".to_owned(), 17800), ("c.io".to_owned(), 1000), ("d.io".to_owned(), 1000)]);
        let list =
            json!({"groups": [group_of("apps", &["v1"]), group_of("c.io", &["v1beta1"]), group_of("d.io", &["v1"])]});
        let merged = groups(list, &picture);
        let shown: Vec<String> = value::items(&merged, "groups")
            .iter()
            .map(|group| {
                let versions = value::items(group, "versions").iter().map(|version| value::text(version, "version"));
                format!(
                    "{} {} {}",
                    value::text(group, "name"),
                    value::text(group, "preferredVersion.version"),
                    versions.collect::<Vec<_>>().join(",")
                )
            })
            .collect();
        assert_eq!(shown, ["apps v1 v1", "b.io v1 v1", "c.io v2 v2,v1beta1,v1", "d.io v1 v1", "a.io v1 v1"]);
        assert_eq!(group(Value::Null, "none.io", &picture), None);
        let one = group(Value::Null, "b.io", &picture).unwrap();
        assert_eq!((&one["kind"], &one["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1")));
    }

    #[test]
    fn old_lists_become_aggregated_versions() {
        let list = json!({"resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"]},
            {"name": "things/status", "kind": "Thing", "namespaced": true, "verbs": ["get"]}]});
        let version = from_list(&list, "v1");
        assert_eq!(
            version,
            json!({"version": "v1", "freshness": "Current", "resources": [{"resource": "things", "singularResource": "thing",
                "scope": "Namespaced", "verbs": ["get"], "shortNames": ["th"],
                "responseKind": {"group": "", "version": "", "kind": "Thing"},
                "subresources": [{"subresource": "status", "verbs": ["get"],
                    "responseKind": {"group": "", "version": "", "kind": "Thing"}}]}]})
        );
        let mut picture = picture(&[("g.io", "v1", 100, 1)]);
        let before = aggregated(json!({"items": []}), &picture);
        assert_eq!(before["items"][0]["versions"][0]["freshness"], "Stale");
        let openapi = Some(json!({"serverRelativeURL": "/x"}));
        let found = super::super::Found { version: version.clone(), openapi, v2: None };
        picture.found.insert("v1.g.io".to_owned(), Arc::new(found));
        let merged = aggregated(json!({"items": []}), &picture);
        assert_eq!(merged["items"], json!([{"metadata": {"name": "g.io"}, "versions": [version]}]));
        assert_eq!(version_of(&merged, "g.io", "v1"), version);
        assert_eq!(version_of(&merged, "g.io", "v2")["resources"], json!([]));
        assert_eq!(index(json!({"paths": {}}), &picture)["paths"]["apis/g.io/v1"]["serverRelativeURL"], "/x");
    }
}
