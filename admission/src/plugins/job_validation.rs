//! `JobValidation`: a job whose pods are scheduled all or none keeps its parallelism (KEP-5547).

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use api::json::Value;
use api::{meta, value};
use async_trait::async_trait;

/// See the file.
pub struct JobValidation;

pub(crate) static PLUGIN: JobValidation = JobValidation;

#[async_trait]
impl Plugin for JobValidation {
    fn name(&self) -> &'static str {
        "JobValidation"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["jobs"]
    }

    async fn validate(&self, request: &Request<'_>, job: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let kind = (request.kind.group, request.kind.plural, request.subresource);
        let parallelism = |job: &Value| value::int(job, "spec.parallelism");
        let changed = request.operation == Operation::Update
            && kind == ("batch", "jobs", "")
            && parallelism(job) != parallelism(request.old);
        if !changed {
            return Ok(());
        }
        let groups = lookup.list("scheduling.k8s.io", "podgroups", request.namespace).await;
        let Some(group) = gang(request.old, &groups) else { return Ok(()) };
        let why = format!("cannot change parallelism for a Job referencing gang-scheduled PodGroup {group:?}");
        Err(request.forbidden(&why))
    }
}

/// The name of the job's group, by its template or by whose it is, where that is scheduled all or none.
fn gang<'a>(job: &Value, groups: &'a [Value]) -> Option<&'a str> {
    let named = value::get(job, "spec.template.spec.schedulingGroup.podGroupName").and_then(Value::as_str);
    let uid = value::text(job, "metadata.uid");
    let owned = |group: &Value| {
        let mut owners = value::items(group, "metadata.ownerReferences").iter();
        owners.any(|owner| value::flag(owner, "controller") && value::text(owner, "uid") == uid)
    };
    let mut own = groups.iter().filter(|group| match named {
        Some(name) => meta::name(group) == name,
        None => owned(group),
    });
    let group =
        own.find(|group| value::get(group, "spec.schedulingPolicy.gang").is_some_and(|gang| !gang.is_null()))?;
    Some(meta::name(group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn gangs_are_found_by_name_or_owner() {
        let group = |name: &str, owner: &str, gang: Value| {
            json!({"metadata": {"name": name, "ownerReferences": [{"uid": owner, "controller": true}]},
                "spec": {"schedulingPolicy": {"gang": gang}}})
        };
        let groups = [
            group("loose", "u", Value::Null),
            group("own", "u", json!({"minCount": 2})),
            group("other", "v", json!({})),
        ];
        let job = |uid: &str, named: Value| json!({"metadata": {"uid": uid}, "spec": {"template": {"spec": {"schedulingGroup": {"podGroupName": named}}}}});
        for (job, expected) in [
            (job("u", Value::Null), Some("own")),
            (job("w", Value::Null), None),
            (job("w", json!("other")), Some("other")),
            (job("u", json!("loose")), None),
            (job("u", json!("absent")), None),
        ] {
            assert_eq!(gang(&job, &groups), expected, "{job}");
        }
    }
}
