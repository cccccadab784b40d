//! `csidrivers` of storage.k8s.io: what a storage driver can do and wants.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::gated::Gated;
use crate::json::{Value, json};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    returns_deleted: true,
    generation: true,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired").of("spec.attachRequired"),
        Column::boolean("PodInfoOnMount").of("spec.podInfoOnMount"),
        Column::boolean("StorageCapacity").of("spec.storageCapacity"),
        Column::text("TokenRequests").of("spec.tokenRequests"),
        Column::boolean("RequiresRepublish").of("spec.requiresRepublish"),
        Column::text("Modes").of("spec.volumeLifecycleModes"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::storage::v1::CSIDriver>,
    gated: &[Gated { path: "spec.preventPodSchedulingIfMissing", gate: "VolumeLimitScaling" }],
    hooks: &CsiDriver,
    ..Kind::BASE
};

struct CsiDriver;

/// How long a token of a driver lives, in seconds.
const LIFETIME: (i64, i64) = (600, 1 << 32);

const UNSET: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
                     possible logging of tokens in volume attributes";

impl Hooks for CsiDriver {
    fn default(&self, object: &mut Value) {
        for (field, otherwise) in [
            ("attachRequired", json!(true)),
            ("podInfoOnMount", json!(false)),
            ("storageCapacity", json!(false)),
            ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("volumeLifecycleModes", json!(["Persistent"])),
            ("requiresRepublish", json!(false)),
            ("seLinuxMount", json!(false)),
        ] {
            let given = value::get(object, &format!("spec.{field}"));
            // An empty policy is one, which is refused; an empty list is none.
            if given.is_none_or(|given| given.is_null() || given.is_array() && rules::is_zero(given)) {
                value::set(object, &format!("spec.{field}"), otherwise);
            }
        }
    }

