//! What scenarios make before they measure: collections of known names. Never measures.

use std::ops::Range;

use anyhow::Result;

use crate::client::Ask;
use crate::load::{self, Op};
use crate::objects;
use crate::scenario::Context;

/// How many Deployments the scenarios that change them share.
const DEPLOYMENTS: u64 = 100;

/// The Deployment whose turn it is.
pub(crate) fn deployment(number: u64) -> String {
    format!("of-{}", number % DEPLOYMENTS)
}

/// Makes every [`deployment`] in the collection.
pub(crate) async fn deployments(context: &Context, path: &str) -> Result<()> {
    let path = path.to_owned();
    all(context, 0..DEPLOYMENTS, move |number| Ask::post(&path, objects::deployment(&deployment(number), 0))).await
}

/// Makes the ConfigMaps `of-N` of these numbers.
pub(crate) async fn config_maps(context: &Context, path: &str, numbers: Range<u64>) -> Result<()> {
    let path = path.to_owned();
    all(context, numbers, move |number| Ask::post(&path, objects::config_map(&format!("of-{number}"), number))).await
}

/// Makes ConfigMaps of about 10 KiB.
pub(crate) async fn large_config_maps(context: &Context, path: &str, numbers: Range<u64>) -> Result<()> {
    let path = path.to_owned();
    let make = move |number| Ask::post(&path, objects::config_map_with(&format!("large-{number}"), number, 9_900));
    all(context, numbers, make).await
}

/// Makes Leases as nodes do: `node-N`.
pub(crate) async fn leases(context: &Context, path: &str, numbers: Range<u64>) -> Result<()> {
    let path = path.to_owned();
    all(context, numbers, move |number| Ask::post(&path, objects::lease(&format!("node-{number}"), 0, 0))).await
}

/// The operation that makes the pod `of-N`.
pub(crate) fn pod(path: &str) -> Op {
    let path = path.to_owned();
    load::request(move |number| Ask::post(&path, objects::pod(&format!("of-{number}"), number)))
}

async fn all(context: &Context, numbers: Range<u64>, make: impl Fn(u64) -> Ask + Send + Sync + 'static) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let first = numbers.start;
    let op = load::request(move |number| make(first + number));
    load::all(context, 16, numbers.end - first, op).await.map(drop)
}
