//! `componentstatuses`: whether the parts of the control plane that the API server depends on are well.
//!
//! Read-only and made anew for every request; deprecated since v1.19. Never does I/O.

use crate::json::{Value, json};
use crate::kind::{Column, Deprecated, Hooks, Kind, Verb, describe};
use crate::kinds::shared::cells;
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    verbs: &[Verb::Get, Verb::List],
    computed: true,
    deprecated: Some(Deprecated::since("1.19")),
    columns: &[
        Column::NAME,
        Column::text("Status").says("Status of the component conditions"),
        Column::text("Message").says("Message of the component conditions"),
        Column::text("Error").says("Error of the component conditions"),
    ],
    describe: describe::<k8s_openapi::api::core::v1::ComponentStatus>,
    hooks: &ComponentStatus,
    ..Kind::BASE
};

struct ComponentStatus;

impl Hooks for ComponentStatus {
    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        let conditions = value::items(object, "conditions");
        let healthy = conditions.iter().find(|condition| value::text(condition, "type") == "Healthy");
        let status = match healthy.map(|condition| value::text(condition, "status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |name: &str| Value::from(healthy.map_or("", |condition| value::text(condition, name)));
        vec![cells::name(object), status.into(), text("message"), text("error")]
    }
}

/// The object for a component that answered a question about its health, or failed to.
#[must_use]
pub fn of(name: &str, answer: Result<(), String>) -> Value {
    let condition = match answer {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    #[test]
    fn rows() {
        testing::row(&KIND, &of("store", Ok(())), &json!(["store", "Healthy", "ok", ""]));
        testing::row(&KIND, &of("store", Err("gone".to_owned())), &json!(["store", "Unhealthy", "", "gone"]));
        testing::row(&KIND, &json!({"metadata": {"name": "a"}}), &json!(["a", "Unknown", "", ""]));
    }
}
