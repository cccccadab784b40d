//! The watches that feed the scheduler. They pass on what changed and know nothing of what it means.

use crate::state::Change;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::{Api, Client, Resource};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{self, Config, watcher};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What happened to the objects of one kind.
#[derive(Debug)]
pub(crate) enum Kind<K> {
    /// It came or changed.
    Set(K),
    /// It went.
    Gone(K),
    /// All there are, after the watch began anew.
    All(Vec<K>),
}

/// Starts all watches; none ends before `stop`.
pub(crate) fn start(client: &Client, changes: &UnboundedSender<Change>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let running = Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    spawn::<Pod>(&mut tasks, client, running, changes, stop, Change::Pod);
    spawn::<Node>(&mut tasks, client, Config::default(), changes, stop, Change::Node);
    spawn::<Namespace>(&mut tasks, client, Config::default(), changes, stop, Change::Namespace);
    spawn::<Service>(&mut tasks, client, Config::default(), changes, stop, Change::Service);
    spawn::<ReplicaSet>(&mut tasks, client, Config::default(), changes, stop, Change::ReplicaSet);
    tasks
}

fn spawn<K>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    config: Config,
    changes: &UnboundedSender<Change>,
    stop: &CancellationToken,
    wrap: fn(Kind<K>) -> Change,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let stream = watcher(Api::<K>::all(client.clone()), config).default_backoff();
    let (changes, stop) = (changes.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = pump(stream, |change| changes.send(wrap(change)).is_ok()) => {}
        }
    });
}

/// Passes events on until the stream ends or nobody listens.
async fn pump<K: Resource<DynamicType = ()>>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    mut send: impl FnMut(Kind<K>) -> bool,
) {
    let mut stream = std::pin::pin!(stream);
    let mut all = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event.map(|event| event.modify(|object| object.meta_mut().managed_fields = None));
        let listened = match event {
            Ok(watcher::Event::Init) => {
                all.clear();
                true
            }
            Ok(watcher::Event::InitApply(object)) => {
                all.push(object);
                true
            }
            Ok(watcher::Event::InitDone) => send(Kind::All(std::mem::take(&mut all))),
            Ok(watcher::Event::Apply(object)) => send(Kind::Set(object)),
            Ok(watcher::Event::Delete(object)) => send(Kind::Gone(object)),
            Err(error) => {
                tracing::debug!(%error, kind = %K::kind(&()), "the watch begins anew");
                true
            }
        };
        if !listened {
            return;
        }
    }
}
