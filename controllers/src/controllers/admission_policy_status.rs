//! Checks the expressions of ValidatingAdmissionPolicies against the types that they are about and says so in their status. It never
//! changes what a policy does.

use std::sync::Arc;

use api::kinds::shared::admission_types;
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    informer::{Change, Watched},
    object,
    queue::Queue,
};

impl Watched for ValidatingAdmissionPolicy {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "validatingadmissionpolicy-status-controller",
    aliases: &["validatingadmissionpolicy-status"],
    service_account: "validatingadmissionpolicy-status-controller",
    reporter: "validatingadmissionpolicy-status-controller",
    watches: &["admissionregistration.k8s.io/v1.ValidatingAdmissionPolicy"],
    rules: &[
        Rule::new(&["admissionregistration.k8s.io"], &["validatingadmissionpolicies"], &["get", "list", "watch"]),
        Rule::new(
            &["admissionregistration.k8s.io"],
            &["validatingadmissionpolicies/status"],
            &["get", "patch", "update"],
        ),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let policies = context.informers.of::<ValidatingAdmissionPolicy>();
        let queue: Arc<Queue<String>> = Arc::default();
        policies.subscribe({
            let queue = queue.clone();
            move |change| {
                if let Change::Applied { new, .. } = change
                    && is_due(new)
                {
                    queue.add(object::name(&new.metadata).to_owned());
                }
            }
        });
        if policies.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// The status is of an older state of the policy.
fn is_due(policy: &ValidatingAdmissionPolicy) -> bool {
    let seen = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
    policy.metadata.generation.unwrap_or_default() > seen
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    let api: Api<ValidatingAdmissionPolicy> = context.cluster_api();
    let Some(policy) = api.get_opt(&name).await?.filter(is_due) else { return Ok(Next::Done) };
    let params = PatchParams::apply(CONTROLLER.name).force();
    api.patch_status(&name, &params, &Patch::Apply(plan(&policy))).await?;
    Ok(Next::Done)
}

/// The configuration that says what was found.
fn plan(policy: &ValidatingAdmissionPolicy) -> Value {
    let object = api::json::to_value(policy).unwrap_or_default();
    let warnings: Vec<Value> = admission_types::warnings(&object)
        .into_iter()
        .map(|warning| json!({"fieldRef": warning.field, "warning": warning.text}))
        .collect();
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": object::name(&policy.metadata)},
        "status": {"observedGeneration": policy.metadata.generation, "typeChecking": checked}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_checked_once_for_each_generation() {
        let policy = |generation: i64, seen: Option<i64>| {
            let mut policy = ValidatingAdmissionPolicy::default();
            policy.metadata.generation = Some(generation);
            policy.status.get_or_insert_default().observed_generation = seen;
            policy
        };
        for (generation, seen, due) in [(1, None, true), (1, Some(1), false), (2, Some(1), true)] {
            assert_eq!(is_due(&policy(generation, seen)), due);
        }
        assert_eq!(plan(&policy(2, Some(1)))["status"], json!({"observedGeneration": 2, "typeChecking": {}}));
    }
}
