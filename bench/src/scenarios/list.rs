//! Lists of one namespace's ConfigMaps, in every way that clients ask for them.

use anyhow::Result;

use crate::client::Ask;
use crate::fill;
use crate::load::{self, Op};
use crate::measure::Case;
use crate::scenario::{Context, Scenario, core};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "list",
    about: "Lists 1,000, 10,000 and 100,000 ConfigMaps: whole, from the cache, by pages, by selectors, as a table, as metadata.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let (path, media_type) = (core(namespace, "configmaps"), context.encoding.media_type());
    let mut cases = vec![];
    let mut made = 0;
    for count in [1_000, 10_000, 100_000].map(|count| context.scaled(count)) {
        fill::config_maps(context, &path, made..count).await?;
        made = count;
        let get = |query: &str, accept: &'static str| -> Op {
            let path = format!("{path}{query}");
            load::request(move |_| Ask::get(&path).accept(accept))
        };
        let ways: [(&str, Op); 7] = [
            ("whole and consistent", get("", media_type)),
            ("whole, resourceVersion=0", get("?resourceVersion=0", media_type)),
            ("pages of 500", load::pages(format!("{path}?limit=500"))),
            ("by label, one in 100", get("?labelSelector=group%3Dgroup-7", media_type)),
            ("by field, one", get("?fieldSelector=metadata.name%3Dof-0", media_type)),
            ("as a table", get("", TABLE)),
            ("as metadata", get("", METADATA)),
        ];
        for (what, op) in ways {
            let mut case = load::closed(context, 1, op).await?;
            case.name = format!("{made}, {what}");
            cases.push(case);
        }
    }
    Ok(cases)
}
