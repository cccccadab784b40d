//! `csinodes` of storage.k8s.io: the storage drivers of a node.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::volume_sources::csi_driver_name;
use crate::kinds::shared::{cells, labels, names, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    returns_deleted: true,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::integer("Drivers").says("Drivers indicates the number of CSI drivers registered on the node"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::storage::v1::CSINode>,
    judgement: Judgement::ONLY_AS_NEW,
    hooks: &CsiNode,
    ..Kind::BASE
};

struct CsiNode;

/// The longest name by which a driver knows a node.
const LONGEST_ID: usize = 256;

impl Hooks for CsiNode {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let drivers = value::items(object, "spec.drivers");
        for (i, driver) in drivers.iter().enumerate() {
            let field = Path::new("spec.drivers").index(i);
            let name = value::text(driver, "name");
            csi_driver_name(&mut errors, name, &field.child("name"));
            let id = rules::required(&mut errors, driver, "nodeID", &field);
            if id.len() > LONGEST_ID {
                let detail = format!("must be {LONGEST_ID} characters or less");
                errors.push(FieldError::invalid(&field.child("nodeID"), id, detail));
            }
            let allocatable = driver.get("allocatable").unwrap_or(&Value::Null);
            rules::not_negative(&mut errors, allocatable, "count", &field.child("allocatable"));
            if drivers.iter().take(i).any(|other| value::text(other, "name") == name) {
                errors.push(FieldError::duplicate(&field.child("name"), name));
            }
            topology_keys(&mut errors, value::items(driver, "topologyKeys"), &field);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        // How much a driver can take may change, who it is may not.
        let identity = |driver: &Value| {
            let mut driver = driver.clone();
            value::remove(&mut driver, "allocatable");
            driver
        };
        for before in value::items(old, "spec.drivers") {
            for after in value::items(new, "spec.drivers") {
                let same = value::text(before, "name") == value::text(after, "name");
                if same && identity(before) != identity(after) {
                    let error = FieldError::invalid_whole(&Path::new("spec.drivers"), rules::IMMUTABLE);
                    errors.push(error.showing("CSINodeDriver", &identity(after)));
                }
            }
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), value::items(object, "spec.drivers").len().into(), cells::age(object, now)]
    }
}

fn topology_keys(errors: &mut Errors, keys: &[Value], field: &Path) {
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        if keys.iter().take(i).any(|other| other == key) {
            errors.push(FieldError::duplicate(field, text));
        }
        labels::invalid(errors, field, text, names::qualified_name(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "spec": {"drivers": [
            {"name": "Disk.example.com", "nodeID": "n", "topologyKeys": ["example.com/zone"], "allocatable": {"count": 1}}]}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["a", 1, "<unknown>"]));
        let long = "x".repeat(257);
        testing::invalid(
            &KIND,
            &json!({"spec": {"drivers": [
                {"name": "a", "nodeID": long, "topologyKeys": ["z", "z"], "allocatable": {"count": -1}}, {"name": "a"}]}}),
            &[
                &format!("spec.drivers[0].nodeID: Invalid value: {long:?}: must be 256 characters or less"),
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[0]: Duplicate value: \"z\"",
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].name: Duplicate value: \"a\"",
            ],
        );
        let mut more = sound.clone();
        value::set(
            &mut more,
            "spec.drivers",
            json!([
            {"name": "Disk.example.com", "nodeID": "n", "topologyKeys": ["example.com/zone"], "allocatable": {"count": 9}}]),
        );
        testing::invalid_update(&KIND, &more, &sound, &[]);
        value::set(&mut more, "spec.drivers", json!([{"name": "Disk.example.com", "nodeID": "m"}]));
        testing::invalid_update(
            &KIND,
            &more,
            &sound,
            &[
                "spec.drivers: Invalid value: {\"Name\":\"Disk.example.com\",\"NodeID\":\"m\",\"TopologyKeys\":null,\"Allocatable\":null}: field is immutable",
            ],
        );
    }
}
