//! Laws over all kinds of the table, with upstream's discovery and wire fixtures where they are at hand.

use super::ALL;
use crate::json::{Value, json};
use crate::judgement;
use crate::kind::Kind;
use crate::kinds::shared::testing;
use crate::value;
use std::path::PathBuf;

/// The folder of upstream's facts: `IRONKEEL_ORACLE`, else beside the project. Says so when it is absent.
fn oracle(file: &str) -> Option<Value> {
    let root = std::env::var_os("IRONKEEL_ORACLE")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle")), PathBuf::from);
    if !root.is_dir() {
        eprintln!("left out: no folder of upstream facts at {}", root.display());
        return None;
    }
    let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    Some(crate::json::from_str(&text).unwrap())
}

fn fixture(kind: &Kind) -> Option<Value> {
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    let file = format!("wire/{group}.{}.{}.json", kind.version, kind.kind);
    // Upstream has no fixtures of the kinds of its other two servers.
    let other = matches!(kind.group, "apiregistration.k8s.io" | "apiextensions.k8s.io");
    if other { Some(Value::Null) } else { oracle(&file) }
}

#[test]
fn descriptions_are_complete_and_unique() {
    for (i, kind) in ALL.iter().enumerate() {
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty() && !kind.singular.is_empty(), "{kind:?}");
        assert_eq!(kind.columns.first().map(|column| column.priority), Some(0), "{kind:?}");
        assert!(kind.columns.iter().any(|column| column.name == "Name"), "{kind:?}: no name column");
        assert!(
            kind.gated.iter().all(|gated| crate::features::known().any(|gate| gate.name == gated.gate)),
            "{kind:?}"
        );
        let twin = |other: &&&Kind| {
            (other.group, other.version) == (kind.group, kind.version)
                && (other.plural == kind.plural || other.kind == kind.kind)
        };
        assert!(ALL.iter().take(i).find(twin).is_none(), "{kind:?} twice");
        assert!(!kind.create_with_status || kind.has_status(), "{kind:?}");
        assert!(kind.stored().stored_as.is_none(), "{kind:?}: stored as a kind that is stored as another");
    }
}

#[test]
fn every_kind_has_its_type() {
    for kind in ALL {
        let schema = crate::schema::native().of_gvk(kind.group, kind.version, kind.kind);
        let fields = schema.map(|schema| schema.def().fields.len()).unwrap_or_default();
        assert!(fields > 2, "{kind:?}: {fields} fields");
    }
}

#[test]
fn names_verbs_and_subresources_are_upstreams() {
    for kind in ALL {
        let file = match kind.group {
            "" => "discovery/api__v1.json".to_owned(),
            group => format!("discovery/apis__{group}__{}.json", kind.version),
        };
        let Some(list) = oracle(&file) else { return };
        let resources = value::items(&list, "resources");
        let verbs = |verbs: &[crate::kind::Verb]| verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>();
        let mut wanted = json!({"name": kind.plural, "kind": kind.kind, "namespaced": kind.namespaced,
            "singularName": kind.singular, "verbs": verbs(kind.verbs)});
        for (name, texts) in [("shortNames", kind.short_names), ("categories", kind.categories)] {
            if !texts.is_empty() {
                value::set(&mut wanted, name, texts.to_vec());
            }
        }
        let mut found =
            resources.iter().find(|resource| value::text(resource, "name") == kind.plural).cloned().unwrap();
        value::remove(&mut found, "storageVersionHash");
        assert_eq!(found, wanted);

        let prefix = format!("{}/", kind.plural);
        let parts: Vec<Value> = resources
            .iter()
            .filter_map(|resource| {
                let name = value::text(resource, "name").strip_prefix(&prefix)?;
                let mut gvk =
                    [value::text(resource, "group"), value::text(resource, "version"), value::text(resource, "kind")];
                if gvk[1].is_empty() {
                    gvk = [kind.group, kind.version, gvk[2]];
                }
                Some(json!([name, gvk, resource["verbs"]]))
            })
            .collect();
        let own: Vec<Value> = kind
            .subresources
            .iter()
            .map(|part| json!([part.name, [part.gvk.group, part.gvk.version, part.gvk.kind], verbs(part.verbs)]))
            .collect();
        assert_eq!(own, parts, "{kind:?}");
    }
}

