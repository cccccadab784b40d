//! `leases` of coordination.k8s.io: a lock with a holder and a time.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::gated::Gated;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    create_on_update: true,
    unconditional_update: false,
    columns: &[Column::NAME, Column::text("Holder").of("spec.holderIdentity"), Column::AGE],
    describe: describe::<k8s_openapi::api::coordination::v1::Lease>,
    judgement: Judgement::USUAL.any_finalizer(),
    hooks: &Lease,
    gated: &[
        Gated { path: "spec.strategy", gate: "CoordinatedLeaderElection" },
        Gated { path: "spec.preferredHolder", gate: "CoordinatedLeaderElection" },
    ],
    short_history: true,
    ..Kind::BASE
};

struct Lease;

impl Hooks for Lease {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let spec = object.get("spec").unwrap_or(&Value::Null);
        if let Some(seconds) = value::int(spec, "leaseDurationSeconds").filter(|n| *n <= 0) {
            let field = field.child("leaseDurationSeconds");
            errors.push(FieldError::invalid(&field, seconds, "must be greater than 0"));
        }
        rules::not_negative(&mut errors, spec, "leaseTransitions", &field);
        if !value::text(spec, "preferredHolder").is_empty() && value::text(spec, "strategy").is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            errors.push(FieldError::forbidden(&field.child("preferredHolder"), detail));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), cells::text(object, "spec.holderIdentity"), cells::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn times_are_positive() {
        testing::invalid(&KIND, &json!({"spec": {"leaseDurationSeconds": 1, "leaseTransitions": 0}}), &[]);
        testing::invalid(
            &KIND,
            &json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "a"}}),
            &[
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ],
        );
        let object = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
        testing::row(&KIND, &object, &json!(["a", "me", "<unknown>"]));
    }
}
