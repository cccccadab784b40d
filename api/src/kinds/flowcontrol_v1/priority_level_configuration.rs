//! `prioritylevelconfigurations` of flowcontrol.apiserver.k8s.io: how many requests of a priority may run, wait or are refused.
//!
//! Never does I/O; see `Hooks` for when each function runs. Source: KEP-1040.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{cells, flow_control, names, parts};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    version: "v1",
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    namespaced: false,
    generation: true,
    subresources: &[parts::status_only("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration")],
    resets: parts::STATUS_ONLY,
    columns: &[
        Column::NAME,
        Column::text("Type").of("spec.type"),
        Column::text("NominalConcurrencyShares").of("spec.limited.nominalConcurrencyShares"),
        Column::text("Queues").of("spec.limited.limitResponse.queuing.queues"),
        Column::text("HandSize").of("spec.limited.limitResponse.queuing.handSize"),
        Column::text("QueueLengthLimit").of("spec.limited.limitResponse.queuing.queueLengthLimit"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration>,
    judgement: Judgement::ONLY_AS_NEW,
    hooks: &PriorityLevelConfiguration,
    ..Kind::BASE
};

struct PriorityLevelConfiguration;

const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals queues to flows.
const HASH_BITS: u32 = 60;

impl Hooks for PriorityLevelConfiguration {
    fn default(&self, object: &mut Value) {
        for (part, shares) in [("exempt", 0), ("limited", 30)] {
            let Some(part) = object.get_mut("spec").and_then(|spec| spec.get_mut(part)).filter(|part| part.is_object())
            else {
                continue;
            };
            value::set_default(part, "nominalConcurrencyShares", shares);
            value::set_default(part, "lendablePercent", 0);
        }
        let queuing =
            value::get_mut(object, "spec.limited.limitResponse.queuing").filter(|queuing| queuing.is_object());
        if let Some(queuing) = queuing {
            for (field, otherwise) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if value::int(queuing, field).unwrap_or_default() == 0 {
                    value::set(queuing, field, otherwise);
                }
            }
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let field = Path::new("spec");
        let name = meta::name(object);
        let spec = object.get("spec").unwrap_or(&Value::Null);
        if meta::annotation(object, PRESERVE_ZERO).is_some() {
            let detail = format!("annotation '{PRESERVE_ZERO}' is forbidden");
            errors.push(FieldError::forbidden(&Path::new("metadata.annotations"), detail));
        }
        let kind = value::text(spec, "type");
        if (name == "exempt") != (kind == "Exempt") {
            let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.push(FieldError::invalid(&field.child("type"), kind, detail));
        }
        let given = |name: &str| spec.get(name).filter(|part| !part.is_null());
        match (kind, given("exempt"), given("limited")) {
            ("Exempt", exempt, limited) => {
                if limited.is_some() {
                    let detail = "must be nil if the type is not Limited";
                    errors.push(FieldError::forbidden(&field.child("limited"), detail));
                }
                if let Some(exempt) = exempt {
                    shares(&mut errors, exempt, &field.child("exempt"));
                    lendable(&mut errors, exempt, &field.child("exempt"));
                }
            }
            ("Limited", exempt, limited) => {
                if exempt.is_some() {
                    errors.push(FieldError::forbidden(&field.child("exempt"), "must be nil if the type is Limited"));
                }
                match limited {
                    None => {
                        let detail = "must not be empty when type is Limited";
                        errors.push(FieldError::required(&field.child("limited"), detail));
                    }
                    Some(limited) => validate_limited(&mut errors, limited, &field.child("limited")),
                }
            }
            _ => errors.push(FieldError::not_supported(&field.child("type"), kind, &["Exempt", "Limited"])),
        }
        fixed(&mut errors, spec, name, &field);
        errors.extend(flow_control::conditions(object));
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        flow_control::conditions(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let number = |path: &str| value::int(object, path).map_or_else(|| "<none>".into(), Value::from);
        let queuing = |name: &str| number(&format!("spec.limited.limitResponse.queuing.{name}"));
        vec![
            cells::name(object),
            cells::text(object, "spec.type"),
            number("spec.limited.nominalConcurrencyShares"),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            cells::age(object, now),
        ]
    }
}

const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

fn fixed(errors: &mut Errors, spec: &Value, name: &str, field: &Path) {
    let Some(mut fixed) = flow_control::mandatory_level(name) else { return };
    let mut detail = format!("spec of '{name}' must equal the fixed value");
    if let (true, Value::Object(fixed)) = (name == "exempt", &mut fixed) {
        detail = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
        match spec.get("exempt") {
            Some(given) => fixed.insert("exempt", given.clone()),
            None => fixed.remove("exempt"),
        };
    }
    if fixed != *spec {
        errors.push(FieldError::invalid_whole(field, detail).showing("PriorityLevelConfigurationSpec", spec));
    }
}

fn shares(errors: &mut Errors, part: &Value, field: &Path) {
    if let Some(shares) = value::int(part, "nominalConcurrencyShares").filter(|shares| *shares < 0) {
        let field = field.child("nominalConcurrencyShares");
        errors.push(FieldError::invalid(&field, shares, "must be a non-negative integer"));
    }
}

fn lendable(errors: &mut Errors, part: &Value, field: &Path) {
    if let Some(percent) = value::int(part, "lendablePercent").filter(|percent| !(0..=100).contains(percent)) {
        errors.push(FieldError::invalid(&field.child("lendablePercent"), percent, names::range(0, 100)));
    }
}

fn validate_limited(errors: &mut Errors, limited: &Value, field: &Path) {
    shares(errors, limited, field);
    limit_response(errors, limited, field);
    lendable(errors, limited, field);
    if let Some(percent) = value::int(limited, "borrowingLimitPercent").filter(|percent| *percent < 0) {
        let field = field.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(&field, percent, "if specified, must be a non-negative integer"));
    }
}

fn limit_response(errors: &mut Errors, limited: &Value, field: &Path) {
    let at = field.child("limitResponse");
    let queuing = value::get(limited, "limitResponse.queuing").filter(|queuing| !queuing.is_null());
    match (value::text(limited, "limitResponse.type"), queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&at.child("queuing"), detail));
        }
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&at.child("queuing"), detail));
        }
        ("Queue", Some(queuing)) => validate_queuing(errors, queuing, &at.child("queuing")),
        (other, _) => errors.push(FieldError::not_supported(&at.child("type"), other, &["Queue", "Reject"])),
    }
}

