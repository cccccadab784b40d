//! `events` of events.k8s.io: the newer view of the events that core/v1 stores.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Hooks, Kind, Selectable, StoredAs, describe};
use crate::kinds::core_v1;
use crate::kinds::shared::events;

/// The description.
pub static KIND: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    columns: events::COLUMNS,
    selectable: &[
        Selectable { name: "reason", value: |e| crate::value::text(e, "reason").to_owned() },
        events::involved("regarding.kind", |e| events::text(e, "kind")),
        events::involved("regarding.namespace", |e| events::text(e, "namespace")),
        events::involved("regarding.name", |e| events::text(e, "name")),
        events::involved("regarding.uid", |e| events::text(e, "uid")),
        events::involved("regarding.apiVersion", |e| events::text(e, "apiVersion")),
        events::involved("regarding.resourceVersion", |e| events::text(e, "resourceVersion")),
        events::involved("regarding.fieldPath", |e| events::text(e, "fieldPath")),
        Selectable { name: "reportingController", value: events::reporter },
        Selectable { name: "type", value: |e| crate::value::text(e, "type").to_owned() },
    ],
    judgement: Judgement { update: &[Check::Object, Check::MetadataChange, Check::Change], ..Judgement::USUAL },
    stored_as: Some(StoredAs { kind: &core_v1::event::KIND, to: events::to_core, from: events::from_core }),
    describe: describe::<k8s_openapi::api::events::v1::Event>,
    hooks: &Event,
    ..Kind::BASE
};

struct Event;

impl Hooks for Event {
    fn validate(&self, object: &Value) -> Errors {
        events::validate_strict(&stored(object))
    }

    /// What is demanded of a new event alone is not asked of an old one: nothing of it may change.
    fn revalidate(&self, new: &Value, _old: &Value) -> Errors {
        events::validate(&stored(new), "reportingController")
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        events::validate_strict_update(&stored(new), &stored(old))
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        events::row(&stored(object), now)
    }
}

/// The object in the stored version; unchanged when it is that already.
fn stored(object: &Value) -> Value {
    let mut object = object.clone();
    events::to_core(&mut object);
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn converts_there_and_back() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"name": "p"},
            "reportingController": "c", "deprecatedSource": {"component": "k"}, "deprecatedCount": 2});
        let core = json!({"apiVersion": "v1", "kind": "Event", "message": "n", "involvedObject": {"name": "p"},
            "reportingComponent": "c", "source": {"component": "k"}, "count": 2});
        let mut object = new.clone();
        events::to_core(&mut object);
        assert_eq!(object, core);
        events::from_core(&mut object);
        assert_eq!(object, new);
        assert_eq!(events::text(&new, "name"), "p");
        assert_eq!(events::text(&core, "name"), "p");
    }

    #[test]
    fn new_events_are_complete() {
        let fine = json!({"metadata": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Node", "name": "n"}, "reportingController": "x/y", "reportingInstance": "z",
            "action": "a", "reason": "r", "type": "Normal"});
        testing::invalid(&KIND, &fine, &[]);
        let mut bad = fine.clone();
        crate::value::set(&mut bad, "type", "Odd");
        crate::value::set(&mut bad, "deprecatedCount", 1);
        crate::value::set(&mut bad, "series", json!({"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}));
        testing::invalid(
            &KIND,
            &bad,
            &[
                "series.count: Invalid value: \"\": should be at least 2",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ],
        );
        let mut new = fine.clone();
        crate::value::set(&mut new, "reason", "other");
        let sentence = "reason: Invalid value: \"other\": field is immutable";
        testing::invalid_update(&KIND, &new, &fine, &[sentence, sentence]);
    }
}
