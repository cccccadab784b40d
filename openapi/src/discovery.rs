//! Discovery: which groups, versions and resources there are, in the old form and in the aggregated one (KEP-3352).
//!
//! Derived from the kinds alone. The order of groups is that of the table.

use api::json::{Map, Value, json};
use api::kind::{Gvk, Kind, Verb};
use sha2::{Digest as _, Sha256};

/// One group with its versions, preferred one first.
pub struct Group {
    /// Name; empty for core.
    pub name: &'static str,
    /// Versions and their kinds.
    pub versions: Vec<(&'static str, Vec<&'static Kind>)>,
}

/// The groups of some kinds.
#[must_use]
pub fn groups(kinds: &[&'static Kind]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds.iter().copied() {
        let at = groups.iter().position(|group| group.name == kind.group).unwrap_or_else(|| {
            groups.push(Group { name: kind.group, versions: Vec::new() });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(at) else { continue };
        match group.versions.iter_mut().find(|(version, _)| *version == kind.version) {
            Some((_, members)) => members.push(kind),
            None => group.versions.push((kind.version, vec![kind])),
        }
    }
    for group in &mut groups {
        for (_, members) in &mut group.versions {
            members.sort_by_key(|kind| kind.plural);
        }
    }
    groups
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut names: Vec<&str> = verbs.iter().map(|verb| verb.name()).collect();
    names.sort_unstable();
    names
}

/// Tells clients when the stored form of a resource changes: eight bytes of a digest over the stored kind.
fn storage_version_hash(kind: &'static Kind) -> String {
    use base64::Engine as _;
    let stored = kind.stored();
    let version = stored.stored_upstream.unwrap_or(stored.version);
    let digest = Sha256::digest(format!("{}/{version}/{}", stored.group, stored.kind));
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

/// `GET /api`. `server` is the address that clients are told.
#[must_use]
pub fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

/// An entry of `GET /apis`.
#[must_use]
pub fn group_entry(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": group_version(group.name, version), "version": version}))
        .collect();
    json!({"name": group.name, "versions": versions.clone(), "preferredVersion": versions.first()})
}

/// `GET /apis`.
#[must_use]
pub fn group_list(groups: &[Group]) -> Value {
    let named: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named})
}

/// `GET /apis/<group>`.
#[must_use]
pub fn single_group(group: &Group) -> Value {
    let mut out = group_entry(group);
    if let Some(map) = out.as_object_mut() {
        map.insert("kind", "APIGroup".into());
        map.insert("apiVersion", "v1".into());
    }
    out
}

/// `GET /apis/<group>/<version>`.
#[must_use]
pub fn resource_list(group: &str, version: &str, kinds: &[&'static Kind]) -> Value {
    let mut resources = Vec::new();
    for kind in kinds.iter().copied() {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs(kind.verbs),
        });
        if let Some(map) = resource.as_object_mut() {
            add_names(map, kind);
            if kind.is_stored() {
                map.insert("storageVersionHash", storage_version_hash(kind).into());
            }
        }
        resources.push(resource);
        for part in kind.subresources {
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural, part.name),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": part.gvk.kind,
                "verbs": verbs(part.verbs),
            });
            if let (Some(map), true) = (resource.as_object_mut(), foreign(kind, part.gvk)) {
                if !part.gvk.group.is_empty() {
                    map.insert("group", part.gvk.group.into());
                }
                map.insert("version", part.gvk.version.into());
            }
            resources.push(resource);
        }
    }
    let mut out =
        json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    if let (Some(map), false) = (out.as_object_mut(), group.is_empty()) {
        map.insert("apiVersion", "v1".into());
    }
    out
}

fn foreign(kind: &Kind, gvk: Gvk) -> bool {
    gvk.group != kind.group || gvk.version != kind.version
}

fn add_names(map: &mut Map, kind: &Kind) {
    if !kind.short_names.is_empty() {
        map.insert("shortNames", kind.short_names.into());
    }
    if !kind.categories.is_empty() {
        map.insert("categories", kind.categories.into());
    }
}

/// The aggregated form for `/api` (core) or `/apis` (all others); `version` is `v2` or `v2beta1`.
#[must_use]
pub fn aggregated(groups: &[Group], core: bool, version: &str) -> Value {
    let items: Vec<Value> = groups.iter().filter(|group| group.name.is_empty() == core).map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, kinds)| {
            let resources: Vec<Value> = kinds.iter().copied().map(aggregated_resource).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let meta = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": meta, "versions": versions})
}

/// Group and version are said only where they are not those of the list.
fn response_kind(kind: &Kind, gvk: Gvk) -> Value {
    let (group, version) = if foreign(kind, gvk) { (gvk.group, gvk.version) } else { ("", "") };
    json!({"group": group, "version": version, "kind": gvk.kind})
}

fn aggregated_resource(kind: &'static Kind) -> Value {
    let own = Gvk { group: kind.group, version: kind.version, kind: kind.kind };
    let mut out = json!({
        "resource": kind.plural,
        "responseKind": response_kind(kind, own),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind.verbs),
    });
    let parts: Vec<Value> = kind
        .subresources
        .iter()
        .map(|part| {
            json!({
                "subresource": part.name,
                "responseKind": response_kind(kind, part.gvk),
                "verbs": verbs(part.verbs),
            })
        })
        .collect();
    if let Some(map) = out.as_object_mut() {
        add_names(map, kind);
        if !parts.is_empty() {
            map.insert("subresources", parts.into());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_hash_is_upstreams() {
        let deployment = api::kinds::by_gvk("apps", "v1", "Deployment").unwrap();
        assert_eq!(storage_version_hash(deployment), "8aSe+NMegvE=");
    }

    #[test]
    fn every_kind_is_in_its_group() {
        let groups = groups(api::kinds::ALL);
        let counted: usize = groups.iter().flat_map(|group| &group.versions).map(|(_, kinds)| kinds.len()).sum();
        assert_eq!(counted, api::kinds::ALL.len());
        assert_eq!(groups.iter().filter(|group| group.name == "apps").count(), 1);
    }
}
