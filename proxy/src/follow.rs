//! Objects of the cluster as they are now, in memory: what the proxy and DNS make their answers of. Never writes and never gives up: a
//! watch that fails begins anew, ever later.

use futures::StreamExt as _;
use kube::{Api, Client, Resource};
use kube_runtime::reflector::{self, Store};
use kube_runtime::{WatchStreamExt as _, watcher};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Keeps all objects of a kind at hand, without their managed fields, and notifies `changed` when one changes. The task that does it ends
/// with `stop`.
pub fn follow<K>(
    tasks: &mut tokio::task::JoinSet<()>,
    client: &Client,
    changed: &Arc<Notify>,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let watch = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    let slim = watch.modify(|object| object.meta_mut().managed_fields = None);
    let stream = slim.reflect(writer);
    let (changed, stop) = (Arc::clone(changed), stop.clone());
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                // While a list comes in, only its end is a change.
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                Some(Ok(_)) => changed.notify_one(),
                Some(Err(error)) => tracing::debug!(%error, kind = %K::kind(&()), "the watch begins anew"),
                None => return,
            }
        }
    });
    store
}
