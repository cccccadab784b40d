//! `ironkeel rewrite-encryption`: brings what a running cluster stores under the first key of its encryption configuration.
//!
//! Asks the API server part by part; never opens a store.

use crate::flags::RewriteEncryption;
use anyhow::Context as _;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where the API server serves it.
const PATH: &str = apiserver::encryption::rewrite::PATH;
/// Passes after which something writes old data faster than they are brought up to date.
const PASSES: usize = 5;

/// What became of one resource.
#[derive(Default)]
struct Count {
    objects: u64,
    past: u64,
}

pub(crate) async fn run(flags: &RewriteEncryption) -> anyhow::Result<()> {
    let file = flags.kubeconfig.display();
    let kubeconfig = kube::config::Kubeconfig::read_from(&flags.kubeconfig)
        .with_context(|| format!("the kubeconfig {file} cannot be read"))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut clean = false;
    for _ in 0..PASSES {
        errors.clear();
        if pass(&client, &mut counts, &mut errors).await? == 0 {
            clean = true;
            break;
        }
    }
    anyhow::ensure!(
        !counts.is_empty(),
        "the cluster runs without --encryption-provider-config: there is nothing to rewrite"
    );
    for (resource, Count { objects, past }) in &counts {
        eprintln!("{resource}: {objects} objects and {past} past states rewritten");
    }
    anyhow::ensure!(
        errors.is_empty(),
        "some objects cannot be decrypted and were left as they are:\n  {}",
        errors.join("\n  ")
    );
    anyhow::ensure!(
        clean,
        "old data come faster than they are rewritten; does another API server run with another configuration?"
    );
    eprintln!("All of it is under the first key of the configuration; the others can be removed from it.");
    Ok(())
}

/// Goes once over everything; returns how much was rewritten.
async fn pass(
    client: &kube::Client,
    counts: &mut BTreeMap<String, Count>,
    errors: &mut Vec<String>,
) -> anyhow::Result<u64> {
    let mut rewritten = 0;
    let mut position: Option<String> = None;
    loop {
        let uri = match &position {
            None => PATH.to_owned(),
            Some(position) => format!("{PATH}?continue={position}"),
        };
        let request = http::Request::post(uri).body(Vec::new())?;
        let answer: Value = client.request(request).await.context("the API server does not rewrite")?;
        let number = |field: &str| answer.get(field).and_then(Value::as_u64).unwrap_or(0);
        if let Some(resource) = answer.get("resource").and_then(Value::as_str) {
            let count = counts.entry(resource.to_owned()).or_default();
            count.objects += number("objects");
            count.past += number("past");
            rewritten += number("objects") + number("past");
        }
        let said = answer.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        errors.extend(said.map(str::to_owned));
        match answer.get("continue").and_then(Value::as_str) {
            Some(next) => position = Some(next.to_owned()),
            None => return Ok(rewritten),
        }
    }
}
