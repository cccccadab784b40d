//! Keeps as many pods as a ReplicaSet asks for. How is said in `replicas.rs`.

use std::borrow::Cow;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use crate::{
    controller::{Context, Controller, EVENTS, Rule},
    informer::Watched,
    replicas::{self, Replicated},
};

impl Watched for ReplicaSet {}

impl Replicated for ReplicaSet {
    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    aliases: &["replicaset"],
    service_account: "replicaset-controller",
    reporter: "replicaset-controller",
    watches: &["apps/v1.ReplicaSet", "v1.Pod"],
    rules: &[
        Rule::new(&["apps", "extensions"], &["replicasets"], &["get", "list", "update", "watch"]),
        Rule::new(&["apps", "extensions"], &["replicasets/status"], &["update"]),
        Rule::new(&["apps", "extensions"], &["replicasets/finalizers"], &["update"]),
        Rule::new(&[""], &["pods"], &["create", "delete", "list", "patch", "watch"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    replicas::run::<ReplicaSet>(context, CONTROLLER.name).boxed()
}
