//! What a controller says about itself, what it is given, and how the table is run. It knows no controller by name.

use std::{
    collections::BTreeSet, fmt::Debug, future::Future, hash::Hash, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Preconditions, PropagationPolicy},
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    CONTROLLERS,
    controllers::{GATED, ON_REQUEST, service_account_token::Signer},
    events::Recorder,
    informer::Informers,
    leader::{self, Election},
    metrics::Metrics,
    queue::Queue,
};

/// The name under which the whole component asks for a client: it reads the shared caches and holds the election
/// lease, as upstream's user `system:kube-controller-manager`.
pub const COMPONENT: &str = "kube-controller-manager";

/// One line of a role: everything in `groups` x `resources` x `verbs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API groups, "" for core.
    pub groups: &'static [&'static str],
    /// Resources and subresources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Names that the rule is limited to; empty for all.
    pub names: &'static [&'static str],
}

impl Rule {
    /// A rule.
    #[must_use]
    pub const fn new(
        groups: &'static [&'static str],
        resources: &'static [&'static str],
        verbs: &'static [&'static str],
    ) -> Self {
        Self { groups, resources, verbs, names: &[] }
    }

    /// The same, for objects of these names alone.
    #[must_use]
    pub const fn named(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }
}

/// The rule by which controllers write events.
pub const EVENTS: Rule = Rule::new(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]);

/// A controller's entry in the table.
pub struct Controller {
    /// Upstream's canonical name, as `--controllers` takes it.
    pub name: &'static str,
    /// Older names that `--controllers` still takes.
    pub aliases: &'static [&'static str],
    /// The service account in kube-system under which it writes; [`COMPONENT`] for one that has none.
    pub service_account: &'static str,
    /// Under which name its events are reported.
    pub reporter: &'static str,
    /// The kinds it watches, as `<group/version>.<Kind>`; `*` for all that discovery names.
    pub watches: &'static [&'static str],
    /// What its service account may do.
    pub rules: &'static [Rule],
    /// Runs it until its context stops.
    pub start: fn(Context) -> BoxFuture<'static, ()>,
}

impl Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Tells the time; tests set it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that asks this function.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// How the controllers run. The defaults are upstream's flags' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--controllers`: `*` for all, `name` or `-name`; empty means all.
    pub enabled: Vec<String>,
    /// The certificate authority that `kube-root-ca.crt` publishes, PEM.
    pub cluster_ca_pem: String,
    /// `--cluster-signing-cert-file`: the authority that signs certificates, PEM; that of `cluster_ca_pem` when empty.
    pub cluster_signing_cert_pem: String,
    /// `--cluster-signing-key-file`: its key, PEM; without it no certificate is signed.
    pub cluster_ca_key_pem: String,
    /// `--cluster-signing-duration`: the longest that a certificate lives.
    pub cluster_signing_duration: Duration,
    /// `--service-account-private-key-file`: signs tokens that go into secrets; without it they get none.
    pub sign: Option<Signer>,
    /// Whether to hold a Lease before acting.
    pub leader_elect: bool,
    /// The candidate's name; the host and process make a good one.
    pub identity: String,
    /// The clock.
    pub clock: Clock,
    /// What the controllers tell about themselves.
    pub metrics: Metrics,
    /// Reconciles of one controller that may run at once.
    pub workers: usize,
    /// `--terminated-pod-gc-threshold`: ended pods kept in the cluster; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// `--node-monitor-grace-period`: silence after which a node is unknown.
    pub node_monitor_grace_period: Duration,
    /// Silence that a node is allowed after it first appears.
    pub node_startup_grace_period: Duration,
    /// `--node-monitor-period`: how often nodes are looked at.
    pub node_monitor_period: Duration,
    /// `--legacy-service-account-token-clean-up-period`: how long tokens in secrets stay that nobody uses.
    pub legacy_token_clean_up_period: Duration,
    /// `--cluster-cidr`: blocks out of which nodes get theirs; empty where nodes bring their own.
    pub cluster_cidrs: Vec<ipnet::IpNet>,
    /// `--node-cidr-mask-size-ipv4`: length of the blocks that nodes get.
    pub node_cidr_mask_size_ipv4: u8,
    /// `--node-cidr-mask-size-ipv6`: the same for IPv6.
    pub node_cidr_mask_size_ipv6: u8,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: allowed(Vec::new(), |_| false),
            cluster_ca_pem: String::new(),
            cluster_signing_cert_pem: String::new(),
            cluster_ca_key_pem: String::new(),
            cluster_signing_duration: Duration::from_secs(365 * 86_400),
            sign: None,
            leader_elect: false,
            identity: "ironkeel".to_owned(),
            clock: Clock::default(),
            metrics: Metrics::default(),
            workers: 5,
            terminated_pod_gc_threshold: 12_500,
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            node_monitor_period: Duration::from_secs(5),
            legacy_token_clean_up_period: Duration::from_secs(365 * 86_400),
            cluster_cidrs: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
        }
    }
}

