//! Many CustomResourceDefinitions.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, group};
use crate::{load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "definitions",
    about: "Creates 1,000 CustomResourceDefinitions over 4 connections and waits until the last is served.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const PATIENCE: Duration = Duration::from_secs(300);

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let count = context.scaled(1_000);
    let begin = Instant::now();
    let mut case =
        load::all(context, 4, count, load::request(|number| Ask::post(PATH, objects::definition(number)))).await?;
    let mut connection = context.connect().await?;
    for number in 0..count {
        let ask = Ask::get(group("bench.example.test/v1", namespace, &format!("widgets{number}")));
        while connection.ask(&ask).await?.into_length().await.is_err() {
            if begin.elapsed() > PATIENCE {
                bail!("the definition {number} is not served after {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    case.name = format!("{count}, the last served after {:.1} s", begin.elapsed().as_secs_f64());
    let gone = load::request(|number| Ask::new(Method::DELETE, format!("{PATH}/widgets{number}.bench.example.test")));
    load::all(context, 4, count, gone).await?;
    Ok(vec![case])
}
