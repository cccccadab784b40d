//! `ResourceQuota`: refuses what a namespace's quotas do not allow, and pods that leave unsaid what a quota counts.
//!
//! Compares with the objects that are there, so that it needs no controller, and writes the quotas' status in the transaction of the
//! write: of two writers, on whichever servers, the later one sees what the earlier one left or is asked again.

use crate::plugin::{Along, Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::kinds::core_v1::resource_quota;
use api::quantity::Quantity;
use api::quota::{self, Amounts};
use api::{kind::Kind, meta, value};
use async_trait::async_trait;

/// See the file.
pub struct ResourceQuota;

pub(crate) static PLUGIN: ResourceQuota = ResourceQuota;

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn settle(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<Vec<Along>, Refusal> {
        let kind = request.kind.stored();
        let of_whole = request.subresource.is_empty() || request.subresource == "resize";
        if !of_whole || !kind.namespaced || !kind.is_stored() {
            return Ok(Vec::new());
        }
        // Most namespaces have none, and most changes cost nothing.
        if lookup.list("", "resourcequotas", request.namespace).await.is_empty() {
            return Ok(Vec::new());
        }
        let write = Write { kind, object, old: request.old, now: request.now };
        // The quotas first: who writes after they were read changes one of them.
        let quotas = lookup.list_latest("", "resourcequotas", request.namespace).await?;
        if let Some(why) = quotas.iter().find_map(|one| write.unsaid(one)) {
            return Err(request.forbidden(&why));
        }
        let asked: Vec<_> =
            quotas.into_iter().map(|one| (write.more(&one), one)).filter(|(more, _)| !more.is_empty()).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let there = lookup.list_latest(kind.group, kind.plural, request.namespace).await?;
        let mut along = Vec::new();
        for (more, quota) in asked {
            let object = write.charged(quota, &more, &there).map_err(|why| request.forbidden(&why))?;
            along.push(Along { kind: &resource_quota::KIND, object });
        }
        Ok(along)
    }
}

/// What is about to be written.
struct Write<'a> {
    /// As stored.
    kind: &'static Kind,
    object: &'a Value,
    /// `Null` on create.
    old: &'a Value,
    now: i64,
}

impl Write<'_> {
    /// What an object costs this quota.
    fn cost(&self, one: &Value, object: &Value) -> Amounts {
        if object.is_null() || !quota::covers(one, self.kind.group, self.kind.plural, object) {
            return Amounts::new();
        }
        let hard = quota::amounts(one, "spec.hard");
        let mut cost = quota::usage(self.kind.group, self.kind.plural, object, self.now);
        cost.retain(|name, _| hard.contains_key(name));
        cost
    }

    /// What the write costs this quota beyond what the object cost before.
    fn more(&self, one: &Value) -> Amounts {
        let (mut more, old) = (self.cost(one, self.object), self.cost(one, self.old));
        for (name, amount) in &mut more {
            *amount = *amount - old.get(name).copied().unwrap_or(Quantity::ZERO);
        }
        more.retain(|_, amount| amount.signum() > 0);
        more
    }

    /// What a new pod leaves unsaid though the quota counts it.
    fn unsaid(&self, one: &Value) -> Option<String> {
        let new_pod = self.kind.group.is_empty() && self.kind.plural == "pods" && self.old.is_null();
        if !new_pod || !quota::covers(one, self.kind.group, self.kind.plural, self.object) {
            return None;
        }
        let unsaid = quota::unsaid(&quota::amounts(one, "spec.hard"), self.object)?;
        Some(format!("failed quota: {}: {unsaid}", meta::name(one)))
    }

    /// The quota as the write leaves it. On an update the object is among those that are there, as it was.
    ///
    /// # Errors
    /// Why the quota does not allow the write.
    fn charged(&self, mut one: Value, more: &Amounts, there: &[Value]) -> Result<Value, String> {
        let hard = quota::amounts(&one, "spec.hard");
        let mut used = Amounts::new();
        for held in there {
            quota::add(&mut used, &self.cost(&one, held));
        }
        if let Some(why) = quota::exceeded(&one, &hard, &used, more) {
            return Err(why);
        }
        quota::add(&mut used, more);
        let status = value::map_mut(&mut one, "status.used");
        for name in more.keys() {
            let amount = used.get(name).copied().unwrap_or(Quantity::ZERO);
            status.insert(name.clone(), Value::from(amount.to_string()));
        }
        Ok(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;
    use api::kinds::core_v1::{config_map, pod};

    fn check(kind: &'static Kind, hard: &Value, there: &[Value], old: &Value, object: &Value, expected: Option<&str>) {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        let write = Write { kind, object, old, now: 0 };
        let charged = |quota: Value| write.charged(quota.clone(), &write.more(&quota), there).err();
        let said = write.unsaid(&quota).or_else(|| charged(quota));
        assert_eq!(said.as_deref(), expected, "{object}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let pods = |hard: Value, there: &[Value], old: Value, object: Value, expected| {
            check(&pod::KIND, &hard, there, &old, &object, expected);
        };
        let asks =
            |cpu: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        pods(json!({"cpu": "2"}), &[asks("1")], Value::Null, asks("1"), None);
        let over = "exceeded quota: q, requested: cpu=1100m, used: cpu=1, limited: cpu=2";
        pods(json!({"cpu": "2"}), &[asks("1")], Value::Null, asks("1100m"), Some(over));
        let unsaid = "failed quota: q: must specify cpu for: c";
        let silent = json!({"spec": {"containers": [{"name": "c"}]}});
        pods(json!({"cpu": "2"}), &[], Value::Null, silent, Some(unsaid));
        pods(json!({"cpu": "1"}), &[asks("3")], asks("3"), asks("2"), None);
        let grown = "exceeded quota: q, requested: cpu=1, used: cpu=3, limited: cpu=1";
        pods(json!({"cpu": "1"}), &[asks("3")], asks("3"), asks("4"), Some(grown));
        pods(json!({"secrets": 0}), &[], Value::Null, asks("1"), None);
        let full =
            "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1";
        check(&config_map::KIND, &json!({"count/configmaps": 1}), &[json!({})], &Value::Null, &json!({}), Some(full));
    }

    #[test]
    fn what_fits_is_on_the_quota() {
        let quota = json!({"spec": {"hard": {"configmaps": 3, "secrets": 1}}, "status": {"used": {"configmaps": "9", "secrets": "1"}}});
        let write = Write { kind: &config_map::KIND, object: &json!({}), old: &Value::Null, now: 0 };
        let more = write.more(&quota);
        let charged = write.charged(quota, &more, &[json!({}), json!({})]).unwrap();
        assert_eq!(charged["status"]["used"], json!({"configmaps": "3", "secrets": "1"}));
    }
}