/// What a controller is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Writes in the controller's name.
    pub client: Handle,
    /// The shared caches.
    pub informers: Informers,
    /// Events in the controller's name.
    pub events: Recorder,
    /// The options.
    pub options: Arc<Options>,
    /// Cancelled when the controller must end.
    pub stop: CancellationToken,
}

/// A client, printable.
#[derive(Clone)]
pub struct Handle(pub Client);

impl Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Context {
    /// The API of a namespaced kind.
    #[must_use]
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.0.clone(), namespace)
    }

    /// The API of a cluster-scoped kind.
    #[must_use]
    pub fn cluster_api<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.0.clone())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Hands the queue's keys to `reconcile`, several at once, until the context stops. A failure brings the key
    /// back with back-off; so does a panic, which costs that reconcile alone.
    pub async fn work<T, F, R>(&self, name: &'static str, queue: Arc<Queue<T>>, workers: usize, reconcile: F)
    where
        T: Clone + Eq + Hash + Debug + Send + Sync + 'static,
        F: Fn(Context, T) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        queue.observe(&self.options.metrics, name);
        let mut running = JoinSet::new();
        for _ in 0..workers.max(1) {
            let (context, queue, reconcile) = (self.clone(), queue.clone(), reconcile.clone());
            running.spawn(async move {
                while let Some(key) = queue.next(&context.stop).await {
                    // Ending in the midst is as good as a crash, and must be: nothing is held in memory.
                    let outcome = tokio::select! {
                        () = context.stop.cancelled() => return,
                        outcome = AssertUnwindSafe(reconcile(context.clone(), key.clone())).catch_unwind() => outcome,
                    };
                    match outcome {
                        Ok(Ok(next)) => {
                            queue.forget(&key);
                            if let Next::After(delay) = next {
                                queue.add_after(key.clone(), delay);
                            }
                        }
                        Ok(Err(error)) => {
                            if error.is_ordinary() {
                                tracing::debug!(controller = name, ?key, error = %chain(&error), "again");
                            } else {
                                tracing::warn!(controller = name, ?key, error = %chain(&error), "reconcile failed");
                            }
                            queue.add_rate_limited(key.clone());
                        }
                        Err(_) => {
                            tracing::error!(controller = name, ?key, "reconcile panicked");
                            queue.add_rate_limited(key.clone());
                        }
                    }
                    queue.done(&key);
                }
            });
        }
        while running.join_next().await.is_some() {}
    }
}

/// When a key that was reconciled comes back of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    Done,
    /// After this time at the latest.
    After(Duration),
}

/// What can go wrong, sorted by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or was not reached; try again later.
    #[error("the API call failed")]
    Api(#[from] kube::Error),
    /// The world is not yet as it must be; try again soon.
    #[error("not yet: {0}")]
    NotYet(String),
    /// Another process leads now; stop, or start again as a candidate.
    #[error("leadership was lost")]
    LeadershipLost,
    /// `--controllers` names a controller that does not exist; correct it.
    #[error("\"{0}\" is not in the list of known controllers")]
    UnknownController(String),
}

impl Error {
    /// Whether the failure belongs to normal operation: conflicts, waiting, a namespace that ends.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        match self {
            Self::NotYet(_) => true,
            Self::Api(error) => is_conflict(error) || is_not_found(error) || is_namespace_terminating(error),
            Self::LeadershipLost | Self::UnknownController(_) => false,
        }
    }
}

fn status(error: &kube::Error) -> Option<&kube::core::Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// An error with what caused it, for logs.
fn chain(error: &Error) -> String {
    match error {
        Error::Api(cause) => format!("{error}: {}", message(cause)),
        Error::NotYet(_) | Error::LeadershipLost | Error::UnknownController(_) => error.to_string(),
    }
}

/// Whether the object does not exist.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 404)
}

/// Whether somebody else wrote first.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.code == 409 && status.reason != "AlreadyExists")
}

/// Whether the name is taken.
#[must_use]
pub fn is_already_exists(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| status.reason == "AlreadyExists")
}

/// Whether the namespace ends and takes nothing new.
#[must_use]
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    status(error).is_some_and(|status| {
        status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    })
}

/// The error as the API worded it.
#[must_use]
pub fn message(error: &kube::Error) -> String {
    status(error).map_or_else(|| error.to_string(), |status| status.message.clone())
}

