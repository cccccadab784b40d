//! The end of a namespace with everything in it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;

use crate::client::Ask;
use crate::measure::{Case, Tally};
use crate::scenario::{Context, Scenario, core, make_namespace};
use crate::{fill, usage};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "namespace_deletion",
    about: "Deletes a namespace of 10,000 ConfigMaps and waits until it is gone; needs a controller manager.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// After so long the namespace is not being deleted at all.
const PATIENCE: Duration = Duration::from_secs(180);

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (namespace, count) = (format!("{namespace}-full"), context.scaled(10_000));
    make_namespace(context, &namespace).await?;
    fill::config_maps(context, &core(&namespace, "configmaps"), 0..count).await?;
    let path = format!("/api/v1/namespaces/{namespace}");
    let mut connection = context.connect().await?;
    let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
    connection.ask(&Ask::new(Method::DELETE, &path)).await?.into_length().await?;
    while connection.ask(&Ask::get(&path)).await?.into_length().await.is_ok() {
        if begin.elapsed() > PATIENCE {
            bail!("the namespace is still there after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (time, used) = (begin.elapsed(), begun.map(|begun| begun.end()).transpose()?);
    let mut tally = Tally::default();
    tally.done(time, 0);
    let mut case = tally.into_case(format!("{count} objects"), "namespaces", time, used);
    case.rate = count as f64 / time.as_secs_f64();
    case.count = count;
    "objects".clone_into(&mut case.unit);
    Ok(vec![case])
}
