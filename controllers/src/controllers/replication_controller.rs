//! Keeps as many pods as a ReplicationController asks for. How is said in `replicas.rs`.

use std::borrow::Cow;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    controller::{Context, Controller, EVENTS, Rule},
    informer::Watched,
    replicas::{self, Replicated},
};

impl Watched for ReplicationController {}

impl Replicated for ReplicationController {
    const COUNTS_TERMINATING: bool = false;

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.as_ref().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector.clone(), match_expressions: None },
            template: spec.template.clone(),
        });
        let status = self.status.as_ref().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.as_ref().map(|all| all.iter().cloned().map(condition_of_a_set).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Cow::Owned(ReplicaSet { metadata: self.metadata.clone(), spec, status })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

fn condition_of_a_set(one: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: one.last_transition_time,
        message: one.message,
        reason: one.reason,
        status: one.status,
        type_: one.type_,
    }
}

fn condition(one: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        last_transition_time: one.last_transition_time,
        message: one.message,
        reason: one.reason,
        status: one.status,
        type_: one.type_,
    }
}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    aliases: &["replicationcontroller"],
    service_account: "replication-controller",
    reporter: "replication-controller",
    watches: &["v1.ReplicationController", "v1.Pod"],
    rules: &[
        Rule::new(&[""], &["replicationcontrollers"], &["get", "list", "update", "watch"]),
        Rule::new(&[""], &["replicationcontrollers/status"], &["update"]),
        Rule::new(&[""], &["replicationcontrollers/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "list", "patch", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    replicas::run::<ReplicationController>(context, CONTROLLER.name).boxed()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_a_set() {
        let one: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "old", "namespace": "a", "uid": "rc"},
            "spec": {"minReadySeconds": 3, "replicas": 2, "selector": {"app": "x"}, "template": {
                "metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}},
            "status": {"availableReplicas": 1, "fullyLabeledReplicas": 2, "observedGeneration": 7, "readyReplicas": 1,
                "replicas": 2, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                    "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let set = one.as_set().into_owned();
        assert_eq!(
            serde_json::to_value(&set.spec).unwrap(),
            json!({"minReadySeconds": 3, "replicas": 2, "selector": {"matchLabels": {"app": "x"}},
                "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}})
        );
        assert_eq!(one.with_status(set.status.unwrap()), one);
    }
}
