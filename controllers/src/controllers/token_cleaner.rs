//! Deletes bootstrap tokens whose end has passed. It never deletes one without an end.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Secret;

use crate::{
    bootstrap::{self, Life},
    controller::{self, Context, Controller, Error, Next},
    informer::{Change, Key},
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "token-cleaner-controller",
    aliases: &["tokencleaner"],
    service_account: "token-cleaner",
    reporter: "token-cleaner",
    watches: &["v1.Secret"],
    rules: &[],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let secrets = context.informers.of::<Secret>();
        let queue: Arc<Queue<Key>> = Arc::default();
        secrets.subscribe({
            let queue = queue.clone();
            move |change| {
                if !matches!(change, Change::Deleted(_)) && bootstrap::is_token(change.object()) {
                    queue.add(Key::of(&change.object().metadata));
                }
            }
        });
        if secrets.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 1, reconcile).await;
        }
    }
    .boxed()
}

async fn reconcile(context: Context, key: Key) -> Result<Next, Error> {
    let held = context.informers.of::<Secret>().get(&key).filter(|secret| bootstrap::is_token(secret));
    let Some(token) = held else { return Ok(Next::Done) };
    match bootstrap::life(&token, context.now()) {
        Life::Endless => Ok(Next::Done),
        Life::Left(left) => Ok(Next::After(left)),
        Life::Over => {
            let api = context.api::<Secret>(&key.namespace);
            controller::delete(&api, &key.name, token.metadata.uid.as_deref()).await?;
            Ok(Next::Done)
        }
    }
}
