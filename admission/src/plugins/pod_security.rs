//! `PodSecurity`: pods keep the standard that their namespace asks for.
//!
//! Source: KEP-2579. What brings pods (deployments and the like) is warned of and never refused.

use crate::configured::{Settings, Setup};
use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use crate::pod_security::checks::Pod;
use crate::pod_security::{Configuration, Level, Policy, Standard};
use api::field_path::Errors;
use api::json::Value;
use api::status::Status;
use api::value;
use async_trait::async_trait;
use std::collections::{BTreeMap, HashSet};

/// See the file.
#[derive(Default)]
pub struct PodSecurity(Option<Configuration>);

pub(crate) static PLUGIN: PodSecurity = PodSecurity(None);

/// Pods of a namespace at which a stricter policy looks, upstream's bound.
const MOST_PODS: usize = 3000;
/// Where else a pod is written: none of them changes what it may do.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
const ANNOTATION: &str = "pod-security.kubernetes.io/";

impl PodSecurity {
    fn configuration(&self) -> Configuration {
        self.0.clone().unwrap_or_default()
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        Ok(Some(Box::new(PodSecurity(Some(Configuration::read(settings.configuration)?)))))
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if !request.is_open() {
            return Ok(());
        }
        let configuration = self.configuration();
        // What is not a pod's is that of a template.
        let template = request.kind.pods.and_then(|path| path.strip_suffix(".spec"));
        match (request.kind.group, request.kind.plural) {
            ("", "namespaces") => namespace(&configuration, request, object, lookup).await,
            ("", "pods") if IGNORED.contains(&request.subresource) => Ok(()),
            ("", "pods") => {
                if request.operation == Operation::Update && !is_significant(object, request.old) {
                    return Ok(());
                }
                let spec = value::get(object, "spec").unwrap_or(&Value::Null);
                pod(&configuration, request, Pod { object, spec }, true, lookup).await
            }
            _ => {
                let path = template.filter(|_| request.subresource.is_empty());
                let Some(template) = path.and_then(|path| value::get(object, path)) else { return Ok(()) };
                let spec = value::get(template, "spec").unwrap_or(&Value::Null);
                pod(&configuration, request, Pod { object: template, spec }, false, lookup).await
            }
        }
    }
}

fn exempt(configuration: &Configuration, request: &Request<'_>, pod: Pod<'_>) -> Option<&'static str> {
    let holds = |list: &[String], name: &str| !name.is_empty() && list.iter().any(|own| own == name);
    if holds(&configuration.namespaces, request.namespace) {
        Some("namespace")
    } else if holds(&configuration.users, request.user) {
        Some("user")
    } else if holds(&configuration.runtime_classes, value::text(pod.spec, "runtimeClassName")) {
        Some("runtimeClass")
    } else {
        None
    }
}

async fn pod(
    configuration: &Configuration,
    request: &Request<'_>,
    pod: Pod<'_>,
    enforce: bool,
    lookup: &dyn Lookup,
) -> Result<(), Refusal> {
    let note = |key: &str, text: String| request.notes.annotate(format!("{ANNOTATION}{key}"), text);
    if let Some(why) = exempt(configuration, request, pod) {
        note("exempt", why.to_owned());
        return Ok(());
    }
    let namespace = match lookup.peek("", "namespaces", "", request.namespace).await {
        Some(namespace) => namespace,
        // It may have come a moment ago.
        None => lookup.get("", "namespaces", "", request.namespace).await.unwrap_or_default(),
    };
    let (policy, errors) = configuration.defaults.of_labels(&namespace);
    if !errors.is_empty() {
        note("error", format!("Failed to parse policy: {}", sentence(&errors)));
    }
    if enforce {
        note("enforce-policy", policy.enforce.to_string());
    }
    if errors.is_empty() && policy.is_privileged() {
        return Ok(());
    }
    if let Some((_, detail)) = policy.audit.against(pod) {
        note("audit-violations", format!("would violate PodSecurity \"{}\": {detail}", policy.audit));
    }
    if enforce && let Some((_, detail)) = policy.enforce.against(pod) {
        return Err(request.forbidden(&format!("violates PodSecurity \"{}\": {detail}", policy.enforce)));
    }
    if let Some((_, detail)) = policy.warn.against(pod) {
        request.notes.warn(format!("would violate PodSecurity \"{}\": {detail}", policy.warn));
    }
    Ok(())
}

fn sentence(errors: &Errors) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Images or containers are others.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |object: &Value, list: &str| -> Vec<String> {
        value::items(object, list).iter().map(|container| value::text(container, "image").to_owned()).collect()
    };
    if ["spec.containers", "spec.initContainers"].iter().any(|list| images(new, list) != images(old, list)) {
        return true;
    }
    let old: BTreeMap<&str, &str> = value::items(old, "spec.ephemeralContainers")
        .iter()
        .map(|container| (value::text(container, "name"), value::text(container, "image")))
        .collect();
    let mut new = value::items(new, "spec.ephemeralContainers").iter();
    new.any(|container| old.get(value::text(container, "name")) != Some(&value::text(container, "image")))
}

