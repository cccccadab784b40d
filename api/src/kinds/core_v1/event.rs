//! `events`: what happened to an object; the stored form of both event kinds.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::Errors;
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Hooks, Kind, NameRule, Selectable, describe};
use crate::kinds::shared::events;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    columns: events::COLUMNS,
    selectable: &[
        events::involved("involvedObject.kind", |e| events::text(e, "kind")),
        events::involved("involvedObject.namespace", |e| events::text(e, "namespace")),
        events::involved("involvedObject.name", |e| events::text(e, "name")),
        events::involved("involvedObject.uid", |e| events::text(e, "uid")),
        events::involved("involvedObject.apiVersion", |e| events::text(e, "apiVersion")),
        events::involved("involvedObject.resourceVersion", |e| events::text(e, "resourceVersion")),
        events::involved("involvedObject.fieldPath", |e| events::text(e, "fieldPath")),
        Selectable { name: "reason", value: |e| crate::value::text(e, "reason").to_owned() },
        Selectable { name: "reportingComponent", value: events::reporter },
        Selectable { name: "source", value: events::source },
        Selectable { name: "type", value: |e| crate::value::text(e, "type").to_owned() },
    ],
    describe: describe::<k8s_openapi::api::core::v1::Event>,
    judgement: Judgement::OBJECT_ALONE,
    hooks: &Event,
    short_history: true,
    expires: true,
    ..Kind::BASE
};

struct Event;

impl Hooks for Event {
    fn validate(&self, object: &Value) -> Errors {
        events::validate(object, "reportingComponent")
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        events::row(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn legacy_events_agree_with_their_namespace() {
        let fine = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}});
        testing::invalid(&KIND, &fine, &[]);
        testing::invalid(
            &KIND,
            &json!({"metadata": {"namespace": "a"}, "involvedObject": {}}),
            &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
        );
        testing::invalid(
            &KIND,
            &json!({"metadata": {"namespace": "a"}, "eventTime": "2026-01-01T00:00:00.000000Z",
                "involvedObject": {"namespace": "a"}, "reportingComponent": "x", "reportingInstance": "y"}),
            &["action: Required value", "reason: Required value"],
        );
    }

    #[test]
    fn row() {
        let event = json!({"metadata": {"name": "e"}, "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:20:00Z", "count": 4, "type": "Normal", "reason": "Pulled",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
            "source": {"component": "kubelet", "host": "n"}, "message": "done\n"});
        let cells =
            json!(["10m", "Normal", "Pulled", "pod/p", "spec.containers{c}", "kubelet, n", "done", "30m", 4, "e"]);
        testing::row(&KIND, &event, &cells);
        assert_eq!(events::source(&event), "kubelet");
    }
}
