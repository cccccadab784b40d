//! `resourceslices` of resource.k8s.io: devices of a driver's pool.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks, Kind, Occasion, Selectable, describe};
use crate::kinds::shared::{cells, device_slices};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    namespaced: false,
    generation: true,
    columns: &[
        Column::NAME,
        Column::text("Node").of("spec.nodeName"),
        Column::text("Driver").of("spec.driver"),
        Column::text("Pool").of("spec.pool.name"),
        Column::AGE,
    ],
    selectable: &[
        Selectable { name: "spec.nodeName", value: |slice| value::text(slice, "spec.nodeName").to_owned() },
        Selectable { name: "spec.driver", value: |slice| value::text(slice, "spec.driver").to_owned() },
    ],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::resource::v1::ResourceSlice>,
    hooks: &ResourceSlice,
    ..Kind::BASE
};

struct ResourceSlice;

impl Hooks for ResourceSlice {
    fn prepare_create(&self, object: &mut Value) {
        device_slices::drop_disabled(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        device_slices::drop_disabled(new, Some(old));
    }

    fn stamp(&self, _part: &str, new: &mut Value, _old: Option<&Value>, occasion: &Occasion<'_>) {
        device_slices::stamp(new, occasion.now);
    }

    fn validate(&self, object: &Value) -> Errors {
        device_slices::validate(spec(object), None, &Path::new("spec"))
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        device_slices::validate(spec(new), Some(spec(old)), &Path::new("spec"))
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let driver = value::text(new, "spec.driver");
        let warning =
            format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters");
        if driver == driver.to_lowercase() { Vec::new() } else { vec![warning] }
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            cells::name(object),
            cells::text(object, "spec.nodeName"),
            cells::text(object, "spec.driver"),
            cells::text(object, "spec.pool.name"),
            cells::age(object, now),
        ]
    }
}

fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn slice(devices: Value) -> Value {
        let mut slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "gpu.example.com", "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}}});
        value::set(&mut slice, "spec.devices", devices);
        slice
    }

    fn invalid(devices: Value, sentences: &[&str]) {
        testing::invalid(&KIND, &slice(devices), sentences);
    }

    #[test]
    fn slices_say_where_their_devices_are() {
        let sound = slice(json!([{"name": "gpu-0", "attributes": {"model": {"string": "x"}, "a.b/numa": {"int": 1}},
            "capacity": {"memory": {"value": "8Gi"}}}]));
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["s", "n", "gpu.example.com", "n", "<unknown>"]));
        testing::invalid(
            &KIND,
            &json!({"spec": {"nodeName": "", "allNodes": false, "pool": {"generation": -1}}}),
            &[
                "spec.driver: Required value",
                "spec.pool.name: Required value",
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
                "spec.nodeName: Invalid value: \"\": must be either unset or set to a non-empty string",
                "spec.allNodes: Invalid value: false: must be either unset or set to true",
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
                 required",
            ],
        );
        let mut both = sound.clone();
        value::set(&mut both, "spec.allNodes", true);
        value::set(&mut both, "spec.nodeSelector", json!({"nodeSelectorTerms": []}));
        value::set(
            &mut both,
            "spec.sharedCounters",
            json!([{"name": "a", "counters": {"b": {"value": "1"}}}, {"name": "a"}]),
        );
        testing::invalid(
            &KIND,
            &both,
            &[
                "spec.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
                "spec.nodeSelector.nodeSelectorTerms: Invalid value: []: must have exactly one node selector term",
                "spec: Invalid value: \"{`nodeName`, `nodeSelector`, `allNodes`}\": exactly one of `nodeName`, \
                 `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
                "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
                "spec.sharedCounters[1].counters: Required value",
                "spec.sharedCounters[1]: Duplicate value: \"a\"",
            ],
        );
        let mut moved = sound.clone();
        value::set(&mut moved, "spec.nodeName", "m");
        value::set(&mut moved, "spec.pool.name", "m");
        assert_eq!(
            testing::shown(&KIND.hooks.revalidate(&moved, &sound)),
            [
                "spec.pool.name: Invalid value: \"m\": field is immutable",
                "spec.nodeName: Invalid value: \"m\": field is immutable",
            ]
        );
        let mut shouting = sound;
        value::set(&mut shouting, "spec.driver", "GPU.example.com");
        assert_eq!(
            KIND.hooks.warnings(&shouting, None),
            ["spec.driver: driver names should be lowercase; \"GPU.example.com\" contains uppercase characters"]
        );
    }

    #[test]
    fn devices_are_judged() {
        invalid(
            json!([
                {"name": "a", "attributes": {"v": {"version": "1.2"}}, "capacity": {"c": {"value": "1", "requestPolicy": {}}}},
                {"name": "a", "attributes": {"e": {}, "f": {"int": 1, "bool": true}, "s": {"string": "x".repeat(65)}}},
                {"name": "b", "taints": [{"key": "k", "effect": "Bad"}], "nodeName": "n"},
                {"name": "c", "consumesCounters": [{"counterSet": "x"}, {"counterSet": "x", "counters": {"A": {}}}]}]),
            &[
                "spec.devices[0].attributes[v].version: Invalid value: \"1.2\": must be a string compatible with semver.org \
                 spec 2.0.0",
                "spec.devices[0].capacity[c].requestPolicy: Forbidden: allowMultipleAllocations must be true",
                "spec.devices[1].attributes[e]: Invalid value: \"\": exactly one value must be specified",
                &format!(
                    "spec.devices[1].attributes[f]: Invalid value: {}: exactly one value must be specified",
                    json!({"int": 1, "bool": true})
                ),
                "spec.devices[1].attributes[s].string: Too long: may not be more than 64 bytes",
                "spec.devices[2].taints[0].effect: Unsupported value: \"Bad\": supported values: \"NoExecute\", \
                 \"NoSchedule\", \"None\"",
                "spec.devices[2]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if \
                 `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
                "spec.devices[3].consumesCounters[0].counters: Required value",
                "spec.devices[3].consumesCounters[1].counters: Invalid value: \"A\": a lowercase RFC 1123 label must consist \
                 of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. \
                 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.devices[3].consumesCounters[1]: Duplicate value: \"x\"",
                "spec.devices[1]: Duplicate value: \"a\"",
            ],
        );
        let many = |extra: Value| {
            let mut device = extra;
            (0..129)
                .map(|i| {
                    value::set(&mut device, "name", format!("d{i}"));
                    device.clone()
                })
                .collect::<Vec<_>>()
        };
        invalid(json!(many(json!({}))), &["spec.devices: Too many: 129: must have at most 128 items"]);
        let tainted = json!({"taints": [{"key": "k", "effect": "None"}]});
        invalid(json!(many(tainted)), &["spec.devices: Too many: 129: must have at most 64 items"]);
        let attributes: Value =
            (0..33).map(|i| (format!("a{i}"), json!({"int": i}))).collect::<crate::json::Map>().into();
        invalid(
            json!([{"name": "a", "attributes": attributes}]),
            &["spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"],
        );
    }

    #[test]
    fn devices_may_be_used_by_themselves() {
        let mut each = slice(
            json!([{"name": "a", "allNodes": true}, {"name": "b"}, {"name": "c", "nodeName": "n", "allNodes": true}]),
        );
        value::remove(&mut each, "spec.nodeName");
        value::set(&mut each, "spec.perDeviceNodeSelection", true);
        let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set \
                   to true in the ResourceSlice spec";
        testing::invalid(
            &KIND,
            &each,
            &[
                &format!("spec.devices[1]: Required value: {one}"),
                &format!("spec.devices[2]: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one}"),
            ],
        );
    }

    #[test]
    fn capacities_are_taken_by_policy() {
        let device = |policy: Value| {
            json!([{"name": "a", "allowMultipleAllocations": true,
                "capacity": {"c": {"value": "10", "requestPolicy": policy}}}])
        };
        let field = "spec.devices[0].capacity[c].requestPolicy";
        for (policy, sentences) in [
            (json!({"default": "2", "validValues": ["1", "2"]}), vec![]),
            (json!({"default": "2", "validRange": {"min": "1", "max": "9", "step": "1"}}), vec![]),
            (json!({"validValues": ["1"]}), vec![".default: Required value: required when validValues is defined"]),
            (json!({"validRange": {}}), vec![".default: Required value: required when validRange is defined"]),
            (
                json!({"default": "1", "validRange": {}}),
                vec![".validRange.min: Required value: required when validRange is defined"],
            ),
            (
                json!({"default": "1", "validValues": ["1"], "validRange": {"min": "1"}}),
                vec![
                    ": Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at \
                      the same time",
                ],
            ),
            (
                json!({"default": "5", "validValues": ["2", "1", "11", "1"]}),
                vec![
                    ".validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                    ".validValues[3]: Invalid value: \"1\": values must be sorted in ascending order",
                    ".validValues[2]: Invalid value: \"11\": option is larger than capacity value: 10",
                    ".validValues[3]: Duplicate value: \"1\"",
                    ".validValues: Invalid value: \"5\": default value is not valid according to the requestPolicy",
                ],
            ),
            (
                json!({"default": "12", "validRange": {"min": "2", "max": "11", "step": "9"}}),
                vec![
                    ".validRange.max: Invalid value: \"11\": max is larger than capacity value: 10",
                    ".validRange.max: Invalid value: \"12\": default is more than max: 11",
                    ".validRange.step: Invalid value: \"9\": one step 11 is larger than capacity value: 10",
                    ".validRange.step: Invalid value: \"12\": value is not a multiple of a given step (9) from (2)",
                ],
            ),
            (
                json!({"default": "1", "validRange": {"min": "2", "step": "0"}}),
                vec![
                    ".validRange.min: Invalid value: \"1\": default is less than min: 2",
                    ".validRange.step: Invalid value: \"1\": value is not a multiple of a given step (0) from (2)",
                ],
            ),
        ] {
            let sentences: Vec<String> = sentences.iter().map(|sentence| format!("{field}{sentence}")).collect();
            invalid(device(policy), &sentences.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn features_that_are_off_leave_no_trace() {
        let device = |attribute: Value, mapped: bool| {
            let mut device =
                json!({"name": "a", "attributes": {"x": attribute}, "taints": [{"key": "k", "effect": "None"}]});
            if mapped {
                value::set(&mut device, "nodeAllocatableResourceMappings", json!({"cpu": {}}));
            }
            slice(json!([device]))
        };
        let mut new = device(json!({"ints": [1]}), true);
        KIND.hooks.prepare_create(&mut new);
        assert_eq!(new, device(json!({}), false));
        let old = device(json!({"ints": [1]}), true);
        let mut kept = old.clone();
        KIND.hooks.prepare_update(&mut kept, &old);
        assert_eq!(kept, old);
        KIND.hooks.stamp("", &mut kept, None, &testing::occasion("1"));
        assert_eq!(kept["spec"]["devices"][0]["taints"][0]["timeAdded"], "1");
    }
}