async fn namespace(
    configuration: &Configuration,
    request: &Request<'_>,
    object: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Refusal> {
    if !request.subresource.is_empty() {
        return Ok(());
    }
    let (policy, errors) = configuration.defaults.of_labels(object);
    let creates = request.operation == Operation::Create;
    let (before, old_errors) = configuration.defaults.of_labels(request.old);
    if !errors.is_empty() && (creates || errors != old_errors) {
        return Err(Refusal(Status::invalid("", "Namespace", request.name, &errors)));
    }
    let exempt = configuration.namespaces.iter().any(|own| own == request.name);
    let (new, old) = (policy.enforce, before.enforce);
    let stricter = new != old && new.level != Level::Privileged && !(new.minor == old.minor && new.level <= old.level);
    if exempt && (creates || stricter) {
        if let Some(warning) = ignored(configuration, request.name, &policy, object) {
            request.notes.warn(warning);
        }
        return Ok(());
    }
    if creates || !stricter {
        return Ok(());
    }
    let pods = lookup.list("", "pods", request.name).await;
    for warning in warnings(configuration, request.name, new, &pods) {
        request.notes.warn(warning);
    }
    Ok(())
}

/// Labels on a namespace that is exempt do nothing.
fn ignored(configuration: &Configuration, name: &str, policy: &Policy, namespace: &Value) -> Option<String> {
    let same = |a: Standard, b: Standard| (a.level == Level::Privileged && b.level == Level::Privileged) || a == b;
    let defaults = &configuration.defaults;
    if same(policy.enforce, defaults.enforce) && same(policy.audit, defaults.audit) && same(policy.warn, defaults.warn)
    {
        return None;
    }
    if policy.is_privileged() {
        return None;
    }
    let labelled = |mode: &str| {
        let there = |name: &str| api::meta::label(namespace, &format!("{ANNOTATION}{name}")).is_some();
        there(mode) || there(&format!("{mode}-version"))
    };
    let parts: Vec<String> = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)]
        .into_iter()
        .filter(|(mode, standard)| standard.level != Level::Privileged && labelled(mode))
        .map(|(mode, standard)| format!("{mode}={standard}"))
        .collect();
    Some(format!(
        "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
        parts.join(", ")
    ))
}

/// What a policy that becomes stricter would have against the pods that are there.
fn warnings(configuration: &Configuration, namespace: &str, enforce: Standard, pods: &[Value]) -> Vec<String> {
    // Of pods with one controller the first speaks for all, as far as there is room.
    let (mut first, mut further) = (Vec::new(), Vec::new());
    let mut controllers = HashSet::new();
    for pod in pods {
        let class = value::text(pod, "spec.runtimeClassName");
        if configuration.runtime_classes.iter().any(|own| !class.is_empty() && own == class) {
            continue;
        }
        let owners = value::items(pod, "metadata.ownerReferences").iter();
        let controller =
            owners.filter(|owner| value::flag(owner, "controller")).map(|owner| value::text(owner, "uid")).next();
        match controller {
            Some(uid) if !controllers.insert(uid) => further.push(pod),
            _ => first.push(pod),
        }
    }
    first.extend(further);
    let (total, checked) = (first.len(), first.len().min(MOST_PODS));
    let mut by_reason: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in first.into_iter().take(checked) {
        let spec = value::get(pod, "spec").unwrap_or(&Value::Null);
        if let Some((reason, _)) = enforce.against(Pod { object: pod, spec }) {
            let name = api::meta::name(pod);
            let entry = by_reason.entry(reason).or_insert((name, 0));
            *entry = (entry.0.min(name), entry.1 + 1);
        }
    }
    let mut out = Vec::new();
    if checked < total {
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        out.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            more => format!("{name} (and {} other pods): {reason}", more - 1),
        })
        .collect();
    lines.sort();
    out.extend(lines);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json::json;

    #[test]
    fn pods_that_are_there_are_warned_of() {
        let pod = |name: &str, owner: &str, host: bool| {
            let owners = if owner.is_empty() { json!([]) } else { json!([{"controller": true, "uid": owner}]) };
            json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": {"hostNetwork": host, "containers": []}})
        };
        let standard = Standard { level: Level::Baseline, minor: None };
        let pods = [pod("c", "r", true), pod("b", "r", true), pod("a", "", true), pod("fine", "", false)];
        assert_eq!(
            warnings(&Configuration::default(), "shop", standard, &pods),
            [
                "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 2 other pods): host namespaces",
            ]
        );
        assert!(warnings(&Configuration::default(), "shop", standard, &pods[3..]).is_empty());
    }

    #[test]
    fn what_changes_nothing_that_matters_is_let_through() {
        let pod = |image: &str| json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        assert!(!is_significant(&pod("x"), &pod("x")));
        assert!(is_significant(&pod("y"), &pod("x")));
        let mut debugged = pod("x");
        value::set(&mut debugged, "spec.ephemeralContainers", json!([{"name": "d", "image": "i"}]));
        assert!(is_significant(&debugged, &pod("x")));
        assert!(!is_significant(&debugged, &debugged));
    }
}
