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
