//! `resourceclaims` of resource.k8s.io: devices that pods need, and which they got.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Demand, Gvk, Hooks, Kind, Occasion, Part, Subresource, Verb, describe};
use crate::kinds::shared::{cells, device_claims, device_results, parts, rules};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    subresources: &[Subresource {
        name: "status",
        gvk: Gvk { group: "resource.k8s.io", version: "v1", kind: "ResourceClaim" },
        verbs: Verb::PART,
        part: Part::View { merge: with_status },
    }],
    resets: &[("status", &[&["metadata"], &["spec"]])],
    columns: &[
        Column::NAME,
        Column::text("State").says("A summary of the current state (allocated, pending, reserved, etc.)."),
        Column::AGE,
    ],
    returns_deleted: true,
    describe: describe::<k8s_openapi::api::resource::v1::ResourceClaim>,
    judgement: Judgement::NEW_THEN_CHANGE,
    hooks: &ResourceClaim,
    ..Kind::BASE
};

struct ResourceClaim;

impl Hooks for ResourceClaim {
    fn default(&self, object: &mut Value) {
        device_claims::default(object, "spec");
    }

    fn validate(&self, object: &Value) -> Errors {
        device_claims::validate(object.get("spec").unwrap_or(&Value::Null), &Path::new("spec"))
    }

    fn revalidate(&self, _new: &Value, _old: &Value) -> Errors {
        // The spec stays as it is, and so need not be judged again.
        Errors::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_struct(&mut errors, new, old, "spec", "ResourceClaimSpec");
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        device_results::validate(new, old)
    }

    fn demands(&self, part: &str, new: &Value, old: Option<&Value>, occasion: &Occasion<'_>) -> Vec<Demand> {
        match (part, old) {
            ("", None) => device_claims::admin_access(new, "spec.devices.requests").into_iter().collect(),
            ("status", Some(old)) => device_results::demands(new, old, occasion),
            _ => Vec::new(),
        }
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), state(object).into(), cells::age(object, now)]
    }
}

/// Status alone; results of what is no longer allocated go.
pub(crate) fn with_status(new: Value, old: &Value) -> Value {
    let mut object = parts::status_alone(new, old);
    device_results::drop_deallocated(&mut object, old);
    object
}

