//! `nodes`: machines.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, Part, Selectable, Subresource, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{addresses, cells, labels, pod_scheduling, resources, rules};
use crate::quote::quoted;
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[parts::proxy("NodeProxyOptions"), STATUS],
    create_with_status: true,
    columns: &[
        Column::NAME,
        Column::text("Status").says("The status of the node"),
        Column::text("Roles").says("The roles of the node"),
        Column::AGE,
        Column::text("Version").of("status.nodeInfo.kubeletVersion"),
        Column::text("Internal-IP").wide().of("status.addresses"),
        Column::text("External-IP").wide().of("status.addresses"),
        Column::text("OS-Image").wide().of("status.nodeInfo.osImage"),
        Column::text("Kernel-Version").wide().of("status.nodeInfo.kernelVersion"),
        Column::text("Container-Runtime").wide().of("status.nodeInfo.containerRuntimeVersion"),
    ],
    selectable: &[Selectable {
        name: "spec.unschedulable",
        value: |node| value::flag(node, "spec.unschedulable").to_string(),
    }],
    describe: describe::<k8s_openapi::api::core::v1::Node>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &Node,
    ..Kind::BASE
};

struct Node;

const STATUS: Subresource = Subresource { part: Part::View { merge: with_status }, ..parts::status("", "v1", "Node") };

/// `nodes/status`, without the configuration that kubelets have no more.
fn with_status(new: Value, old: &Value) -> Value {
    let mut node = parts::status_of_new(new, old);
    drop_unless_old(&mut node, old, "status.config");
    node
}

fn drop_unless_old(node: &mut Value, old: &Value, path: &str) {
    if !value::get(old, path).is_some_and(Value::is_object) {
        value::remove(node, path);
    }
}

