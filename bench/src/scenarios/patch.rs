//! Patches of each type.

use anyhow::Result;

use crate::client::Ask;
use crate::measure::Case;
use crate::scenario::{Context, Scenario, group};
use crate::{fill, load};

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "patch",
    about: "Patches one of 100 Deployments over 16 connections: JSON patch, merge patch, strategic merge patch.",
    run: |context, namespace| Box::pin(run(context, namespace)),
};

/// The media type, and what stands around the number in its patch.
const TYPES: [(&str, &str, &str); 3] = [
    ("json", "application/json-patch+json", r#"[{"op":"replace","path":"/metadata/annotations/number","value":"@"}]"#),
    ("merge", "application/merge-patch+json", r#"{"metadata":{"annotations":{"number":"@"}}}"#),
    (
        "strategic merge",
        "application/strategic-merge-patch+json",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"NUMBER","value":"@"}]}]}}}}"#,
    ),
];

async fn run(context: &Context, namespace: &str) -> Result<Vec<Case>> {
    let path = group("apps/v1", namespace, "deployments");
    fill::deployments(context, &path).await?;
    let mut cases = vec![];
    for (what, media_type, patch) in TYPES {
        let path = path.clone();
        let op = load::request(move |number| {
            Ask::patch(
                format!("{path}/{}", fill::deployment(number)),
                media_type,
                patch.replace('@', &number.to_string()),
            )
        });
        let mut case = load::closed(context, 16, op).await?;
        case.name = format!("{what}, {}", case.name);
        cases.push(case);
    }
    Ok(cases)
}
