//! Creates ConfigMaps of 1 KiB.

use anyhow::Result;
use http::Method;

use crate::client::{Ask, Encoding};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};
use crate::{load, objects};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "create",
    about: "Creates ConfigMaps of 1 KiB over 1, 16 and 64 connections.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let mut cases = vec![];
    for workers in [1, 16, 64] {
        let (encoding, path, namespace) = (context.encoding, core(namespace, "configmaps"), namespace.to_owned());
        let op = load::request(move |number| {
            let name = format!("of-{workers}-{number}");
            let ask = match encoding {
                Encoding::Json => Ask::post(&path, objects::config_map(&name, number)),
                Encoding::Protobuf => {
                    let body = objects::config_map_protobuf(&name, &namespace, number);
                    Ask::new(Method::POST, &path).body(encoding.media_type(), body)
                }
            };
            ask.accept(encoding.media_type())
        });
        cases.push(load::closed(context, workers, op).await?);
    }
    Ok(cases)
}
