//! `ironkeel scheduler`: the scheduler from upstream's flags and a KubeSchedulerConfiguration.

use super::connection::{self, Connection};
use super::settings::Settings;
use super::table::Component;
use super::{identity_of_process, listen, secured};
use crate::profile::process;
use anyhow::Context as _;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const COMPONENT: Component = Component {
    name: "scheduler",
    upstream: "kube-scheduler",
    table: include_str!("../../flags/scheduler.txt"),
    document: Some((&["kubescheduler.config.k8s.io/v1"], "KubeSchedulerConfiguration")),
    file_alone: false,
};

const AGENT: &str = "kube-scheduler/v1.36";
/// Who schedules a pod that says nothing.
const DEFAULT: &str = "default-scheduler";

struct Wanted {
    kubeconfig: PathBuf,
    master: String,
    listen: Option<SocketAddr>,
    profiling: bool,
    options: scheduler::Options,
}

fn wanted(settings: &Settings) -> anyhow::Result<Wanted> {
    let port: u16 = settings.number("secure-port")?;
    let address = settings.ip("bind-address")?.context("--bind-address is missing")?;
    Ok(Wanted {
        kubeconfig: settings
            .path("kubeconfig")
            .context("--kubeconfig is missing, or clientConnection.kubeconfig in --config")?,
        master: settings.text("master"),
        listen: (port > 0).then(|| SocketAddr::new(address, port)),
        profiling: settings.bool("profiling"),
        options: scheduler::Options {
            scheduler_name: profile(&settings.raw("profiles"))?,
            leader_elect: settings.bool("leader-elect"),
            lease_namespace: settings.text("leader-elect-resource-namespace"),
            lease_name: settings.text("leader-elect-resource-name"),
            identity: identity_of_process(),
            ..scheduler::Options::default()
        },
    })
}

/// The name of the one profile. What a profile may change is not built: it says so instead of scheduling otherwise than asked.
fn profile(profiles: &Value) -> anyhow::Result<String> {
    let profiles = profiles.as_array().map(Vec::as_slice).unwrap_or_default();
    anyhow::ensure!(profiles.len() <= 1, "profiles: there is one profile only");
    let Some(profile) = profiles.first() else { return Ok(DEFAULT.to_owned()) };
    for (key, value) in profile.as_object().into_iter().flatten() {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let empty = empty || value.as_object().is_some_and(serde_json::Map::is_empty);
        anyhow::ensure!(
            key == "schedulerName" || empty,
            "profiles[0].{key}: plugins, their weights and their arguments cannot be changed"
        );
    }
    Ok(profile.get("schedulerName").and_then(Value::as_str).unwrap_or(DEFAULT).to_owned())
}

/// Runs the scheduler until `stop`.
///
/// # Errors
/// When the settings cannot be, an address is taken, or a watch ends.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let secured = secured::read(&settings)?;
    let wanted = wanted(&settings)?;
    let connection = Connection::open(&wanted.kubeconfig, &wanted.master, AGENT).await?;
    let mut tasks = JoinSet::new();
    if let Some(address) = wanted.listen {
        let secured = secured.open(&connection, AGENT, stop.clone()).await?;
        let registry = wanted.options.metrics.registry();
        connection::show_requests(registry);
        let routes = listen::with_metrics(registry).profiled(process(wanted.profiling));
        listen::serve(&mut tasks, address, routes, Some(secured), stop.clone()).await?;
    }
    scheduler::run(connection.client(), wanted.options, stop).await?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
pub(crate) fn read_all(settings: &Settings) -> anyhow::Result<()> {
    secured::read(settings)?;
    wanted(settings).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_gives_a_name_and_nothing_that_would_be_lost() {
        let cases = [
            (json!(null), Ok("default-scheduler")),
            (json!([{"schedulerName": "mine", "plugins": {}}]), Ok("mine")),
            (json!([{"plugins": {"score": {"disabled": [{"name": "*"}]}}}]), Err("profiles[0].plugins")),
            (json!([{"percentageOfNodesToScore": 50}]), Err("profiles[0].percentageOfNodesToScore")),
            (json!([{}, {}]), Err("profiles: ")),
        ];
        for (value, want) in cases {
            match (profile(&value), want) {
                (Ok(name), Ok(want)) => assert_eq!(name, want),
                (Err(error), Err(want)) => assert!(error.to_string().starts_with(want), "{error}"),
                (got, _) => panic!("{value}: {got:?}"),
            }
        }
    }
}
