//! `leasecandidates` of coordination.k8s.io: who would hold a lease, in which version.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-4355.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Deprecated, Hooks, Kind, Selectable, describe};
use crate::kinds::shared::semver::Version;
use crate::kinds::shared::{cells, labels, names, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1beta1",
    kind: "LeaseCandidate",
    plural: "leasecandidates",
    singular: "leasecandidate",
    create_on_update: true,
    unconditional_update: false,
    deprecated: Some(Deprecated::until("1.36", "1.39")),
    columns: &[
        Column::NAME,
        // In the words of v1alpha2.
        Column::text("LeaseName").says(
            "LeaseName is the name of the lease for which this candidate is contending. This field is immutable.",
        ),
        Column::text("BinaryVersion"),
        Column::text("EmulationVersion"),
        Column::AGE,
    ],
    selectable: &[Selectable { name: "spec.leaseName", value: |object| lease(object).to_owned() }],
    describe: describe::<k8s_openapi::api::coordination::v1beta1::LeaseCandidate>,
    judgement: Judgement::USUAL.any_finalizer(),
    hooks: &LeaseCandidate,
    short_history: true,
    ..Kind::BASE
};

fn lease(object: &Value) -> &str {
    value::text(object, "spec.leaseName")
}

struct LeaseCandidate;

/// The strategy that Kubernetes itself defines; others have a domain in their name.
const OLDEST: &str = "OldestEmulationVersion";

impl Hooks for LeaseCandidate {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        rules::required(&mut errors, spec, "leaseName", &field);
        let emulation = version(&mut errors, spec, "emulationVersion");
        rules::required(&mut errors, spec, "binaryVersion", &field);
        let binary = version(&mut errors, spec, "binaryVersion");
        let (said, shown) = (|name| !value::text(spec, name).is_empty(), value::text(spec, "binaryVersion"));
        if said("emulationVersion") && said("binaryVersion") && binary < emulation {
            let detail = "must be greater than or equal to `emulationVersion`";
            errors.push(FieldError::invalid(&field.child("binaryVersion"), shown, detail));
        }
        let strategy = rules::required(&mut errors, spec, "strategy", &field);
        if strategy == OLDEST && emulation == Version::default() {
            let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
            errors.push(FieldError::required(&field.child("emulationVersion"), detail));
        }
        // The field's name comes twice, upstream too.
        let at = field.child("strategy.strategy");
        match strategy {
            "" | OLDEST => {}
            _ if strategy.contains('/') => labels::invalid(&mut errors, &at, strategy, names::qualified_name(strategy)),
            _ => errors.push(FieldError::not_supported(&at, strategy, &[OLDEST])),
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, "spec.leaseName");
        errors
    }

    fn name_errors(&self, _object: &Value, name: &str, _prefix: bool) -> Vec<String> {
        names::config_key(name)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut row = vec![cells::name(object)];
        row.extend(
            ["leaseName", "binaryVersion", "emulationVersion"].map(|f| cells::text(object, &format!("spec.{f}"))),
        );
        row.push(cells::age(object, now));
        row
    }
}

/// The version at `name`; 0.0.0 when it is absent or none.
fn version(errors: &mut Errors, spec: &Value, name: &str) -> Version {
    let text = value::text(spec, name);
    let read = Version::read(text);
    if read.is_none() && !text.is_empty() {
        let field = Path::new("spec").child(name);
        errors.push(FieldError::invalid(&field, text, "must be a valid semantic version"));
    }
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn versions_and_strategies() {
        let sound =
            json!({"leaseName": "a", "binaryVersion": "1.36.0", "emulationVersion": "1.35.0", "strategy": OLDEST});
        let check = |change: Value, sentences: &[&str]| {
            let mut spec = sound.clone();
            for (name, value) in change.as_object().unwrap() {
                value::set(&mut spec, name, value.clone());
            }
            testing::invalid(&KIND, &json!({"spec": spec}), sentences);
        };
        check(json!({}), &[]);
        check(json!({"strategy": "acme.io/newest", "emulationVersion": ""}), &[]);
        check(
            json!({"strategy": "newest"}),
            &["spec.strategy.strategy: Unsupported value: \"newest\": supported values: \"OldestEmulationVersion\""],
        );
        check(
            json!({"strategy": "/x"}),
            &["spec.strategy.strategy: Invalid value: \"/x\": prefix part must be non-empty"],
        );
        check(
            json!({"emulationVersion": ""}),
            &["spec.emulationVersion: Required value: must be specified when `strategy` is 'OldestEmulationVersion'"],
        );
        check(
            json!({"emulationVersion": "1.36.1"}),
            &["spec.binaryVersion: Invalid value: \"1.36.0\": must be greater than or equal to `emulationVersion`"],
        );
        check(
            json!({"binaryVersion": "v1", "emulationVersion": "0.0.0", "strategy": "a/b"}),
            &["spec.binaryVersion: Invalid value: \"v1\": must be a valid semantic version"],
        );
        testing::invalid(
            &KIND,
            &json!({}),
            &["spec.leaseName: Required value", "spec.binaryVersion: Required value", "spec.strategy: Required value"],
        );
        testing::invalid_update(
            &KIND,
            &json!({"spec": {"leaseName": "b"}}),
            &json!({"spec": {"leaseName": "a"}}),
            &["spec.leaseName: Invalid value: \"b\": field is immutable"],
        );
    }

    #[test]
    fn names_are_those_of_config_keys() {
        for (name, fine) in [("A_b.c", true), ("a-", true), ("a/b", false), ("..", false)] {
            let object = json!({"metadata": {"name": name, "namespace": "n"}});
            assert_eq!(testing::metadata(&object, &KIND).is_empty(), fine, "{name}");
        }
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"leaseName": "l", "binaryVersion": "1.0.0"}});
        testing::row(&KIND, &object, &json!(["a", "l", "1.0.0", "", "<unknown>"]));
        assert_eq!((KIND.selectable[0].value)(&object), "l");
    }
}
