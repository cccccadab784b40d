//! `csistoragecapacities` of storage.k8s.io: how much a driver can still make in a part of the cluster.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-1472.

use crate::field_path::{Errors, Path};
use crate::json::{Map, Value};
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, labels, names, node_labels, quantities, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::text("StorageClassName").of("storageClassName"),
        Column::text("Capacity").of("capacity"),
    ],
    describe: describe::<k8s_openapi::api::storage::v1::CSIStorageCapacity>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &CsiStorageCapacity,
    ..Kind::BASE
};

struct CsiStorageCapacity;

impl Hooks for CsiStorageCapacity {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = labels::validate_selector(object.get("nodeTopology"), &Path::new("nodeTopology"));
        let class = value::text(object, "storageClassName");
        labels::invalid(&mut errors, &Path::new("storageClassName"), class, names::dns_subdomain(class));
        if let Some(capacity) = object.get("capacity").filter(|capacity| !capacity.is_null()) {
            quantities::not_negative(&mut errors, capacity, &Path::new("capacity"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "nodeTopology", "*LabelSelector");
        rules::unchanged_text(&mut errors, new, old, "storageClassName");
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        // A label selector has its expressions in the form of a node selector's term; its labels come beside them.
        let selector = new.get("nodeTopology").unwrap_or(&Value::Null);
        let mut warnings = node_labels::warnings_of_term(selector, &Path::new("nodeTopology"));
        for key in labels::map(selector, "matchLabels").into_iter().flat_map(Map::keys) {
            if let Some(why) = node_labels::deprecated(key) {
                warnings.push(format!("nodeTopology.matchLabels.{key}: {why}"));
            }
        }
        warnings
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        vec![
            cells::name(object),
            cells::text(object, "storageClassName"),
            cells::text_or(object, "capacity", "<unset>"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let sound = json!({"metadata": {"name": "a"}, "storageClassName": "fast", "capacity": "1Gi",
            "nodeTopology": {"matchLabels": {"zone": "a"}}});
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["a", "fast", "1Gi"]));
        testing::invalid(
            &KIND,
            &json!({"storageClassName": "fast", "capacity": "-1", "nodeTopology": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            &[
                "nodeTopology.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        );
        let mut other = sound.clone();
        value::set(&mut other, "capacity", "2Gi");
        value::set(&mut other, "storageClassName", "slow");
        testing::invalid_update(
            &KIND,
            &other,
            &sound,
            &["storageClassName: Invalid value: \"slow\": field is immutable"],
        );
    }
}
