//! `ResourceQuota`: refuses what a namespace's quotas do not allow, and pods that leave unsaid what a quota counts.
//!
//! Compares with the objects that are there, so that it needs no controller, and writes the quotas' status in the transaction of the
//! write: of two writers, on whichever servers, the later one sees what the earlier one left or is asked again.
//!
//! Configuration: `limitedResources` of `ResourceQuotaConfiguration`, what nobody uses without a quota that counts it.

use crate::configured::{Settings, Setup};
use crate::plugin::{Along, Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::kinds::core_v1::resource_quota;
use api::quantity::Quantity;
use api::quota::{self, Amounts, Scope};
use api::status::Status;
use api::{kind::Kind, meta, value};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// See the file.
#[derive(Default)]
pub struct ResourceQuota(Vec<Limited>);

pub(crate) static PLUGIN: ResourceQuota = ResourceQuota(Vec::new());

/// What nobody uses without a quota.
struct Limited {
    group: String,
    plural: String,
    /// Parts of the names that quotas have for it.
    contains: Vec<String>,
    /// Pods in these scopes, whatever `plural` says, as upstream.
    scopes: Vec<Scope>,
}

impl Limited {
    fn read((at, given): (usize, &Value)) -> Result<Limited, String> {
        let plural = value::text(given, "resource").to_owned();
        if plural.is_empty() {
            return Err(format!("limitedResources[{at}].resource: Required value"));
        }
        let texts = value::items(given, "matchContains").iter().filter_map(Value::as_str).map(str::to_owned);
        let scopes = quota::selected(value::items(given, "matchScopes"));
        Ok(Limited { group: value::text(given, "apiGroup").to_owned(), plural, contains: texts.collect(), scopes })
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let given = value::items(settings.configuration, "limitedResources").iter().enumerate();
        Ok(Some(Box::new(ResourceQuota(given.map(Limited::read).collect::<Result<_, _>>()?))))
    }

    async fn settle(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<Vec<Along>, Refusal> {
        let kind = request.kind.stored();
        let of_whole = request.subresource.is_empty() || request.subresource == "resize";
        if !of_whole || !kind.namespaced || !kind.is_stored() {
            return Ok(Vec::new());
        }
        let write = Write { kind, object, old: request.old, now: request.now };
        let needs = write.needs(&self.0);
        // Most namespaces have none, and most changes cost nothing.
        if needs.is_empty() && lookup.list("", "resourcequotas", request.namespace).await.is_empty() {
            return Ok(Vec::new());
        }
        // The quotas first: who writes after they were read changes one of them.
        let quotas = lookup.list_latest("", "resourcequotas", request.namespace).await?;
        if let Some(why) = quotas.iter().find_map(|one| write.unsaid(one)) {
            return Err(request.forbidden(&why));
        }
        let names = needs.uncounted(&write, &quotas);
        if !names.is_empty() {
            return Err(request.forbidden(&format!("insufficient quota to consume: {}", names.join(","))));
        }
        let scopes = needs.outside(&write, &quotas);
        if !scopes.is_empty() {
            // Upstream says this one without admission's words.
            let why = format!("insufficient quota to match these scopes: [{}]", scopes.join(" "));
            return Err(Refusal(Status::foreign(500, "", why)));
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

/// What a write uses that nobody uses without a quota.
#[derive(Default)]
struct Needs<'a> {
    /// Names in quotas.
    names: BTreeSet<String>,
    scopes: Vec<&'a Scope>,
}

impl Needs<'_> {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.scopes.is_empty()
    }

    /// Names that no quota counts which counts the object.
    fn uncounted(&self, write: &Write<'_>, quotas: &[Value]) -> Vec<String> {
        let counting =
            quotas.iter().filter(|one| quota::covers(one, write.kind.group, write.kind.plural, write.object));
        let hard: Vec<Amounts> = counting.map(|one| quota::amounts(one, "spec.hard")).collect();
        self.names.iter().filter(|name| hard.iter().all(|hard| !hard.contains_key(*name))).cloned().collect()
    }

    /// Scopes that no quota has which holds the object there.
    fn outside(&self, write: &Write<'_>, quotas: &[Value]) -> Vec<String> {
        let held: Vec<Scope> = quotas.iter().flat_map(quota::scopes).filter(|scope| write.is_in(scope)).collect();
        let missing = self.scopes.iter().filter(|scope| held.iter().all(|held| held.name != scope.name));
        missing.map(ToString::to_string).collect()
    }
}

impl Write<'_> {
    fn is_in(&self, scope: &Scope) -> bool {
        scope.holds(self.kind.group, self.kind.plural, self.object)
    }

    /// What of it the configuration limits; nothing where the object costs no more than before.
    fn needs<'a>(&self, limited: &'a [Limited]) -> Needs<'a> {
        if limited.is_empty() {
            return Needs::default();
        }
        let usage = |object: &Value| match object {
            Value::Null => Amounts::new(),
            object => quota::usage(self.kind.group, self.kind.plural, object, self.now),
        };
        let (used, before) = (usage(self.object), usage(self.old));
        let grows = |(name, amount): (&String, &Quantity)| {
            (*amount - before.get(name).copied().unwrap_or(Quantity::ZERO)).signum() > 0
        };
        if !used.iter().any(grows) {
            return Needs::default();
        }
        let own = limited.iter().filter(|one| one.group == self.kind.group && one.plural == self.kind.plural);
        let parts: Vec<&String> = own.flat_map(|one| &one.contains).collect();
        let names = used.into_keys().filter(|name| parts.iter().any(|part| name.contains(part.as_str())));
        let scopes = limited.iter().flat_map(|one| &one.scopes).filter(|scope| self.is_in(scope));
        Needs { names: names.collect(), scopes: scopes.collect() }
    }

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

    #[test]
    fn what_is_limited_needs_a_quota() {
        let configuration = json!({"limitedResources": [
            {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass.storage.k8s.io/"]},
            {"resource": "pods", "matchContains": ["cpu"],
                "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}]}]});
        let settings = Settings { configuration: &configuration, opener: &crate::configured::Nobody };
        let plugin = PLUGIN.configured(&settings).unwrap().unwrap();
        let claim = |class: &str, size: &str| {
            json!({"metadata": {"name": "a"}, "spec": {"storageClassName": class,
                "resources": {"requests": {"storage": size}}}})
        };
        let pod = |class: &str, requests: Value| {
            json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": class,
                "containers": [{"name": "c", "resources": {"requests": requests}}]}})
        };
        let quota = |hard: Value, scope: Option<&str>| {
            let scope = scope.map(|class| json!({"scopeName": "PriorityClass", "operator": "In", "values": [class]}));
            json!({"metadata": {"name": "q"}, "spec": {"hard": hard,
                "scopeSelector": {"matchExpressions": scope.into_iter().collect::<Vec<_>>()}}})
        };
        let (gold, cpu) = ("gold.storageclass.storage.k8s.io/requests.storage", json!({"cpu": "1"}));
        let both = json!({"gold.storageclass.storage.k8s.io/persistentvolumeclaims": 9, gold: "9Gi"});
        let none = || json!({});
        let claims = "persistentvolumeclaims";
        let gone = "insufficient quota to match these scopes: [{PriorityClass In [high higher]}]";
        for (plural, old, object, quotas, wanted) in [
            (claims, Value::Null, claim("gold", "1Gi"), vec![quota(both, None)], None),
            (claims, Value::Null, claim("tin", "1Gi"), vec![], None),
            (
                claims,
                Value::Null,
                claim("gold", "1Gi"),
                vec![quota(json!({gold: "9Gi"}), None)],
                Some((
                    403,
                    "insufficient quota to consume: gold.storageclass.storage.k8s.io/persistentvolumeclaims".to_owned(),
                )),
            ),
            // What costs no more than before needs nothing.
            (claims, claim("gold", "1Gi"), claim("gold", "1Gi"), vec![], None),
            (
                claims,
                claim("gold", "1Gi"),
                claim("gold", "2Gi"),
                vec![],
                Some((
                    403,
                    format!(
                        "insufficient quota to consume: gold.storageclass.storage.k8s.io/persistentvolumeclaims,{gold}"
                    ),
                )),
            ),
            ("pods", Value::Null, pod("", none()), vec![], None),
            (
                "pods",
                Value::Null,
                pod("", cpu.clone()),
                vec![],
                Some((403, "insufficient quota to consume: cpu,requests.cpu".to_owned())),
            ),
            // A quota that counts other pods covers nothing.
            (
                "pods",
                Value::Null,
                pod("", cpu.clone()),
                vec![quota(json!({"cpu": 9, "requests.cpu": 9}), Some("low"))],
                Some((403, "insufficient quota to consume: cpu,requests.cpu".to_owned())),
            ),
            ("pods", Value::Null, pod("", cpu), vec![quota(json!({"cpu": 9, "requests.cpu": 9}), None)], None),
            ("pods", Value::Null, pod("high", none()), vec![], Some((500, gone.to_owned()))),
            (
                "pods",
                Value::Null,
                pod("high", none()),
                vec![quota(json!({"pods": 9}), None)],
                Some((500, gone.to_owned())),
            ),
            ("pods", Value::Null, pod("high", none()), vec![quota(json!({"pods": 9}), Some("high"))], None),
            ("secrets", Value::Null, json!({}), vec![], None),
        ] {
            let list = move |plural: &str| if plural == "resourcequotas" { quotas.clone() } else { Vec::new() };
            let cluster = crate::testing::Cluster { list: Box::new(list), ..Default::default() };
            let ask = crate::testing::Ask { old, cluster, ..crate::testing::Ask::create("", "v1", plural) };
            let wanted = wanted.map(|(code, why)| match code {
                403 => (403, format!("{plural} \"a\" is forbidden: {why}")),
                code => (code, why),
            });
            assert_eq!(ask.settled(plugin.as_ref(), &object).err(), wanted, "{plural} {object}");
        }
        let configuration = json!({"limitedResources": [{"matchContains": ["a"]}]});
        let settings = Settings { configuration: &configuration, opener: &crate::configured::Nobody };
        assert_eq!(PLUGIN.configured(&settings).err().as_deref(), Some("limitedResources[0].resource: Required value"));
    }
}