#[test]
fn defaults_settle_and_rows_fit_on_full_objects() {
    for kind in ALL {
        let Some(mut object) = fixture(kind) else { return };
        kind.hooks.default(&mut object);
        let once = object.clone();
        kind.hooks.default(&mut object);
        assert_eq!(object, once, "{kind:?}");
        assert_eq!(kind.hooks.row(&object, 0).len(), kind.columns.len(), "{kind:?}");
        kind.to_stored(&mut object);
        let version = value::text(&object, "apiVersion");
        assert!(version.is_empty() || version == kind.stored().api_version(), "{kind:?}: {version}");
        kind.from_stored(&mut object);
        assert_eq!(object, once, "{kind:?}");
    }
}

/// Every hook on an object of whatever shape.
fn exercise(kind: &Kind, object: &Value) {
    let mut new = object.clone();
    kind.hooks.default(&mut new);
    kind.hooks.prepare_create(&mut new);
    kind.hooks.prepare_update(&mut new, object);
    kind.hooks.stamp("", &mut new, Some(object), &testing::occasion("1"));
    let errors = kind.hooks.demands("status", &new, Some(object), &testing::occasion("")).len()
        + judgement::create(&new, kind).len()
        + judgement::update(&new, object, kind).len();
    let _ = (errors, kind.hooks.needs(&new, Some(object)), kind.hooks.row(&new, 0));
    let _ = (kind.hooks.grace_period(&new, None), kind.hooks.warnings(&new, None));
    for part in kind.subresources {
        let _ = judgement::part(part.name, &new, object, kind);
        kind.hooks.stamp(part.name, &mut new, Some(object), &testing::occasion("1"));
        if let crate::kind::Part::View { merge } = part.part {
            let _ = merge(new.clone(), object);
        }
    }
    for field in kind.selectable {
        let _ = (field.value)(&new);
    }
}

/// Puts an odd value, another one each time, where a part of the object is, to a depth.
fn deform(object: &Value, depth: usize, turn: &mut usize, rebuild: &mut dyn FnMut(Value)) {
    *turn += 1;
    rebuild(match *turn % 5 {
        0 => Value::Null,
        1 => json!("../é"),
        2 => json!(-1),
        3 => json!([{}]),
        _ => json!({}),
    });
    if depth == 0 {
        return;
    }
    match object {
        Value::Object(map) => {
            for key in map.keys() {
                deform(&map[key], depth - 1, turn, &mut |part| {
                    let mut whole = map.clone();
                    whole.insert(key.clone(), part);
                    rebuild(Value::Object(whole));
                });
            }
        }
        Value::Array(list) => {
            if let Some(first) = list.first() {
                deform(first, depth - 1, turn, &mut |part| rebuild(Value::Array(vec![part])));
            }
        }
        _ => {}
    }
}

#[test]
fn no_shape_of_input_panics() {
    let pod = json!({"containers": [{"name": "a", "ports": [{"hostPort": 1}], "env": [{"valueFrom": {"fieldRef": {}}}],
        "livenessProbe": {"httpGet": {"port": 1}}, "volumeMounts": [{"name": "v"}], "resources": {"limits": {"cpu": "1"}},
        "securityContext": {"capabilities": {"add": ["x"]}}}], "volumes": [{"name": "v", "projected": {"sources": [{}]}}],
        "affinity": {"podAffinity": {}}, "tolerations": [{}], "topologySpreadConstraints": [{}]});
    let any = json!({"metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"a": "b"}, "ownerReferences": [{}]},
        "spec": {"template": {"metadata": {"labels": {}}, "spec": {}}, "selector": {"matchExpressions": [{}]},
            "ports": [{"port": 1}], "clusterIPs": ["x"], "ipFamilies": ["IPv4"], "type": "LoadBalancer", "taints": [{}]},
        "subsets": [{"addresses": [{}], "ports": [{}]}], "endpoints": [{"addresses": ["x"], "hints": {"forZones": [{}]}}],
        "ports": [{}], "rules": [{}], "roleRef": {}, "subjects": [{}], "data": {"a": ""}, "stringData": {"a": ""},
        "involvedObject": {}, "series": {}, "status": {"conditions": [{}], "containerStatuses": [{"state": {}}],
            "podIPs": [{}], "addresses": [{}], "loadBalancer": {"ingress": [{}]}}});
    for kind in ALL {
        let mut object = any.clone();
        if matches!(kind.plural, "pods" | "replicasets") {
            let path = if kind.plural == "pods" { "spec" } else { "spec.template.spec" };
            value::set(&mut object, path, pod.clone());
        }
        deform(&object, 9, &mut 0, &mut |deformed| exercise(kind, &deformed));
        if let Some(full) = fixture(kind) {
            deform(&full, 2, &mut 0, &mut |deformed| exercise(kind, &deformed));
        }
    }
}