    // Upstream counts the changes of a driver, but not its beginning.
    fn prepare_create(&self, object: &mut Value) {
        value::remove(object, "metadata.generation");
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        // The first is upstream's name of the field in errors.
        let required = |errors: &mut Errors, name: &str, shown: &str| {
            if spec.get(name).is_none_or(Value::is_null) {
                errors.push(FieldError::required(&field.child(shown), ""));
            }
        };
        required(&mut errors, "attachRequired", "attachedRequired");
        required(&mut errors, "podInfoOnMount", "podInfoOnMount");
        required(&mut errors, "storageCapacity", "storageCapacity");
        rules::given_one_of(&mut errors, spec, "fsGroupPolicy", &field, &["File", "None", "ReadWriteOnceWithFSType"]);
        token_requests(&mut errors, value::items(spec, "tokenRequests"), &field.child("tokenRequests"));
        let modes = field.child("volumeLifecycleModes");
        for mode in value::items(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
            if !matches!(mode, "Ephemeral" | "Persistent") {
                errors.push(FieldError::not_supported_as_listed(&modes, mode, &["Persistent", "Ephemeral"]));
            }
        }
        required(&mut errors, "seLinuxMount", "seLinuxMount");
        if let Some(seconds) = value::int(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|seconds| *seconds < 10) {
            let field = field.child("nodeAllocatableUpdatePeriodSeconds");
            errors.push(FieldError::invalid(&field, seconds, "must be greater than or equal to 10 seconds"));
        }
        let in_secrets = spec.get("serviceAccountTokenInSecrets").filter(|flag| !flag.is_null());
        if let Some(flag) = in_secrets.filter(|_| value::items(spec, "tokenRequests").is_empty()) {
            let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(FieldError::invalid(&field.child("serviceAccountTokenInSecrets"), flag.clone(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        for (name, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let get = |object| value::get(object, &format!("spec.{name}")).cloned();
            if get(new) != get(old) {
                let field = Path::new("spec").child(shown);
                errors.push(FieldError::invalid(&field, get(new).unwrap_or_default(), rules::IMMUTABLE));
            }
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let requests = |object| value::items(object, "spec.tokenRequests");
        let fresh = !requests(new).is_empty() && old.is_none_or(|old| requests(old) != requests(new));
        let said = value::get(new, "spec.serviceAccountTokenInSecrets").is_some_and(|flag| !flag.is_null());
        if fresh && !said { vec![UNSET.to_owned()] } else { Vec::new() }
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let flag = |name: &str, otherwise: bool| {
            value::get(object, &format!("spec.{name}")).and_then(Value::as_bool).unwrap_or(otherwise).into()
        };
        let modes: Vec<&str> =
            value::items(object, "spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
        let requests = value::items(object, "spec.tokenRequests");
        vec![
            cells::name(object),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            if requests.is_empty() { "<unset>".into() } else { cells::joined(requests, "audience").into() },
            flag("requiresRepublish", false),
            if modes.is_empty() { "<none>".into() } else { modes.join(",").into() },
            cells::age(object, now),
        ]
    }
}

fn token_requests(errors: &mut Errors, requests: &[Value], field: &Path) {
    for (i, request) in requests.iter().enumerate() {
        let field = field.index(i);
        let audience = value::text(request, "audience");
        if requests.iter().take(i).any(|other| value::text(other, "audience") == audience) {
            errors.push(FieldError::duplicate(&field.child("audience"), audience));
            continue;
        }
        let Some(seconds) = value::int(request, "expirationSeconds") else { continue };
        let field = field.child("expirationSeconds");
        if seconds < LIFETIME.0 {
            errors.push(FieldError::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > LIFETIME.1 {
            errors.push(FieldError::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    fn sound() -> Value {
        let mut object = json!({"metadata": {"name": "disk.example.com"}});
        KIND.hooks.default(&mut object);
        object
    }

    #[test]
    fn rules() {
        testing::invalid(&KIND, &sound(), &[]);
        let cells = json!(["disk.example.com", true, false, false, "<unset>", false, "Persistent", "<unknown>"]);
        testing::row(&KIND, &sound(), &cells);
        testing::invalid(
            &KIND,
            &json!({"spec": {"fsGroupPolicy": "x", "volumeLifecycleModes": ["y"], "nodeAllocatableUpdatePeriodSeconds": 9,
                "tokenRequests": [{"audience": "a", "expirationSeconds": 599}, {"audience": "a"}]}}),
            &[
                "spec.attachedRequired: Required value",
                "spec.podInfoOnMount: Required value",
                "spec.storageCapacity: Required value",
                "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.volumeLifecycleModes: Unsupported value: \"y\": supported values: \"Persistent\", \"Ephemeral\"",
                "spec.seLinuxMount: Required value",
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ],
        );
        let mut empty = sound();
        value::set(&mut empty, "spec.fsGroupPolicy", "");
        KIND.hooks.default(&mut empty);
        let why = "spec.fsGroupPolicy: Unsupported value: \"\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"";
        testing::invalid(&KIND, &empty, &[why]);
        let mut other = sound();
        value::set(&mut other, "spec.attachRequired", false);
        value::set(&mut other, "spec.podInfoOnMount", true);
        testing::invalid_update(
            &KIND,
            &other,
            &sound(),
            &["spec.attachedRequired: Invalid value: false: field is immutable"],
        );
    }

    #[test]
    fn tokens_in_attributes_are_warned_of() {
        let mut asking = sound();
        value::set(&mut asking, "spec.tokenRequests", json!([{"audience": "a"}]));
        assert_eq!(KIND.hooks.warnings(&asking, None), [UNSET]);
        assert_eq!(KIND.hooks.warnings(&asking, Some(&sound())), [UNSET]);
        assert!(KIND.hooks.warnings(&asking, Some(&asking)).is_empty());
        value::set(&mut asking, "spec.serviceAccountTokenInSecrets", false);
        assert!(KIND.hooks.warnings(&asking, None).is_empty());
        let mut alone = sound();
        value::set(&mut alone, "spec.serviceAccountTokenInSecrets", true);
        let sentence = "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no \
                        tokenRequests are specified";
        testing::invalid(&KIND, &alone, &[sentence]);
    }
}
