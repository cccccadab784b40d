//! `TaintNodesByCondition`: a new node is tainted not-ready until it has reported itself ready.
//!
//! The node lifecycle controller takes the taint away.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Value, json};
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct TaintNodesByCondition;

pub(crate) static PLUGIN: TaintNodesByCondition = TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["nodes"]
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("nodes", "") {
            return Ok(());
        }
        let mut taints = value::items(object, "spec.taints").to_vec();
        let there =
            taints.iter().any(|t| value::text(t, "key") == NOT_READY && value::text(t, "effect") == "NoSchedule");
        if !there {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            value::set(object, "spec.taints", taints);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ask;

    #[test]
    fn a_new_node_is_not_ready_once() {
        let (own, other) =
            (json!({"key": NOT_READY, "effect": "NoSchedule"}), json!({"key": NOT_READY, "effect": "NoExecute"}));
        for (given, wanted) in
            [(json!([]), json!([own])), (json!([other]), json!([other, own])), (json!([own]), json!([own]))]
        {
            let made = Ask::create("", "v1", "nodes").mutated(&PLUGIN, json!({"spec": {"taints": given}})).unwrap();
            assert_eq!(made["spec"]["taints"], wanted);
        }
        let update = Ask { operation: Operation::Update, ..Ask::create("", "v1", "nodes") };
        assert_eq!(update.mutated(&PLUGIN, json!({"spec": {}})), Ok(json!({"spec": {}})));
    }
}
