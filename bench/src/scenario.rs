//! What a scenario is, and what is the same for all: a namespace of its own that is deleted afterwards. Never knows one of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use http::Method;

use crate::client::{Ask, Connection, Encoding, Http};
use crate::measure::Case;
use crate::target::Target;

/// One kind of work, a line of the table.
pub(crate) struct Scenario {
    /// Its name on the command line and in results.
    pub(crate) name: &'static str,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
    /// Does it in a namespace that is empty and its own.
    pub(crate) run: for<'a> fn(&'a Context, &'a str) -> BoxFuture<'a, Result<Vec<Case>>>,
}

/// Against what, and how long.
pub(crate) struct Context {
    pub(crate) target: Target,
    pub(crate) http: Http,
    pub(crate) encoding: Encoding,
    /// How long each load counts.
    pub(crate) time: Duration,
    /// How long each load runs before that.
    pub(crate) warm_up: Duration,
    /// What numbers of objects and watchers are multiplied with.
    pub(crate) scale: f64,
    /// What rates are multiplied with.
    pub(crate) pace: f64,
    /// The server's processes, when they are on this machine.
    pub(crate) pids: Vec<u32>,
}

impl Context {
    /// `number`, scaled; at least one.
    pub(crate) fn scaled(&self, number: u64) -> u64 {
        ((number as f64 * self.scale).round() as u64).max(1)
    }

    /// A connection of one's own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.target, self.http).await
    }
}

/// The path of a namespaced collection of the core group.
pub(crate) fn core(namespace: &str, resource: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}")
}

/// The path of a namespaced collection of another group's version.
pub(crate) fn group(version: &str, namespace: &str, resource: &str) -> String {
    format!("/apis/{version}/namespaces/{namespace}/{resource}")
}

/// Runs one scenario in a namespace of its own.
pub(crate) async fn run(scenario: &Scenario, context: &Context) -> Result<Vec<Case>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let namespace = format!("bench-{}-{now}", scenario.name.replace('_', "-"));
    make_namespace(context, &namespace).await?;
    let measured = (scenario.run)(context, &namespace).await;
    // What it measured counts even where the server cannot delete any more.
    if let Err(error) = clean(context, &namespace).await {
        eprintln!("{namespace} is left behind: {error:#}");
    }
    measured
}

/// Makes a namespace.
pub(crate) async fn make_namespace(context: &Context, name: &str) -> Result<()> {
    let body = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#);
    let ask = Ask::post("/api/v1/namespaces", body);
    context.connect().await?.ask(&ask).await?.into_length().await.context("no namespace for the scenario")?;
    Ok(())
}

/// Deletes what scenarios make, then the namespace: a server without controllers would keep everything.
async fn clean(context: &Context, namespace: &str) -> Result<()> {
    let mut connection = context.connect().await?;
    for path in [
        core(namespace, "configmaps"),
        core(namespace, "pods"),
        group("apps/v1", namespace, "deployments"),
        group("coordination.k8s.io/v1", namespace, "leases"),
    ] {
        connection.ask(&Ask::new(Method::DELETE, path)).await?.into_length().await?;
    }
    let ask = Ask::new(Method::DELETE, format!("/api/v1/namespaces/{namespace}"));
    connection.ask(&ask).await?.into_length().await?;
    Ok(())
}