/// Deletes an object if it is still the one with this uid; whether it was there. Dependents follow in the background.
///
/// # Errors
/// What the API answers, other than that the object is gone or another now.
pub async fn delete<K: Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    name: &str,
    uid: Option<&str>,
) -> Result<bool, kube::Error> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) || (is_conflict(&error) && uid.is_some()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Chooses controllers by upstream's `--controllers` syntax.
fn chosen<'a>(table: &[&'a Controller], enabled: &[String]) -> Result<Vec<&'a Controller>, Error> {
    let known: BTreeSet<&str> = table.iter().flat_map(|one| one.aliases.iter().copied().chain([one.name])).collect();
    for word in enabled {
        let name = word.strip_prefix('-').unwrap_or(word);
        if word != "*" && !known.contains(name) {
            return Err(Error::UnknownController(name.to_owned()));
        }
    }
    let says = |controller: &Controller, sign: &str| {
        enabled.iter().any(|word| {
            controller.aliases.iter().chain([&controller.name]).any(|name| word.strip_prefix(sign) == Some(name))
        })
    };
    let all = enabled.is_empty() || enabled.iter().any(|word| word == "*");
    let by_itself = |one: &Controller| all && !ON_REQUEST.iter().any(|asked| asked.name == one.name);
    Ok(table.iter().copied().filter(|one| !says(one, "-") && (says(one, "") || by_itself(one))).collect())
}

/// What `--controllers` says once those are left out whose feature gate is off.
#[must_use]
pub fn allowed(mut enabled: Vec<String>, is_on: impl Fn(&str) -> bool) -> Vec<String> {
    if enabled.is_empty() {
        enabled.push("*".to_owned());
    }
    enabled.extend(GATED.iter().filter(|(_, gate)| !is_on(gate)).map(|(one, _)| format!("-{}", one.name)));
    enabled
}

/// Runs the chosen controllers until `stop`, after leadership was won if that is asked for.
///
/// `client_for` makes a client that acts as the named service account in kube-system, and for [`COMPONENT`] as the
/// user `system:kube-controller-manager`, who may list and watch everything.
///
/// # Errors
/// [`Error::UnknownController`] at once; [`Error::LeadershipLost`] when another process took the lease.
pub async fn run(
    client_for: impl Fn(&str) -> Client + Send + Sync + 'static,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    let controllers = chosen(CONTROLLERS, &options.enabled)?;
    let component = client_for(COMPONENT);
    let (leading, keeper) = if options.leader_elect {
        let election = Election::new("kube-system", COMPONENT, options.identity.clone());
        match leader::acquire(component.clone(), election, options.clock.clone(), stop.clone()).await {
            Some((leading, keeper)) => (leading, Some(keeper)),
            None => return Ok(()),
        }
    } else {
        (stop.child_token(), None)
    };
    let options = Arc::new(options);
    let informers = Informers::new(component, leading.clone());
    let mut running = JoinSet::new();
    for controller in controllers {
        let client = client_for(controller.service_account);
        let context = Context {
            events: Recorder::start(client.clone(), controller.reporter, options.clock.clone(), leading.clone()),
            client: Handle(client),
            informers: informers.clone(),
            options: options.clone(),
            stop: leading.clone(),
        };
        let (start, name) = (controller.start, controller.name);
        let runs = options.metrics.controller(name);
        running.spawn(async move {
            runs.set(1);
            let stop = context.stop.clone();
            let ended = AssertUnwindSafe(start(context)).catch_unwind().await;
            runs.set(0);
            if !stop.is_cancelled() {
                tracing::error!(controller = name, panicked = ended.is_err(), "controller ended early");
            }
        });
    }
    leading.cancelled().await;
    while running.join_next().await.is_some() {}
    if let Some(keeper) = keeper {
        let _ = keeper.await;
    }
    if stop.is_cancelled() { Ok(()) } else { Err(Error::LeadershipLost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_as_upstream_does() {
        let words = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
        let count = |text: &str| chosen(CONTROLLERS, &words(text)).unwrap().len();
        let all = CONTROLLERS.len() - ON_REQUEST.len();
        assert_eq!((count(""), count("*")), (all, all));
        assert_eq!(count("* -deployment-controller"), all - 1);
        assert_eq!(count("-deployment *"), all - 1);
        assert_eq!(count("* bootstrapsigner tokencleaner"), all + 2);
        assert_eq!(count("deployment replicaset-controller"), 2);
        assert!(
            matches!(chosen(CONTROLLERS, &words("* -nonsense")), Err(Error::UnknownController(name)) if name == "nonsense")
        );
    }

    #[test]
    fn the_table_has_no_name_twice() {
        let mut names = BTreeSet::new();
        for controller in CONTROLLERS {
            for name in controller.aliases.iter().chain([&controller.name]) {
                assert!(names.insert(*name), "{name}");
            }
        }
    }
}