fn validate_queuing(errors: &mut Errors, queuing: &Value, field: &Path) {
    let number = |name: &str| value::int(queuing, name).unwrap_or_default();
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if length <= 0 {
        errors.push(FieldError::invalid(&field.child("queueLengthLimit"), length, "must be positive"));
    }
    let at = field.child("queues");
    if queues <= 0 {
        errors.push(FieldError::invalid(&at, queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        errors.push(FieldError::invalid(&at, queues, format!("must not be greater than {MOST_QUEUES}")));
    }
    let at = field.child("handSize");
    if hand <= 0 {
        errors.push(FieldError::invalid(&at, hand, "must be positive"));
    } else if hand > queues {
        errors.push(FieldError::invalid(&at, hand, format!("should not be greater than queues ({queues})")));
    } else if too_much_entropy(queues, hand) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(FieldError::invalid(&at, hand, detail));
    }
}

/// Dealing `hand` of `deck` cards takes more bits than the hash has, as upstream estimates it: every card from the whole deck.
fn too_much_entropy(deck: i64, hand: i64) -> bool {
    let (deck, hand) = (u128::try_from(deck).unwrap_or(0), u32::try_from(hand).unwrap_or(u32::MAX));
    deck.saturating_pow(hand) > 1 << HASH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn rules() {
        let mut sound = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {
            "limitResponse": {"type": "Queue", "queuing": {}}}}});
        KIND.hooks.default(&mut sound);
        testing::defaults(&KIND, sound.clone(), &sound);
        testing::invalid(&KIND, &sound, &[]);
        testing::row(&KIND, &sound, &json!(["a", "Limited", 30, 64, 8, 50, "<unknown>"]));
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "spec": {"type": "Exempt", "limited": {}, "exempt": {"lendablePercent": 101}}}),
            &[
                "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
                "spec.limited: Forbidden: must be nil if the type is not Limited",
                "spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ],
        );
        testing::invalid(
            &KIND,
            &json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": {"borrowingLimitPercent": -1,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 20}}}}}),
            &[
                "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: 0: must be positive",
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 20: required entropy bits of deckSize 64 and handSize \
                 20 should not be greater than 60",
                "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            ],
        );
    }

    #[test]
    fn the_mandatory_ones_are_fixed() {
        for name in ["exempt", "catch-all"] {
            let object = json!({"metadata": {"name": name}, "spec": flow_control::mandatory_level(name)});
            testing::invalid(&KIND, &object, &[]);
        }
        let generous = json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 9}}});
        testing::invalid(&KIND, &generous, &[]);
        let other = json!({"metadata": {"name": "catch-all"}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 6, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}});
        let errors = testing::shown(&KIND.hooks.validate(&other));
        assert!(
            errors.len() == 1 && errors[0].ends_with("spec of 'catch-all' must equal the fixed value"),
            "{errors:?}"
        );
    }
}
