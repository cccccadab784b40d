//! Keeps a `default` ServiceAccount in every namespace that lives. It never deletes or changes one.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;

use crate::{
    controller::{
        Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_namespace_terminating, is_not_found,
    },
    informer::{Change, Key, Watched},
    object,
    queue::Queue,
};

impl Watched for ServiceAccount {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "serviceaccount-controller",
    aliases: &["serviceaccount"],
    service_account: "service-account-controller",
    reporter: "serviceaccount-controller",
    watches: &["v1.Namespace", "v1.ServiceAccount"],
    rules: &[Rule::new(&[""], &["serviceaccounts"], &["create"]), EVENTS],
    start,
};

/// The accounts that a namespace must have.
const WANTED: &[&str] = &["default"];

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let namespaces = context.informers.of::<Namespace>();
        let accounts = context.informers.of::<ServiceAccount>();
        let queue: Arc<Queue<String>> = Arc::default();
        if !accounts.synced(&context.stop).await {
            return;
        }
        namespaces.subscribe({
            let queue = queue.clone();
            move |change| queue.add(object::name(&change.object().metadata).to_owned())
        });
        accounts.subscribe({
            let queue = queue.clone();
            move |change| {
                if let Change::Deleted(account) = change {
                    queue.add(object::namespace(&account.metadata).to_owned());
                }
            }
        });
        if namespaces.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 2, reconcile).await;
        }
    }
    .boxed()
}

/// The accounts to create in a namespace.
fn plan(namespace: Option<&Namespace>, exists: impl Fn(&str) -> bool) -> Vec<ServiceAccount> {
    let Some(namespace) = namespace.filter(|one| one.metadata.deletion_timestamp.is_none()) else { return Vec::new() };
    WANTED
        .iter()
        .filter(|name| !exists(name))
        .map(|name| {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some((*name).to_owned());
            account.metadata.namespace = namespace.metadata.name.clone();
            account
        })
        .collect()
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    let accounts = context.informers.of::<ServiceAccount>();
    let namespace = context.informers.of::<Namespace>().get(&Key::new("", &name));
    for account in plan(namespace.as_deref(), |wanted| accounts.get(&Key::new(&name, wanted)).is_some()) {
        match context.api::<ServiceAccount>(&name).create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) || is_not_found(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_namespace_gets_its_account() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        assert_eq!(plan(Some(&namespace), |_| false).len(), 1);
        assert!(plan(Some(&namespace), |_| true).is_empty());
        assert!(plan(None, |_| false).is_empty());
        namespace.metadata.deletion_timestamp = Some(object::time(jiff::Timestamp::UNIX_EPOCH));
        assert!(plan(Some(&namespace), |_| false).is_empty());
    }
}
