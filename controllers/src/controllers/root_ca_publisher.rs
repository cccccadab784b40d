//! Keeps the ConfigMap `kube-root-ca.crt` with the cluster's certificate authority in every namespace that lives, so
//! that pods can verify the API server. It never publishes anything secret.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;

use crate::{
    controller::{
        Context, Controller, EVENTS, Error, Next, Rule, is_already_exists, is_namespace_terminating, is_not_found,
    },
    informer::{Key, Watched},
    object,
    queue::Queue,
};

impl Watched for ConfigMap {}

pub(crate) static CONTROLLER: Controller = Controller {
    name: "root-ca-certificate-publisher-controller",
    aliases: &["root-ca-cert-publisher"],
    service_account: "root-ca-cert-publisher",
    reporter: "root-ca-cert-publisher",
    watches: &["v1.Namespace", "v1.ConfigMap"],
    rules: &[Rule::new(&[""], &["configmaps"], &["create", "update"]), EVENTS],
    start,
};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let namespaces = context.informers.of::<Namespace>();
        let maps = context.informers.of::<ConfigMap>();
        let queue: Arc<Queue<String>> = Arc::default();
        if !maps.synced(&context.stop).await {
            return;
        }
        namespaces.subscribe({
            let queue = queue.clone();
            move |change| queue.add(object::name(&change.object().metadata).to_owned())
        });
        maps.subscribe({
            let queue = queue.clone();
            move |change| {
                let meta = &change.object().metadata;
                if object::name(meta) == NAME {
                    queue.add(object::namespace(meta).to_owned());
                }
            }
        });
        if namespaces.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 2, reconcile).await;
        }
    }
    .boxed()
}

#[derive(Debug, PartialEq)]
enum Write {
    Create(ConfigMap),
    Update(ConfigMap),
}

fn plan(namespace: Option<&Namespace>, held: Option<&ConfigMap>, ca: &str) -> Option<Write> {
    let namespace = namespace.filter(|one| one.metadata.deletion_timestamp.is_none())?;
    let data = Some([("ca.crt".to_owned(), ca.to_owned())].into());
    let mut map = held.cloned().unwrap_or_default();
    let described = !object::put(&mut map.metadata.annotations, DESCRIPTION.0, DESCRIPTION.1);
    if held.is_some_and(|held| held.data == data) && described {
        return None;
    }
    map.data = data;
    if held.is_some() {
        return Some(Write::Update(map));
    }
    map.metadata.name = Some(NAME.to_owned());
    map.metadata.namespace = namespace.metadata.name.clone();
    Some(Write::Create(map))
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    if context.options.cluster_ca_pem.is_empty() {
        return Ok(Next::Done);
    }
    let namespace = context.informers.of::<Namespace>().get(&Key::new("", &name));
    let held = context.informers.of::<ConfigMap>().get(&Key::new(&name, NAME));
    let api = context.api::<ConfigMap>(&name);
    let written = match plan(namespace.as_deref(), held.as_deref(), &context.options.cluster_ca_pem) {
        None => return Ok(Next::Done),
        Some(Write::Create(map)) => api.create(&PostParams::default(), &map).await,
        Some(Write::Update(map)) => api.replace(NAME, &PostParams::default(), &map).await,
    };
    match written {
        Ok(_) => Ok(Next::Done),
        Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) || is_not_found(&error) => {
            Ok(Next::Done)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_published_and_repaired() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".into());
        let Some(Write::Create(map)) = plan(Some(&namespace), None, "PEM") else { panic!("not created") };
        assert_eq!(map.data.clone().unwrap()["ca.crt"], "PEM");
        assert_eq!(plan(Some(&namespace), Some(&map), "PEM"), None);
        assert!(matches!(plan(Some(&namespace), Some(&map), "NEW"), Some(Write::Update(_))));
        assert_eq!(plan(None, Some(&map), "NEW"), None);
    }
}
