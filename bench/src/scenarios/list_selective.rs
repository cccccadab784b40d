//! Lists that want few of very many.

use anyhow::Result;

use crate::client::Ask;
use crate::fill;
use crate::load;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "list_selective",
    about: "Lists few of 300,000 ConfigMaps: by label, one in 100 and 500 of those, by name, by a label that none has.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = core(namespace, "configmaps");
    fill::config_maps(context, &path, 0..context.scaled(300_000)).await?;
    let mut cases = vec![];
    for (what, query) in [
        ("by label, one in 100", "labelSelector=group%3Dgroup-7"),
        ("by label, 500", "labelSelector=group%3Dgroup-7&limit=500"),
        ("by label, none", "labelSelector=group%3Dno-group"),
        ("by name", "fieldSelector=metadata.name%3Dof-0"),
    ] {
        let path = format!("{path}?{query}");
        let media_type = context.encoding.media_type();
        let op = load::request(move |_| Ask::get(&path).accept(media_type));
        let mut case = load::closed(context, 1, op).await?;
        what.clone_into(&mut case.name);
        cases.push(case);
    }
    Ok(cases)
}
