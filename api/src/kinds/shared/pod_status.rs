//! What may change in the status of a pod, and what it keeps.
//!
//! Never looks at the spec by itself; `pod_validation` does.

use super::labels::invalid;
use super::rules::{go_struct, unchanged_text};
use super::{addresses, names, pod_update};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;
use std::collections::HashSet;

/// What a status says of its containers, and where the spec has them.
const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "spec.containers"),
    ("initContainerStatuses", "spec.initContainers"),
    ("ephemeralContainerStatuses", "spec.ephemeralContainers"),
];

/// A change through `status`.
#[must_use]
pub fn validate(new: &Value, old: &Value) -> Errors {
    let mut errors = pod_update::annotations(new, old);
    let field = Path::new("status");
    conditions(&mut errors, new, &field.child("conditions"));
    let nominated = value::text(new, "status.nominatedNodeName");
    if !nominated.is_empty() && nominated != value::text(old, "status.nominatedNodeName") {
        let at = field.child("nominatedNodeName");
        invalid(&mut errors, &at, nominated, names::dns_subdomain(nominated));
        if !value::text(old, "spec.nodeName").is_empty() {
            errors.push(FieldError::forbidden(&at, "may not be set on pods that are already bound to a node"));
        }
    }
    generation(&mut errors, value::get(new, "status"), &field);
    unchanged_text(&mut errors, new, old, "status.qosClass");
    for (list, containers) in LISTS {
        ended_stay_ended(&mut errors, new, old, (list, containers));
    }
    claims(&mut errors, new, &field.child("resourceClaimStatuses"));
    extended_claim(&mut errors, new, &field.child("extendedResourceClaimStatus"));
    ips(&mut errors, new, old, "podIPs");
    host_is_first(&mut errors, new, &field.child("hostIPs"));
    ips(&mut errors, new, old, "hostIPs");
    for (list, _) in LISTS {
        users(&mut errors, new, list);
    }
    for (list, containers) in LISTS {
        allocated(&mut errors, new, (list, containers));
    }
    errors
}

/// Addresses that are not written as they should be.
#[must_use]
pub fn warnings(new: &Value) -> Vec<String> {
    let of = |list: &'static str| {
        let field = Path::new("status").child(list);
        let all = value::items(new, &format!("status.{list}")).iter().enumerate();
        all.flat_map(move |(i, one)| addresses::ip_warnings(&field.index(i).child("ip"), value::text(one, "ip")))
    };
    of("podIPs").chain(of("hostIPs")).collect()
}

/// Who does not say which generation was seen leaves what was said before: writers that do not know the field clear nothing.
pub fn keep_observed(new: &mut Value, old: &Value) {
    const FIELD: &str = "observedGeneration";
    let seen = |object: &Value| value::int(object, FIELD).filter(|seen| *seen != 0);
    let before = value::get(old, "status").and_then(seen);
    if let (None, Some(before)) = (value::get(new, "status").and_then(seen), before) {
        value::set(new, "status.observedGeneration", before);
    }
    let mut known: Vec<&Value> = value::items(old, "status.conditions").iter().collect();
    for condition in value::items_mut(new, "status.conditions") {
        let of_type = |other: &&Value| value::text(other, "type") == value::text(condition, "type");
        let Some(at) = known.iter().position(of_type) else { continue };
        let before = seen(known.remove(at));
        if let (None, Some(before)) = (seen(condition), before) {
            value::set(condition, FIELD, before);
        }
    }
}

fn generation(errors: &mut Errors, holder: Option<&Value>, field: &Path) {
    let seen = holder.and_then(|holder| value::int(holder, "observedGeneration"));
    if let Some(seen) = seen.filter(|seen| *seen < 0) {
        let detail = "must be a non-negative integer";
        errors.push(FieldError::invalid(&field.child("observedGeneration"), seen, detail));
    }
}

