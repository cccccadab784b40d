//! `PodGroupWorkloadExists`: a pod group that is made from a template of a workload is refused where there is none (KEP-4671).

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::{meta, value};
use async_trait::async_trait;

/// See the file.
pub struct PodGroupWorkloadExists;

pub(crate) static PLUGIN: PodGroupWorkloadExists = PodGroupWorkloadExists;

#[async_trait]
impl Plugin for PodGroupWorkloadExists {
    fn name(&self) -> &'static str {
        "PodGroupWorkloadExists"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["podgroups"]
    }

    async fn validate(&self, request: &Request<'_>, group: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let kind = (request.kind.group, request.kind.plural, request.subresource);
        let reference = value::get(group, "spec.podGroupTemplateRef.workload").filter(|one| one.is_object());
        let made = request.operation == Operation::Create && kind == ("scheduling.k8s.io", "podgroups", "");
        let (true, Some(reference)) = (made, reference) else { return Ok(()) };
        let name = value::text(reference, "workloadName");
        let workload = lookup.get("scheduling.k8s.io", "workloads", request.namespace, name).await;
        judge(reference, workload.as_ref()).map_err(|why| request.forbidden(&format!("PodGroup rejected: {why}")))
    }
}

fn judge(reference: &Value, workload: Option<&Value>) -> Result<(), String> {
    let (name, template) = (value::text(reference, "workloadName"), value::text(reference, "podGroupTemplateName"));
    match workload {
        None => Err(format!("Workload {name:?} not found")),
        Some(workload) if meta::is_deleting(workload) => Err(format!("Workload {name:?} is being deleted")),
        Some(workload) => {
            let mut templates = value::items(workload, "spec.podGroupTemplates").iter();
            if templates.any(|one| value::text(one, "name") == template) {
                return Ok(());
            }
            Err(format!("PodGroupTemplate {template:?} not found in Workload {name:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn the_template_must_be_there() {
        let reference = json!({"workloadName": "w", "podGroupTemplateName": "t"});
        let workload = |template: &str, deleted: Value| {
            json!({"metadata": {"name": "w", "deletionTimestamp": deleted},
                "spec": {"podGroupTemplates": [{"name": "other"}, {"name": template}]}})
        };
        for (workload, expected) in [
            (None, Some("Workload \"w\" not found")),
            (Some(workload("t", Value::Null)), None),
            (Some(workload("t", json!("2026-01-01T00:00:00Z"))), Some("Workload \"w\" is being deleted")),
            (Some(workload("u", Value::Null)), Some("PodGroupTemplate \"t\" not found in Workload \"w\"")),
        ] {
            assert_eq!(judge(&reference, workload.as_ref()).err().as_deref(), expected);
        }
    }
}