fn state(claim: &Value) -> String {
    let allocated = value::get(claim, "status.allocation").is_some_and(|allocation| !allocation.is_null());
    let deleted = meta::is_deleting(claim);
    let reserved = allocated && !value::items(claim, "status.reservedFor").is_empty();
    let states =
        [(deleted, "deleted"), (!allocated && !deleted, "pending"), (allocated, "allocated"), (reserved, "reserved")];
    states.into_iter().filter(|(holds, _)| *holds).map(|(_, state)| state).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    fn claim(devices: Value) -> Value {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "a"}});
        value::set(&mut claim, "spec.devices", devices);
        claim
    }

    fn sound() -> Value {
        claim(json!({
            "requests": [
                {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1}},
                {"name": "nic", "firstAvailable": [
                    {"name": "fast", "deviceClassName": "fast", "allocationMode": "All"},
                    {"name": "slow", "deviceClassName": "slow", "allocationMode": "ExactCount", "count": 2}]}],
            "constraints": [{"requests": ["gpu", "nic/fast"], "matchAttribute": "example.com/numa"}],
            "config": [{"requests": ["nic"], "opaque": {"driver": "a", "parameters": {}}}]}))
    }

    #[test]
    fn one_device_is_wanted_unless_said_otherwise() {
        let bare = claim(json!({"requests": [{"exactly": {}}, {"firstAvailable": [{"allocationMode": "All"}, {}]}]}));
        let one = json!({"allocationMode": "ExactCount", "count": 1});
        testing::defaults(
            &KIND,
            bare,
            &claim(json!({"requests": [{"exactly": one}, {"firstAvailable": [{"allocationMode": "All"}, one]}]})),
        );
        testing::defaults(&KIND, sound(), &sound());
    }

    #[test]
    fn requests_are_judged() {
        testing::invalid(&KIND, &sound(), &[]);
        testing::invalid(
            &KIND,
            &claim(json!({
                "requests": [
                    {"name": "a"},
                    {"name": "a", "exactly": {}, "firstAvailable": [{}]},
                    {"name": "b", "exactly": {"allocationMode": "All", "count": 1, "deviceClassName": "x"}},
                    {"name": "c", "exactly": {"allocationMode": "Some", "deviceClassName": "x", "tolerations": [
                        {"operator": "Exists", "value": "v"}, {"operator": "Near", "effect": "Bad"}]}},
                    {"name": "d", "firstAvailable": [
                        {"name": "e", "deviceClassName": "x", "allocationMode": "ExactCount", "count": -1},
                        {"name": "e", "allocationMode": "All"}]}],
                "constraints": [{"requests": ["z", "d/e", "d/f", "a/b/c"], "distinctAttribute": "numa"}, {}],
                "config": [{"requests": ["b", "b"]}]})),
            &[
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but \
                 multiple fields are set",
                "spec.devices.requests[2].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
                "spec.devices.requests[3].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \
                 \"ExactCount\"",
                "spec.devices.requests[3].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
                "spec.devices.requests[3].exactly.tolerations[1].operator: Unsupported value: \"Near\": supported values: \
                 \"Equal\", \"Exists\"",
                "spec.devices.requests[3].exactly.tolerations[1].effect: Unsupported value: \"Bad\": supported values: \
                 \"NoExecute\", \"NoSchedule\", \"None\"",
                "spec.devices.requests[4].firstAvailable[0].count: Invalid value: -1: must be greater than zero",
                "spec.devices.requests[4].firstAvailable[1].deviceClassName: Required value",
                "spec.devices.requests[4].firstAvailable[1]: Duplicate value: \"e\"",
                "spec.devices.requests[1]: Duplicate value: \"a\"",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"z\": must be the name of a request in the claim or \
                 the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].requests[2]: Invalid value: \"d/f\": must be the name of a request in the claim \
                 or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].requests[3]: Invalid value: \"a/b/c\": must be the name of a request in the \
                 claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].distinctAttribute: Invalid value: \"numa\": a fully qualified name must be a \
                 domain and a name separated by a slash",
                "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is \
                 required, but multiple fields are set",
                "spec.devices.config[0].requests[1]: Duplicate value: \"b\"",
                "spec.devices.config[0].opaque: Required value",
            ],
        );
        let many = claim(json!({"requests": vec![json!({}); 33]}));
        testing::invalid(&KIND, &many, &["spec.devices.requests: Too many: 33: must have at most 32 items"]);
        let errors = testing::shown(&KIND.hooks.validate_update(&claim(json!({})), &sound()));
        assert!(errors.len() == 1 && errors[0].ends_with(": field is immutable"), "{errors:?}");
    }

    #[test]
    fn a_claim_gets_its_devices_once() {
        let with = |status: Value| {
            let mut object = sound();
            value::set(&mut object, "status", status);
            object
        };
        let check = |new: &Value, old: &Value| testing::shown(&KIND.hooks.validate_part("status", new, old));
        let device = json!({"driver": "gpu.example.com", "pool": "n", "device": "gpu-0"});
        let mut result = device.clone();
        value::set(&mut result, "request", "gpu");
        let allocation = json!({"devices": {"results": [result]}});
        let user = json!({"resource": "pods", "name": "p", "uid": "1"});
        let allocated = with(json!({"allocation": allocation, "reservedFor": [user], "devices": [device]}));
        assert_eq!(check(&allocated, &sound()), [""; 0]);
        assert_eq!(
            check(&with(json!({"reservedFor": [user, {"uid": "1"}], "devices": [device]})), &sound()),
            [
                "status.reservedFor[1].resource: Required value",
                "status.reservedFor[1].name: Required value",
                "status.reservedFor[1]: Duplicate value: \"1\"",
                "status.devices[0]: Invalid value: {\"Driver\":\"gpu.example.com\",\"Pool\":\"n\",\"Device\":\"gpu-0\",\"ShareID\":\"\"}: \
                 must be an allocated device in the claim",
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ]
        );
        let mut other = allocated.clone();
        value::set(&mut other, "status.allocation.devices.results", json!([]));
        let errors = check(&other, &allocated);
        assert!(errors.last().unwrap().starts_with("status.allocation: Invalid value: "), "{errors:?}");
        // What drivers said of devices goes with them, and metadata stays.
        let mut freed = allocated.clone();
        value::remove(&mut freed, "status.allocation");
        value::remove(&mut freed, "status.reservedFor");
        value::set(&mut freed, "metadata.labels", json!({"a": "b"}));
        assert_eq!(with_status(freed, &allocated), with(json!({})));
        assert_eq!(
            check(
                &with(json!({"allocation": {"devices": {
                    "results": [{"request": "x", "driver": "", "pool": "", "device": "A"}],
                    "config": [{"source": "Else", "opaque": {"driver": "a", "parameters": {}}}]},
                    "nodeSelector": {"nodeSelectorTerms": []}}})),
                &sound()
            )
            .iter()
            .map(|error| error.split(": ").take(2).collect::<Vec<_>>().join(": "))
            .collect::<Vec<_>>(),
            [
                "status.allocation.devices.results[0].request: Invalid value",
                "status.allocation.devices.results[0].driver: Required value",
                "status.allocation.devices.results[0].pool: Required value",
                "status.allocation.devices.results[0].device: Invalid value",
                "status.allocation.devices.config[0].source: Unsupported value",
                "status.allocation.nodeSelector.nodeSelectorTerms: Required value",
            ]
        );
        // Nobody new while it goes.
        let mut going = allocated.clone();
        value::set(&mut going, "metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        let mut more = going.clone();
        value::set(&mut more, "status.reservedFor", json!([user, {"resource": "pods", "name": "q", "uid": "2"}]));
        assert_eq!(
            check(&more, &going),
            ["status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or \
              `deletionTimestamp` are set"]
        );
        for (object, cell) in
            [(&sound(), "pending"), (&allocated, "allocated,reserved"), (&going, "deleted,allocated,reserved")]
        {
            assert_eq!(state(object), cell);
        }
    }

    #[test]
    fn who_may_say_what_a_claim_got() {
        use crate::kind::{Condition, Writer};
        let device = |name: &str, driver: &str| json!({"driver": driver, "pool": "n", "device": name});
        let with = |devices: Value, users: Value| {
            let mut object = sound();
            let results = json!([{"adminAccess": true}]);
            let selector = json!({"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
            let allocation = json!({"devices": {"results": results}, "nodeSelector": selector});
            value::set(
                &mut object,
                "status",
                json!({"allocation": allocation, "devices": devices, "reservedFor": users}),
            );
            object
        };
        let node = [("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])].into();
        let none = std::collections::BTreeMap::new();
        let ask = |new: &Value, old: &Value, name: &str, extra| {
            let writer = Writer { name, uid: "", groups: &[], extra };
            KIND.hooks
                .demands("status", new, Some(old), &Occasion { now: "", writer, verb: "patch" })
                .into_iter()
                .map(|demand| match demand.condition {
                    Condition::NamespaceLabel { .. } => demand.error.to_string(),
                    Condition::Right { verbs, subresource, in_namespace, name } => {
                        format!("{} {subresource} {in_namespace} {name}", verbs.join(","))
                    }
                })
                .collect::<Vec<_>>()
        };
        let before = with(json!([device("a", "x"), device("b", "y"), device("c", "z")]), json!([]));
        let mut changed = device("b", "y");
        value::set(&mut changed, "data", json!({}));
        let after = with(json!([device("a", "x"), changed]), json!([]));
        assert_eq!(ask(&before, &before, "s", &none), [""; 0]);
        assert_eq!(
            ask(&after, &before, "s", &node),
            ["arbitrary-node:patch driver true y", "arbitrary-node:patch driver true z"]
        );
        let account = "system:serviceaccount:a:b";
        let either = "associated-node:patch,arbitrary-node:patch driver true";
        assert_eq!(ask(&after, &before, account, &node), [format!("{either} y"), format!("{either} z")]);
        assert_eq!(
            ask(&with(json!([]), json!([{}])), &with(json!([]), json!([])), "s", &none),
            ["patch binding false "]
        );
        assert_eq!(
            ask(&with(json!([]), json!([])), &sound(), "s", &none),
            [
                "status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices requires the \
                 `resource.kubernetes.io/admin-access: true` label on the containing namespace",
                "patch binding false ",
            ]
        );
    }

    #[test]
    fn networks_of_devices() {
        let device = json!({"driver": "a", "pool": "n", "device": "d", "shareID": "x", "data": [],
            "conditions": vec![json!({}); 9], "networkData": {"interfaceName": "x".repeat(257),
                "hardwareAddress": "x".repeat(129), "ips": ["10.0.0.1/24", "10.0.0.1/24", "::ffff:10.0.0.2/120", "x"]}});
        let mut object = sound();
        value::set(&mut object, "status.allocation.devices.results", json!([device]));
        value::set(&mut object, "status.devices", json!([device]));
        let errors = testing::shown(&KIND.hooks.validate_part("status", &object, &object));
        for sentence in [
            "status.devices[0].shareID: Invalid value: \"x\": error validating uid: invalid UUID length: 1",
            "status.devices[0].conditions: Too many: 9: must have at most 8 items",
            "status.devices[0].data: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
            "status.devices[0].networkData.hardwareAddress: Too long: may not be more than 128 bytes",
            "status.devices[0].networkData.ips[2]: Invalid value: \"::ffff:10.0.0.2/120\": must be in canonical form \
             (\"10.0.0.2/24\")",
            "status.devices[0].networkData.ips[3]: Invalid value: \"x\": must be a valid address in CIDR form, (e.g. \
             10.9.8.7/24 or 2001:db8::1/64)",
            "status.devices[0].networkData.ips[1]: Duplicate value: \"10.0.0.1/24\"",
        ] {
            assert!(errors.iter().any(|error| error == sentence), "{sentence}\n{errors:#?}");
        }
    }
}