fn conditions(errors: &mut Errors, new: &Value, field: &Path) {
    for (i, condition) in value::items(new, "status.conditions").iter().enumerate() {
        let at = field.index(i);
        generation(errors, Some(condition), &at);
        let kind = value::text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            invalid(errors, &at.child("Type"), kind, names::qualified_name(kind));
        }
    }
}

/// A container that ended for good does not run again.
fn ended_stay_ended(errors: &mut Errors, new: &Value, old: &Value, (list, containers): (&str, &str)) {
    let ephemeral = list == "ephemeralContainerStatuses";
    if !ephemeral && all_may_restart(old) {
        return;
    }
    let path = format!("status.{list}");
    let ended = |status: &Value| value::get(status, "state.terminated").is_some_and(Value::is_object);
    for (i, before) in value::items(old, &path).iter().enumerate().filter(|(_, before)| ended(before)) {
        let named = |other: &&Value| value::text(other, "name") == value::text(before, "name");
        if !value::items(new, &path).iter().filter(named).any(|after| !ended(after)) {
            continue;
        }
        let code = value::int(before, "state.terminated.exitCode").unwrap_or_default();
        let container = value::items(old, containers).iter().find(named);
        if ephemeral || !container.is_some_and(|container| may_restart(container, old, code)) {
            let at = Path::new(&path).index(i).child("state");
            errors.push(FieldError::forbidden(&at, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Some rule restarts all containers, whatever the policy of each.
fn all_may_restart(pod: &Value) -> bool {
    let containers = ["spec.initContainers", "spec.containers"].into_iter().flat_map(|list| value::items(pod, list));
    containers
        .flat_map(|container| value::items(container, "restartPolicyRules"))
        .any(|rule| value::text(rule, "action") == "RestartAllContainers")
}

/// What the container's own rules say, then its policy, then the pod's.
fn may_restart(container: &Value, pod: &Value, code: i64) -> bool {
    let by_policy = |policy: &str| match policy {
        "OnFailure" => code != 0,
        "Never" => false,
        _ => true,
    };
    let own = value::text(container, "restartPolicy");
    if own.is_empty() {
        return by_policy(value::text(pod, "spec.restartPolicy"));
    }
    let applies = |rule: &&Value| {
        let among = value::items(rule, "exitCodes.values").iter().any(|one| one.as_i64() == Some(code));
        match value::text(rule, "exitCodes.operator") {
            "In" => among,
            "NotIn" => !among,
            _ => false,
        }
    };
    let rule = value::items(container, "restartPolicyRules").iter().find(applies);
    let restarts = |rule: &Value| matches!(value::text(rule, "action"), "Restart" | "RestartAllContainers");
    rule.is_some_and(restarts) || by_policy(own)
}

fn claims(errors: &mut Errors, new: &Value, field: &Path) {
    let mut seen = HashSet::new();
    for (i, status) in value::items(new, "status.resourceClaimStatuses").iter().enumerate() {
        let at = field.index(i).child("name");
        let name = value::text(status, "name");
        if !value::items(new, "spec.resourceClaims").iter().any(|claim| value::text(claim, "name") == name) {
            errors.push(FieldError::invalid(&at, name, "must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        if let Some(claim) = status.get("resourceClaimName").and_then(Value::as_str) {
            invalid(errors, &field.index(i).child("resourceClaimName"), claim, names::dns_subdomain(claim));
        }
    }
}

fn extended_claim(errors: &mut Errors, new: &Value, field: &Path) {
    let status = value::get(new, "status.extendedResourceClaimStatus").filter(|status| status.is_object());
    let Some(status) = status else { return };
    let mappings = value::items(status, "requestMappings");
    let at = field.child("requestMappings");
    if mappings.is_empty() {
        errors.push(FieldError::required(&at, "at least one request mapping is required"));
    }
    let mut seen = HashSet::new();
    for (i, mapping) in mappings.iter().enumerate() {
        let at = at.index(i);
        let parts = ["containerName", "resourceName", "requestName"].map(|part| (part, value::text(mapping, part)));
        let [(_, container), (_, resource), (_, request)] = parts;
        let lists = ["spec.containers", "spec.initContainers"].into_iter().flat_map(|list| value::items(new, list));
        let detail = match lists.into_iter().find(|one| value::text(one, "name") == container) {
            None => Some((
                ("containerName", container),
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            )),
            Some(one) if value::get(one, "resources.requests").and_then(|all| all.get(resource)).is_none() => Some((
                ("resourceName", resource),
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or \
                 spec.containers.resources.requests",
            )),
            Some(_) => None,
        };
        if let Some(((part, text), detail)) = detail {
            errors.push(FieldError::invalid(&at.child(part), text, detail));
        }
        invalid(errors, &field.child("requestName"), request, names::dns_label(request));
        if !seen.insert(parts) {
            errors.extend(parts.map(|(part, text)| FieldError::duplicate(&at.child(part), text)));
        }
    }
    let at = field.child("resourceClaimName");
    match value::text(status, "resourceClaimName") {
        "" => errors.push(FieldError::required(&at, "")),
        name => invalid(errors, &at, name, names::dns_subdomain(name)),
    }
}

/// Addresses that came in addition are valid, and there is at most one of each family.
fn ips(errors: &mut Errors, new: &Value, old: &Value, list: &str) {
    let field = Path::new("status").child(list);
    let path = format!("status.{list}");
    let of = |pod| value::items(pod, &path).iter().map(|one| value::text(one, "ip")).collect::<Vec<_>>();
    let (all, before) = (of(new), of(old));
    for (i, ip) in all.iter().enumerate() {
        addresses::check(errors, &field.index(i), ip, addresses::legacy_ip, &before);
    }
    if all.len() < 2 {
        return;
    }
    let families: Vec<Option<bool>> = all.iter().map(|ip| addresses::sloppy_ip(ip).map(|ip| ip.is_ipv4())).collect();
    if let Some(i) = families.iter().position(Option::is_none) {
        let ip = all.get(i).copied().unwrap_or_default();
        let detail = format!("failed to check for dual stack with error:invalid IP[{i}]: {ip}");
        errors.push(FieldError::internal(&field, detail));
    }
    let pair = matches!(families.as_slice(), [Some(one), Some(other)] if one != other);
    if !pair {
        let shown: Vec<String> = all.iter().map(|ip| go_struct(&[("IP", (*ip).into())])).collect();
        let detail = format!("[{}]: may specify no more than one IP for each IP family", shown.join(","));
        errors.push(FieldError::invalid_whole(&field, detail));
    }
}

fn host_is_first(errors: &mut Errors, new: &Value, field: &Path) {
    let first = value::items(new, "status.hostIPs").first().map(|first| value::text(first, "ip"));
    if let Some(first) = first.filter(|first| *first != value::text(new, "status.hostIP")) {
        errors.push(FieldError::invalid(&field.index(0).child("ip"), first, "must be equal to `hostIP`"));
    }
}

fn users(errors: &mut Errors, new: &Value, list: &str) {
    let os = value::text(new, "spec.os.name");
    let path = format!("status.{list}");
    for (i, status) in value::items(new, &path).iter().enumerate() {
        let Some(user) = value::get(status, "user.linux").filter(|user| user.is_object()) else { continue };
        let at = Path::new(&path).index(i).child("user.linux");
        if os == "windows" {
            errors.push(FieldError::forbidden(&at, "cannot be set for a windows pod"));
            continue;
        }
        let mut check = |at: Path, id: i64| {
            if !(0..=i64::from(i32::MAX)).contains(&id) {
                errors.push(FieldError::invalid(&at, id, names::range(0, i64::from(i32::MAX))));
            }
        };
        for one in ["uid", "gid"] {
            check(at.child(one), value::int(user, one).unwrap_or_default());
        }
        for (j, group) in value::items(user, "supplementalGroups").iter().enumerate() {
            check(at.child("supplementalGroups").index(j), group.as_i64().unwrap_or_default());
        }
    }
}

/// What was allocated is what the container asked for.
fn allocated(errors: &mut Errors, new: &Value, (list, containers): (&str, &str)) {
    let path = format!("status.{list}");
    for (i, status) in value::items(new, &path).iter().enumerate() {
        let resources = value::items(status, "allocatedResourcesStatus");
        let at = Path::new(&path).index(i).child("allocatedResourcesStatus");
        if list == "ephemeralContainerStatuses" {
            if !resources.is_empty() {
                errors.push(FieldError::forbidden(&at, "must not be specified in container status"));
            }
            continue;
        }
        let named = |other: &&Value| value::text(other, "name") == value::text(status, "name");
        let container = value::items(new, containers).iter().find(named);
        for (j, resource) in resources.iter().enumerate() {
            let at = at.index(j);
            let name = value::text(resource, "name");
            if let Some(detail) = container.and_then(|container| unasked(container, name)) {
                errors.push(FieldError::invalid(&at.child("name"), name, detail));
            }
            health(errors, resource, &at.child("resources"));
        }
    }
}

/// What is wrong with a name of a resource that the container did not ask for.
fn unasked(container: &Value, name: &str) -> Option<&'static str> {
    let Some(wanted) = name.strip_prefix("claim:") else {
        let requests = value::get(container, "resources.requests").and_then(Value::as_object);
        let there = requests.is_some_and(|requests| requests.contains_key(name));
        return (!there).then_some("must match one of the container's resource requests");
    };
    let is_wanted = |claim: &Value| {
        let (name, request) = (value::text(claim, "name"), value::text(claim, "request"));
        if request.is_empty() { wanted == name } else { wanted.split_once('/') == Some((name, request)) }
    };
    let there = value::items(container, "resources.claims").iter().any(is_wanted);
    (!there).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
         'claim:<claimName>' if request is empty",
    )
}

fn health(errors: &mut Errors, resource: &Value, field: &Path) {
    const LONGEST: usize = 1024;
    let mut seen = HashSet::new();
    for (i, one) in value::items(resource, "resources").iter().enumerate() {
        let at = field.index(i);
        let state = value::text(one, "health");
        let known = ["Healthy", "Unhealthy", "Unknown"];
        if !known.contains(&state) {
            errors.push(FieldError::not_supported(&at.child("health"), state, &known));
        }
        match one.get("message").and_then(Value::as_str) {
            Some("") => errors.push(FieldError::required(&at.child("message"), "must be non-empty if specified")),
            Some(text) if text.len() > LONGEST => errors.push(FieldError::too_long(&at.child("message"), LONGEST)),
            _ => {}
        }
        let id = value::text(one, "resourceID");
        if !seen.insert(id) {
            errors.push(FieldError::duplicate(&at.child("resourceID"), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;

    /// Says what a status update says that turns the fields of `old` into those of `new`.
    fn check(spec: &Value, [old, new]: [Value; 2], sentences: &[&str]) {
        let [old, new] = [old, new].map(|status| json!({"spec": spec, "status": status}));
        assert_eq!(shown(&validate(&new, &old)), sentences, "{new}");
    }

    #[test]
    fn who_ended_for_good_stays_ended() {
        const WORDS: &str = "state: Forbidden: may not be transitioned to non-terminated state";
        let rule = |action: &str, operator: &str| json!([{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]);
        // The pod's policy, then the container's policy and rules, the code of its end, and whether it may run again.
        for (pod, policy, rules, code, may) in [
            ("Always", "", json!([]), 0, true),
            ("OnFailure", "", json!([]), 0, false),
            ("OnFailure", "", json!([]), 1, true),
            ("Never", "", json!([]), 1, false),
            ("Never", "Always", json!([]), 0, true),
            ("Never", "OnFailure", json!([]), 1, true),
            ("Never", "OnFailure", json!([]), 0, false),
            ("Always", "Never", json!([]), 1, false),
            ("Never", "Never", rule("Restart", "In"), 42, true),
            ("Never", "Never", rule("Restart", "In"), 1, false),
            ("Never", "Never", rule("Restart", "NotIn"), 1, true),
            ("Never", "Never", rule("Restart", "NotIn"), 42, false),
            ("Never", "Never", rule("RestartAllContainers", "In"), 1, true),
        ] {
            let container = json!({"name": "a", "restartPolicy": policy, "restartPolicyRules": rules});
            for (list, statuses) in [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")] {
                let mut spec = json!({ "restartPolicy": pod });
                value::set(&mut spec, list, json!([container]));
                let status = |state: Value| {
                    let mut status = json!({});
                    value::set(&mut status, statuses, json!([{"name": "b"}, {"name": "a", "state": state}]));
                    status
                };
                let change = [status(json!({"terminated": {"exitCode": code}})), status(json!({"running": {}}))];
                let sentence = format!("status.{statuses}[1].{WORDS}");
                let sentences = [sentence.as_str()];
                check(&spec, change, if may { &[] } else { &sentences });
            }
        }
        let status = |state: Value| json!({"ephemeralContainerStatuses": [{"name": "e", "state": state}]});
        let change = [status(json!({"terminated": {"exitCode": 1}})), status(json!({"running": {}}))];
        let spec = json!({"restartPolicy": "Always", "ephemeralContainers": [{"name": "e"}]});
        check(&spec, change, &[&format!("status.ephemeralContainerStatuses[0].{WORDS}")]);
        // One that nobody knows does not run again either.
        let status = |state: Value| json!({"containerStatuses": [{"name": "x", "state": state}]});
        let change = [status(json!({"terminated": {"exitCode": 1}})), status(json!({"waiting": {}}))];
        check(&json!({"restartPolicy": "Always"}), change, &[&format!("status.containerStatuses[0].{WORDS}")]);
    }

    #[test]
    fn what_is_said_of_a_pod_is_judged() {
        let none = json!({"nodeName": "n", "resourceClaims": [{"name": "c"}], "os": {"name": "windows"},
            "containers": [{"name": "a", "resources": {"requests": {"x/y": "1"}, "claims": [{"name": "c", "request": "r"}]}}]});
        let told = |status: Value, sentences: &[&str]| check(&none, [json!({}), status], sentences);
        told(
            json!({"qosClass": "BestEffort", "nominatedNodeName": "m", "observedGeneration": -1,
                "conditions": [{"type": "Ready", "observedGeneration": -1}, {"type": "a/b"}, {"type": "a b"}]}),
            &[
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.conditions[2].Type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or \
                 '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
                 used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.qosClass: Invalid value: \"BestEffort\": field is immutable",
            ],
        );
        told(
            json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}, {"name": "c"}, {"name": "d"}],
                "extendedResourceClaimStatus": {"requestMappings": [{"containerName": "b", "resourceName": "x/y", "requestName": "r"},
                    {"containerName": "a", "resourceName": "x", "requestName": "r"}]}}),
            &[
                "status.resourceClaimStatuses[1].name: Duplicate value: \"c\"",
                "status.resourceClaimStatuses[2].name: Invalid value: \"d\": must match the name of an entry in \
                 `spec.resourceClaims`",
                "status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid value: \"b\": must match the \
                 name of an entry in spec.initContainers.name or spec.containers.name",
                "status.extendedResourceClaimStatus.requestMappings[1].resourceName: Invalid value: \"x\": must match the \
                 extended resource name of an entry in spec.initContainers.resources.requests or \
                 spec.containers.resources.requests",
                "status.extendedResourceClaimStatus.resourceClaimName: Required value",
            ],
        );
        told(
            json!({"containerStatuses": [{"name": "a", "user": {"linux": {"uid": 0}}, "allocatedResourcesStatus": [
                {"name": "x/y", "resources": [{"resourceID": "1", "health": "Healthy"}, {"resourceID": "1", "health": "Ill"}]},
                {"name": "claim:c/r"}, {"name": "claim:c"}, {"name": "z"}]}],
                "ephemeralContainerStatuses": [{"name": "e", "allocatedResourcesStatus": [{"name": "x/y"}]}]}),
            &[
                "status.containerStatuses[0].user.linux: Forbidden: cannot be set for a windows pod",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].health: Unsupported value: \"Ill\": \
                 supported values: \"Healthy\", \"Unhealthy\", \"Unknown\"",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: \"1\"",
                "status.containerStatuses[0].allocatedResourcesStatus[2].name: Invalid value: \"claim:c\": must match one of \
                 the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request \
                 is empty",
                "status.containerStatuses[0].allocatedResourcesStatus[3].name: Invalid value: \"z\": must match one of the \
                 container's resource requests",
                "status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in container \
                 status",
            ],
        );
        let user = json!({"containerStatuses": [{"name": "a", "user": {"linux": {"uid": -1, "gid": 0, "supplementalGroups": [1, 2147483648_i64]}}}]});
        check(
            &json!({}),
            [json!({}), user],
            &[
                "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "status.containerStatuses[0].user.linux.supplementalGroups[1]: Invalid value: 2147483648: must be between 0 \
                 and 2147483647, inclusive",
            ],
        );
    }

    #[test]
    fn addresses_are_one_of_each_family() {
        const FAMILIES: &str = "may specify no more than one IP for each IP family";
        let list = |texts: &[&str]| texts.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>();
        for (old, new, sentences) in [
            (&[][..], &["10.0.0.1", "fd00::1"][..], &[][..]),
            (
                &[],
                &["10.0.0.1", "10.0.0.2"],
                &["status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: *"],
            ),
            (&[], &["010.0.0.1"], &["status.podIPs[0]: Invalid value: \"010.0.0.1\": must not have leading 0s"]),
            (&["010.0.0.1"], &["010.0.0.1"], &[]),
            (
                &[],
                &["10.0.0.1", "x"],
                &[
                    "status.podIPs[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    "status.podIPs: Internal error: failed to check for dual stack with error:invalid IP[1]: x",
                    "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"x\"}]: *",
                ],
            ),
        ] {
            let sentences: Vec<String> = sentences.iter().map(|sentence| sentence.replace('*', FAMILIES)).collect();
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            check(&json!({}), [json!({ "podIPs": list(old) }), json!({ "podIPs": list(new) })], &sentences);
        }
        let status = json!({"hostIP": "10.0.0.2", "hostIPs": list(&["10.0.0.1"])});
        let wrong = ["status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`"];
        check(&json!({}), [json!({}), status], &wrong);
        let doubtful = json!({"status": {"podIPs": list(&["FD00::1"]), "hostIPs": list(&["10.0.0.1"])}});
        let said = "status.podIPs[0].ip: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")";
        assert_eq!(warnings(&doubtful), [said]);
    }

    #[test]
    fn generations_are_not_unsaid() {
        let old = json!({"status": {"observedGeneration": 3, "conditions": [
            {"type": "Ready", "observedGeneration": 2}, {"type": "Ready", "observedGeneration": 1}, {"type": "x"}]}});
        let mut new = json!({"status": {"conditions": [{"type": "x"}, {"type": "Ready"},
            {"type": "Ready", "observedGeneration": 4}, {"type": "Ready"}]}});
        keep_observed(&mut new, &old);
        assert_eq!(
            new,
            json!({"status": {"observedGeneration": 3, "conditions": [{"type": "x"}, {"type": "Ready", "observedGeneration": 2},
                {"type": "Ready", "observedGeneration": 4}, {"type": "Ready"}]}})
        );
    }
}
