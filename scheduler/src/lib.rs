//! The scheduler: gives every pod without a node the best one there is.
//!
//! One task owns all state ([`snapshot`], [`queue`]); watches feed it, decisions ([`cycle`]) are pure, and writes ([`bind`]) run
//! beside it. Talks to the API only; never touches the store, and never moves a pod that has its node: where one of higher
//! priority finds no room ([`preempt`]), it deletes lower ones, and their owners make them anew.

pub mod bind;
pub mod cycle;
mod leader;
pub mod matching;
pub mod metrics;
pub mod plugins;
pub mod preempt;
pub mod queue;
pub mod resources;
pub mod snapshot;
mod state;
mod watch;

use kube::Client;
use state::State;
use tokio_util::sync::CancellationToken;

/// How the scheduler runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pods whose `spec.schedulerName` is this are ours.
    pub scheduler_name: String,
    /// Whether to act only while holding the lease.
    pub leader_elect: bool,
    /// The lease's namespace.
    pub lease_namespace: String,
    /// The lease's name.
    pub lease_name: String,
    /// Who we are among several; part of events and the lease.
    pub identity: String,
    /// What the scheduler tells about itself.
    pub metrics: metrics::Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            leader_elect: false,
            lease_namespace: "kube-system".to_owned(),
            lease_name: "kube-scheduler".to_owned(),
            identity: format!("ironkeel_{:016x}", rand::random::<u64>()),
            metrics: metrics::Metrics::default(),
        }
    }
}

/// One rule of what the scheduler needs: API groups, resources, verbs.
pub type Rule = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// What the scheduler does to the API. Bootstrap ClusterRole `system:kube-scheduler` grants all of it.
pub const RULES: &[Rule] = &[
    (&[""], &["nodes", "namespaces", "services"], &["list", "watch"]),
    (&[""], &["pods"], &["delete", "list", "watch"]),
    (&["apps"], &["replicasets"], &["list", "watch"]),
    (&[""], &["pods/binding"], &["create"]),
    (&[""], &["pods/status"], &["patch"]),
    (&["events.k8s.io"], &["events"], &["create", "patch"]),
    (&["coordination.k8s.io"], &["leases"], &["create", "get", "update"]),
];

/// Why the scheduler ended by itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A watch ended, so that the scheduler would go on blindly. Starting anew is safe.
    #[error("a watch of the scheduler ended")]
    WatchEnded,
}

/// Schedules until `stop`. What goes wrong with the API is retried, and a lost lease is waited for.
///
/// # Errors
/// When it cannot go on; see [`Error`].
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> Result<(), Error> {
    if !options.leader_elect {
        return serve(client, &options, stop).await;
    }
    while !stop.is_cancelled() {
        let mut candidate =
            leader::Candidate::new(client.clone(), &options.lease_namespace, &options.lease_name, &options.identity);
        if !candidate.acquire(&stop).await {
            break;
        }
        tracing::info!(identity = options.identity, "leading");
        let leading = stop.child_token();
        let work = serve(client.clone(), &options, leading.clone());
        let lead = async {
            candidate.keep(&stop).await;
            leading.cancel();
            Ok(())
        };
        tokio::try_join!(work, lead)?;
    }
    Ok(())
}

async fn serve(client: Client, options: &Options, stop: CancellationToken) -> Result<(), Error> {
    let (changes, inbox) = tokio::sync::mpsc::unbounded_channel();
    let mut watches = watch::start(&client, &changes, &stop);
    let recorder = bind::Recorder::start(client.clone(), options.scheduler_name.clone(), options.identity.clone());
    let state = State::new(client, options.scheduler_name.clone(), recorder, changes, options.metrics.clone());
    let ended = tokio::select! {
        biased;
        () = state.run(inbox, &stop) => Ok(()),
        _ = watches.join_next() => if stop.is_cancelled() { Ok(()) } else { Err(Error::WatchEnded) },
    };
    watches.shutdown().await;
    ended
}

#[cfg(test)]
mod tests;