impl Hooks for Node {
    /// What a node has, it can allocate, unless it says otherwise; its first CIDR has an older, singular field.
    fn default(&self, object: &mut Value) {
        if let (None, Some(capacity)) =
            (value::get(object, "status.allocatable"), value::get(object, "status.capacity").cloned())
        {
            value::set(object, "status.allocatable", capacity);
        }
        let one = value::text(object, "spec.podCIDR").to_owned();
        let first = value::items(object, "spec.podCIDRs").first().and_then(Value::as_str).map(str::to_owned);
        match (one.as_str(), first) {
            ("", Some(first)) => value::set(object, "spec.podCIDR", first),
            ("", None) => {}
            (_, None) => value::set(object, "spec.podCIDRs", vec![one]),
            (_, Some(_)) => {}
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::remove(object, "spec.configSource");
        value::remove(object, "status.config");
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_unless_old(new, old, "spec.configSource");
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors =
            pod_scheduling::taints(object.get("spec").unwrap_or(&Value::Null), &Path::new("metadata.taints"));
        errors.extend(validate_status(object));
        features(&mut errors, object);
        let ranges = value::items(object, "spec.podCIDRs");
        let field = Path::new("spec.podCIDRs");
        let mut families = Vec::new();
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            addresses::check(&mut errors, &field.index(i), range, addresses::legacy_cidr, &[]);
            families.extend(addresses::sloppy_cidr(range).map(|(address, _)| address.is_ipv4()));
        }
        if ranges.len() > 2 || (families.len() == 2 && families.first() == families.last()) {
            let detail = "may specify no more than one CIDR for each IP family";
            errors.push(FieldError::invalid(&field, ranges.to_vec(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let before = value::items(old, "spec.podCIDRs");
        if !before.is_empty() && before != value::items(new, "spec.podCIDRs") {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&field.child("podCIDRs"), detail));
        }
        let provider = |node| value::text(node, "spec.providerID");
        if !provider(old).is_empty() && provider(new) != provider(old) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&field.child("providerID"), detail));
        }
        let spec = new.get("spec").unwrap_or(&Value::Null);
        errors.extend(pod_scheduling::taints(spec, &Path::new("metadata.taints")));
        if rules::differ(value::get(new, "spec.externalID"), value::get(old, "spec.externalID")) {
            errors.push(FieldError::forbidden(&field.child("externalID"), "may not be updated"));
        }
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let mut errors = validate_status(new);
        features(&mut errors, new);
        let addresses = value::items(new, "status.addresses");
        for (i, address) in addresses.iter().enumerate() {
            if addresses.iter().take(i).any(|other| other == address) {
                let field = Path::new("status.addresses").index(i);
                errors.push(FieldError::duplicate(&field, Value::Null).showing("NodeAddress", address));
            }
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if value::get(new, "spec.configSource").is_some_and(Value::is_object) {
            out.push("spec.configSource: the feature is removed".to_owned());
        }
        if !value::text(new, "spec.externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        let field = Path::new("spec.podCIDRs");
        for (i, range) in value::items(new, "spec.podCIDRs").iter().filter_map(Value::as_str).enumerate() {
            out.extend(addresses::cidr_warnings(&field.index(i), range));
        }
        out
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let ready = value::items(object, "status.conditions").iter().find(|c| value::text(c, "type") == "Ready");
        let mut status = match ready.map(|condition| value::text(condition, "status")) {
            None => "Unknown",
            Some("True") => "Ready",
            Some(_) => "NotReady",
        }
        .to_owned();
        if value::flag(object, "spec.unschedulable") {
            status.push_str(",SchedulingDisabled");
        }
        let address = |kind: &str| {
            let addresses = value::items(object, "status.addresses");
            let found = addresses.iter().find(|address| value::text(address, "type") == kind);
            Value::from(found.map_or("<none>", |address| value::text(address, "address")))
        };
        let mut kernel = match value::text(object, "status.nodeInfo.kernelVersion") {
            "" => "<unknown>",
            version => version,
        }
        .to_owned();
        let architecture = value::text(object, "status.nodeInfo.architecture");
        if !architecture.is_empty() {
            kernel = format!("{kernel} ({architecture})");
        }
        vec![
            cells::name(object),
            status.into(),
            roles(object).into(),
            cells::age(object, now),
            cells::text(object, "status.nodeInfo.kubeletVersion"),
            address("InternalIP"),
            address("ExternalIP"),
            cells::text_or(object, "status.nodeInfo.osImage", "<unknown>"),
            kernel.into(),
            cells::text_or(object, "status.nodeInfo.containerRuntimeVersion", "<unknown>"),
        ]
    }
}

/// Roles by label: `node-role.kubernetes.io/<role>`, or the value of `kubernetes.io/role`.
fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = labels::map(node, "metadata.labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

/// Names of features that a node declares, in their order and each once.
fn features(errors: &mut Errors, node: &Value) {
    let field = Path::new("status.declaredFeatures");
    let names: Vec<&str> = value::items(node, "status.declaredFeatures").iter().filter_map(Value::as_str).collect();
    for (i, name) in names.iter().enumerate() {
        let why = if name.len() > 253 {
            Some("must be no more than 253 characters")
        } else if !is_feature(name) {
            Some(
                "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or \
                 MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
            )
        } else {
            None
        };
        if let Some(why) = why {
            let detail = format!("invalid feature name {}: {why}", quoted(name));
            errors.push(FieldError::invalid(&field.index(i), *name, detail));
        }
        match names.get(i + 1) {
            Some(next) if next == name => errors.push(FieldError::duplicate(&field.index(i + 1), *next)),
            Some(next) if next < name => {
                let detail = "list must be sorted alphabetically";
                errors.push(FieldError::invalid(&field.index(i + 1), *next, detail));
            }
            _ => {}
        }
    }
}

fn is_feature(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

fn validate_status(node: &Value) -> Errors {
    let mut errors = Errors::new();
    for list in ["capacity", "allocatable"] {
        let field = Path::new("status").child(list);
        for (name, amount) in labels::map(node, &format!("status.{list}")).into_iter().flatten() {
            resources::validate_amount(&mut errors, name, amount, &field.child(name));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn defaults() {
        testing::defaults(
            &KIND,
            json!({"spec": {"podCIDR": "10.0.0.0/24"}, "status": {"capacity": {"cpu": "1"}}}),
            &json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
                "status": {"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}}),
        );
        assert!(KIND.create_with_status);
    }

    #[test]
    fn validation() {
        testing::invalid(
            &KIND,
            &json!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.1.0.0/24"], "taints": [{"key": "a"}]},
                "status": {"capacity": {"cpu": "-1"}}}),
            &[
                "metadata.taints[0].effect: Required value",
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one CIDR for each IP family",
            ],
        );
        testing::invalid_update(
            &KIND,
            &json!({"spec": {"providerID": "b"}}),
            &json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}}),
            &[
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ],
        );
    }

    #[test]
    fn features_are_named_in_order() {
        let node = json!({"status": {"declaredFeatures": ["B", "A/b", "A/b", "x"], "config": {}}, "spec": {"configSource": {}}});
        let mut errors = Errors::new();
        features(&mut errors, &node);
        assert_eq!(
            testing::shown(&errors),
            [
                "status.declaredFeatures[1]: Invalid value: \"A/b\": list must be sorted alphabetically",
                "status.declaredFeatures[2]: Duplicate value: \"A/b\"",
                "status.declaredFeatures[3]: Invalid value: \"x\": invalid feature name \"x\": must start with an UpperCamelCase \
                 segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only \
                 alphanumeric characters and slashes",
            ]
        );
        let bare = json!({"status": {}, "spec": {}});
        assert!(with_status(node.clone(), &bare)["status"].get("config").is_none());
        assert!(with_status(node.clone(), &node)["status"].get("config").is_some());
        let mut made = node.clone();
        KIND.hooks.prepare_create(&mut made);
        assert_eq!((made["spec"].get("configSource"), made["status"].get("config")), (None, None));
    }

    #[test]
    fn row() {
        let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64"}}});
        let cells = json!([
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,x",
            "<unknown>",
            "v1.36.0",
            "10.0.0.1",
            "<none>",
            "<unknown>",
            "6.1 (amd64)",
            "<unknown>"
        ]);
        testing::row(&KIND, &node, &cells);
        testing::row(
            &KIND,
            &json!({"metadata": {"name": "n"}}),
            &json!([
                "n",
                "Unknown",
                "<none>",
                "<unknown>",
                "",
                "<none>",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]),
        );
    }
}
