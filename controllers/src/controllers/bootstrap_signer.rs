//! Signs the kubeconfig of the ConfigMap `kube-public/cluster-info` with every bootstrap token that may sign, so that a node that knows
//! a token can trust it. It never looks into the kubeconfig, and never makes the ConfigMap.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;

use crate::{
    bootstrap::{self, Life},
    controller::{Context, Controller, Error, Next, is_conflict, is_not_found},
    informer::Key,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "bootstrap-signer-controller",
    aliases: &["bootstrapsigner"],
    service_account: "bootstrap-signer",
    reporter: "bootstrap-signer",
    watches: &["v1.ConfigMap", "v1.Secret"],
    rules: &[],
    start,
};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// What is signed.
const CONTENT: &str = "kubeconfig";
/// What keys of signatures begin with; a token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let maps = context.informers.of::<ConfigMap>();
        let secrets = context.informers.of::<Secret>();
        let queue: Arc<Queue<()>> = Arc::default();
        maps.subscribe({
            let queue = queue.clone();
            move |change| {
                if Key::of(&change.object().metadata) == Key::new(NAMESPACE, NAME) {
                    queue.add(());
                }
            }
        });
        secrets.subscribe({
            let queue = queue.clone();
            move |change| {
                if bootstrap::is_token(change.object()) {
                    queue.add(());
                }
            }
        });
        if maps.synced(&context.stop).await && secrets.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 1, |context, ()| reconcile(context)).await;
        }
    }
    .boxed()
}

/// The data with the signatures that it ought to have; none where it has them, or nothing is there to sign.
fn plan(data: &BTreeMap<String, String>, tokens: &[Arc<Secret>], now: Timestamp) -> Option<BTreeMap<String, String>> {
    let content = data.get(CONTENT)?;
    let mut wanted: BTreeMap<String, String> = data
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (id, key) in tokens.iter().filter_map(|token| bootstrap::signer(token, now)) {
        wanted.insert(format!("{SIGNATURE}{id}"), bootstrap::signature(content, id, key));
    }
    (wanted != *data).then_some(wanted)
}

async fn reconcile(context: Context) -> Result<Next, Error> {
    let Some(map) = context.informers.of::<ConfigMap>().get(&Key::new(NAMESPACE, NAME)) else { return Ok(Next::Done) };
    let tokens = bootstrap::tokens(&context.informers.of::<Secret>());
    let now = context.now();
    if let Some(data) = plan(&map.data.clone().unwrap_or_default(), &tokens, now) {
        let mut written = (*map).clone();
        written.data = Some(data);
        match context.api::<ConfigMap>(NAMESPACE).replace(NAME, &PostParams::default(), &written).await {
            Ok(_) => {}
            Err(gone) if is_not_found(&gone) => {}
            Err(error) if is_conflict(&error) => return Err(Error::NotYet("the signed map has changed".to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    let left = |token: &Arc<Secret>| match bootstrap::life(token, now) {
        Life::Left(left) => Some(left),
        Life::Endless | Life::Over => None,
    };
    Ok(tokens.iter().filter_map(left).min().map_or(Next::Done, Next::After))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bootstrap::tests::{NOW, token};

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn signatures_follow_tokens_and_content() {
        let now = NOW.parse().unwrap();
        let tokens = [Arc::new(token("abcdef", json!({}))), Arc::new(token("ghijkl", json!({"expiration": NOW})))];
        let held = data(&[("kubeconfig", "x"), ("jws-kubeconfig-ghijkl", "old"), ("more", "y")]);
        let written = plan(&held, &tokens, now).unwrap();
        assert_eq!(written.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig", "more"]);
        assert_eq!(written["jws-kubeconfig-abcdef"], bootstrap::signature("x", "abcdef", "0123456789abcdef"));
        assert_eq!(plan(&written, &tokens, now), None);
        let mut changed = written.clone();
        changed.insert("kubeconfig".to_owned(), "z".to_owned());
        assert_ne!(plan(&changed, &tokens, now).unwrap()["jws-kubeconfig-abcdef"], written["jws-kubeconfig-abcdef"]);
        assert_eq!(plan(&data(&[("jws-kubeconfig-abcdef", "x")]), &tokens, now), None);
    }
}
