//! `PodNodeSelector`: pods of a namespace go to the nodes that an annotation of the namespace, or the configuration, names.
//!
//! Configuration: `podNodeSelectorPluginConfig`, from namespaces to selectors; `clusterDefaultNodeSelector` is that of namespaces without
//! an annotation.

use crate::configured::{Settings, Setup};
use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::{Text, Value};
use api::status::Status;
use api::value;
use async_trait::async_trait;
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// See the file.
#[derive(Default)]
pub struct PodNodeSelector(BTreeMap<String, String>);

pub(crate) static PLUGIN: PodNodeSelector = PodNodeSelector(BTreeMap::new());

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const DEFAULT: &str = "clusterDefaultNodeSelector";

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["pods"]
    }

    fn by_default(&self) -> bool {
        false
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let given = settings.configuration;
        let table = given.get("podNodeSelectorPluginConfig").unwrap_or(&Value::Null);
        let text = |(name, selector): (&Text, &Value)| Some((name.into(), selector.as_str()?.to_owned()));
        let table: BTreeMap<String, String> = table.as_object().into_iter().flatten().filter_map(text).collect();
        for selector in table.values() {
            labels(selector)?;
        }
        Ok(Some(Box::new(PodNodeSelector(table))))
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        let wanted = self.wanted(request, lookup).await?;
        judge(request, &wanted, pod)?;
        for (key, label) in wanted {
            value::map_mut(pod, "spec.nodeSelector").insert(key, label.into());
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, pod: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is("pods", "") {
            return Ok(());
        }
        judge(request, &self.wanted(request, lookup).await?, pod)?;
        let allowed = self.0.get(request.namespace).map_or_else(|| Ok(Labels::new()), |text| labels(text));
        let allowed = allowed.map_err(|why| Refusal(Status::internal(why)))?;
        let own = own(pod);
        if allowed.is_empty() || own.iter().all(|(key, label)| allowed.get(key) == Some(label)) {
            return Ok(());
        }
        Err(request.forbidden("pod node label selector labels conflict with its namespace whitelist"))
    }
}

impl PodNodeSelector {
    async fn wanted(&self, request: &Request<'_>, lookup: &dyn Lookup) -> Result<Labels, Refusal> {
        let namespace = lookup.get("", "namespaces", "", request.namespace).await.unwrap_or_default();
        let default = self.0.get(DEFAULT).map(String::as_str).unwrap_or_default();
        let text = api::meta::annotation(&namespace, ANNOTATION).unwrap_or(default);
        labels(text).map_err(|why| Refusal(Status::internal(why)))
    }
}

fn own(pod: &Value) -> Labels {
    let own = value::get(pod, "spec.nodeSelector").and_then(Value::as_object).into_iter().flatten();
    own.map(|(key, label)| (key.into(), label.as_str().unwrap_or_default().to_owned())).collect()
}

fn judge(request: &Request<'_>, wanted: &Labels, pod: &Value) -> Result<(), Refusal> {
    let own = own(pod);
    if wanted.iter().any(|(key, label)| own.get(key).is_some_and(|own| own != label)) {
        return Err(request.forbidden("pod node label selector conflicts with its namespace node label selector"));
    }
    Ok(())
}

/// `a=b,c=d`.
fn labels(text: &str) -> Result<Labels, String> {
    let part = |part: &str| {
        let (key, label) = part.split_once('=').ok_or_else(|| format!("invalid selector: [{part}]"))?;
        Ok((key.trim().to_owned(), label.trim_start_matches('=').trim().to_owned()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let of =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Labels>();
        assert_eq!(labels(""), Ok(of(&[])));
        assert_eq!(labels("a=b, c=d"), Ok(of(&[("a", "b"), ("c", "d")])));
        assert_eq!(labels("env="), Ok(of(&[("env", "")])));
        assert!(labels("a").is_err());
    }
}
