//! What is wrong with a pod or a pod template, whole: the parts are `pod_containers`, `pod_volumes`, `pod_security`,
//! `pod_scheduling` and `pod_probes`.
//!
//! Never looks at an older version of the object; `pod_update` does.

use super::labels::invalid;
use super::rules::{invalid_struct, required_one_of_listed, text, text_or_null};
use super::{
    addresses, labels, names, pod_containers, pod_profiles, pod_resources, pod_scheduling, pod_security, pod_volumes,
    pod_windows, resources,
};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::{meta, value};

/// What the parts need to know of the pod around them.
pub struct Context<'a> {
    /// The pod spec.
    pub spec: &'a Value,
    /// A pod, not a template.
    pub is_pod: bool,
    /// Names of the volumes that are fine.
    pub volumes: Vec<&'a str>,
}

/// A pod. Without a resourceVersion it is about to be created, which forbids a little more.
#[must_use]
pub fn pod(pod: &Value) -> Errors {
    let mut errors = annotations(pod, &Path::new("metadata.annotations"));
    let Some(spec) = pod.get("spec") else {
        errors.push(FieldError::required(&Path::new("spec.containers"), ""));
        return errors;
    };
    let field = Path::new("spec");
    errors.extend(pod_spec(spec, &field, true));
    if value::text(spec, "serviceAccountName").is_empty() {
        for (i, volume) in value::items(spec, "volumes").iter().enumerate() {
            for (j, source) in value::items(volume, "projected.sources").iter().enumerate() {
                if source.get("serviceAccountToken").is_some_and(Value::is_object) {
                    let at = field.child("volumes").index(i).child("projected.sources").index(j);
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.push(FieldError::forbidden(&at.child("serviceAccountToken"), detail));
                }
            }
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, container) in value::items(spec, list).iter().enumerate() {
            let image = value::text(container, "image");
            if image.trim() != image {
                let at = field.child(list).index(i).child("image");
                errors.push(FieldError::invalid(&at, image, "must not have leading or trailing whitespace"));
            }
        }
    }
    if meta::resource_version(pod).is_empty() {
        if !value::items(spec, "ephemeralContainers").is_empty() {
            errors.push(FieldError::forbidden(&field.child("ephemeralContainers"), "cannot be set on create"));
        }
        if !value::text(spec, "nodeName").is_empty() && !value::items(spec, "schedulingGates").is_empty() {
            let detail = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&field.child("nodeName"), detail));
        }
        pod_profiles::agree(&mut errors, pod, &field);
    }
    errors
}

/// A `PodTemplateSpec`.
#[must_use]
pub fn template(template: &Value, field: &Path) -> Errors {
    let mut errors = labels::validate(value::get(template, "metadata.labels"), &field.child("labels"));
    let annotations_field = field.child("annotations");
    errors.extend(labels::validate_annotations(value::get(template, "metadata.annotations"), &annotations_field));
    errors.extend(annotations(template, &annotations_field));
    let field = field.child("spec");
    let spec = template.get("spec").unwrap_or(&Value::Null);
    errors.extend(pod_spec(spec, &field, false));
    pod_profiles::agree(&mut errors, template, &field);
    if !value::items(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&field.child("ephemeralContainers"), detail));
    }
    errors
}

/// The annotation of pods that a kubelet read from a file.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Annotations of a pod or a template that mean something.
#[must_use]
pub fn annotations(object: &Value, field: &Path) -> Errors {
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let mut errors = Errors::new();
    if let Some(mirror) = meta::annotation(object, MIRROR)
        && value::text(object, "spec.nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&field.key(MIRROR), mirror, detail));
    }
    if let Some(cost) = meta::annotation(object, DELETION_COST)
        && (cost.parse::<i32>().is_err() || cost.starts_with('+'))
    {
        errors.push(FieldError::invalid(&field.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    pod_profiles::annotations(&mut errors, object, field);
    errors
}

fn pod_spec(spec: &Value, field: &Path, is_pod: bool) -> Errors {
    let mut errors = Errors::new();
    let grace = value::int(spec, "terminationGracePeriodSeconds");
    if grace.is_none() {
        errors.push(FieldError::required(&field.child("terminationGracePeriodSeconds"), ""));
    }
    let (volumes, volume_errors) = pod_volumes::validate(spec, &field.child("volumes"), is_pod);
    errors.extend(volume_errors);
    let context = Context { spec, is_pod, volumes };
    errors.extend(resource_claims(spec, &field.child("resourceClaims")));
    errors.extend(pod_containers::validate(&context, field));
    errors.extend(pod_resources::validate(spec, field));
    errors.extend(host_network(&context, field));
    required_one_of_listed(&mut errors, spec, "restartPolicy", field, &["Always", "OnFailure", "Never"]);
    let policies = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    required_one_of_listed(&mut errors, spec, "dnsPolicy", field, policies);
    errors.extend(labels::validate(spec.get("nodeSelector"), &field.child("nodeSelector")));
    errors.extend(pod_security::pod(spec, field));
    errors.extend(pod_scheduling::affinity(spec.get("affinity"), &field.child("affinity")));
    errors.extend(dns(spec, &field.child("dnsConfig")));
    for (i, gate) in value::items(spec, "readinessGates").iter().enumerate() {
        let at = field.child("readinessGates").index(i).child("conditionType");
        let kind = value::text(gate, "conditionType");
        invalid(&mut errors, &at, kind, names::qualified_name(kind));
    }
    let gates = value::items(spec, "schedulingGates");
    for (i, gate) in gates.iter().enumerate() {
        let at = field.child("schedulingGates").index(i);
        let name = value::text(gate, "name");
        invalid(&mut errors, &at, name, names::qualified_name(name));
        if gates.iter().take(i).any(|other| value::text(other, "name") == name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
    errors.extend(pod_scheduling::spread(spec, &field.child("topologySpreadConstraints")));
    errors.extend(pod_windows::host_process(spec, field));
    errors.extend(pod_security::host_users(spec, field));
    errors.extend(hostname(spec, field));
    for (name, rule) in NAMES {
        // The last may be given and empty, which is no name.
        if !value::text(spec, name).is_empty() || *name == "runtimeClassName" {
            text(&mut errors, spec, name, field, *rule);
        }
    }
    if let Some(seconds) = value::int(spec, "activeDeadlineSeconds").filter(|s| !(1..=MAX_SECONDS).contains(s)) {
        let detail = names::range(1, MAX_SECONDS);
        errors.push(FieldError::invalid(&field.child("activeDeadlineSeconds"), seconds, detail));
    }
    errors.extend(pod_scheduling::tolerations(spec, &field.child("tolerations")));
    for (i, alias) in value::items(spec, "hostAliases").iter().enumerate() {
        let at = field.child("hostAliases").index(i);
        let ip = value::text(alias, "ip");
        addresses::check(&mut errors, &at.child("ip"), ip, addresses::legacy_ip, &[]);
        for (j, name) in value::items(alias, "hostnames").iter().filter_map(Value::as_str).enumerate() {
            invalid(&mut errors, &at.child("hostnames").index(j), name, names::dns_subdomain(name));
        }
    }
    let policies = &["PreemptLowerPriority", "Never"];
    if spec.get("preemptionPolicy").is_some_and(Value::is_string) {
        required_one_of_listed(&mut errors, spec, "preemptionPolicy", field, policies);
    }
    if let Some(overhead) = spec.get("overhead").and_then(Value::as_object) {
        for (name, amount) in overhead {
            let at = field.child("overhead").child("limits").key(name);
            resources::validate_container_name(&mut errors, name, &at);
            resources::validate_amount(&mut errors, name, amount, &at);
        }
    }
    errors.extend(pod_windows::system(spec, field));
    if let Some(group) = spec.get("schedulingGroup").filter(|group| group.is_object()) {
        let at = field.child("schedulingGroup.podGroupName");
        match group.get("podGroupName").and_then(Value::as_str) {
            None => errors.push(FieldError::invalid(&at, Value::Null, "must specify one of: `podGroupName`")),
            Some(name) => invalid(&mut errors, &at, name, names::dns_subdomain(name)),
        }
    }
    pod_containers::file_volumes(&mut errors, spec, field);
    errors
}

type NameCheck = fn(&str) -> names::Messages;

/// Fields that are names, in upstream's order.
const NAMES: &[(&str, NameCheck)] = &[
    ("serviceAccountName", names::dns_subdomain),
    ("nodeName", names::dns_subdomain),
    ("hostname", names::dns_label),
    ("subdomain", names::dns_label),
    ("priorityClassName", names::dns_subdomain),
    ("runtimeClassName", names::dns_subdomain),
];

/// The most that 32 bits hold.
pub const MAX_SECONDS: i64 = i32::MAX as i64;

fn resource_claims(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let claims = value::items(spec, "resourceClaims");
    for (i, claim) in claims.iter().enumerate() {
        let field = field.index(i);
        let name = value::text(claim, "name");
        let at = field.child("name");
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if claims.iter().take(i).any(|other| value::text(other, "name") == name) {
            errors.push(FieldError::duplicate(&at, name));
        } else {
            invalid(&mut errors, &at, name, names::dns_label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let named = sources.map(|source| claim.get(source).and_then(Value::as_str));
        let detail = match named {
            [None, None] => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            [Some(_), Some(_)] => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            _ => None,
        };
        if let Some(detail) = detail {
            let [claim, template] = named.map(text_or_null);
            let fields = [("Name", name.into()), ("ResourceClaimName", claim), ("ResourceClaimTemplateName", template)];
            errors.push(invalid_struct(&field, &fields, detail));
        }
        for (source, name) in sources.into_iter().zip(named) {
            if let Some(name) = name {
                invalid(&mut errors, &field.child(source), name, names::dns_subdomain(name));
            }
        }
    }
    errors
}

fn host_network(context: &Context<'_>, field: &Path) -> Errors {
    let mut errors = Errors::new();
    if value::flag(context.spec, "hostNetwork") {
        for (i, container) in value::items(context.spec, "containers").iter().enumerate() {
            for (j, port) in value::items(container, "ports").iter().enumerate() {
                let host = value::int(port, "hostPort").unwrap_or_default();
                let own = value::int(port, "containerPort").unwrap_or_default();
                if (context.is_pod || host != 0) && host != own {
                    let at = field.child("containers").index(i).child("ports").index(j).child("hostPort");
                    let detail = "must match `containerPort` when `hostNetwork` is true";
                    errors.push(FieldError::invalid(&at, host, detail));
                }
            }
        }
    }
    errors
}

fn dns(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let config = spec.get("dnsConfig").filter(|config| !config.is_null());
    if value::text(spec, "dnsPolicy") == "None" {
        match config {
            None => {
                errors.push(FieldError::required(field, "must provide `dnsConfig` when `dnsPolicy` is None"));
                return errors;
            }
            Some(config) if value::items(config, "nameservers").is_empty() => {
                let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                errors.push(FieldError::required(&field.child("nameservers"), detail));
                return errors;
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return errors };
    let servers = value::items(config, "nameservers");
    let at = field.child("nameservers");
    if servers.len() > 3 {
        errors.push(FieldError::invalid(&at, servers.to_vec(), "must not have more than 3 nameservers"));
    }
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        addresses::check(&mut errors, &at.index(i), server, addresses::legacy_ip, &[]);
    }
    let searches: Vec<&str> = value::items(config, "searches").iter().filter_map(Value::as_str).collect();
    let at = field.child("searches");
    if searches.len() > 32 {
        errors.push(FieldError::invalid(&at, searches.clone(), "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(FieldError::invalid(&at, searches.clone(), detail));
    }
    for (i, search) in searches.iter().filter(|search| **search != ".").enumerate() {
        let name = names::without_final_dot(search);
        invalid(&mut errors, &at.index(i), name, names::dns_search(name));
    }
    for (i, option) in value::items(config, "options").iter().enumerate() {
        if value::text(option, "name").is_empty() {
            errors.push(FieldError::required(&field.child("options").index(i), "must not be empty"));
        }
    }
    errors
}

fn hostname(spec: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let Some(name) = spec.get("hostnameOverride").and_then(Value::as_str) else { return errors };
    let at = field.child("hostnameOverride");
    for flag in ["setHostnameAsFQDN", "hostNetwork"] {
        if value::flag(spec, flag) {
            errors.push(FieldError::forbidden(&at, format!("may not be specified when {flag} is true")));
        }
    }
    if name.len() > 64 {
        errors.push(FieldError::too_long(&at, 64));
    }
    invalid(&mut errors, &at, name, names::dns_subdomain(name));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::pod_defaults;
    use crate::kinds::shared::testing::shown;

    /// A sound pod with one field changed gives these sentences.
    fn check(path: &str, value: Value, sentences: &[&str]) {
        let mut object = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
        value::set(&mut object, path, value);
        pod_defaults::pod(&mut object);
        assert_eq!(shown(&pod(&object)), sentences, "{path}");
    }

    #[test]
    fn fields_of_the_spec() {
        check("spec.nodeName", json!("n"), &[]);
        check("spec.containers", json!([]), &["spec.containers: Required value"]);
        check(
            "spec.restartPolicy",
            json!("Sometimes"),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        );
        check(
            "spec.activeDeadlineSeconds",
            json!(0),
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        );
        check(
            "spec.dnsPolicy",
            json!("None"),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        );
        check("spec.dnsConfig", json!({"nameservers": ["10.0.0.1"], "searches": ["a_b.c."]}), &[]);
        check("spec.subdomain", json!("a.b"), &["spec.subdomain: Invalid value: \"a.b\": must not contain dots"]);
        check(
            "spec.hostAliases",
            json!([{"ip": "x"}]),
            &[
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        );
        check(
            "spec.hostAliases",
            json!([{"ip": "::ffff:1.2.3.4"}]),
            &["spec.hostAliases[0].ip: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address"],
        );
        check(
            "spec.dnsConfig",
            json!({"nameservers": ["010.0.0.1"]}),
            &["spec.dnsConfig.nameservers[0]: Invalid value: \"010.0.0.1\": must not have leading 0s"],
        );
        check(
            "spec.ephemeralContainers",
            json!([{"name": "e", "image": "i"}]),
            &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        );
        check(
            "spec.os",
            json!({"name": "plan9"}),
            &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        );
        check(
            "spec.resourceClaims",
            json!([{"name": "a"}]),
            &[
                "spec.resourceClaims[0]: Invalid value: {\"Name\":\"a\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, \
             `resourceClaimTemplateName`",
            ],
        );
    }

    #[test]
    fn templates_differ_a_little() {
        let mut object = json!({"template": {"metadata": {"labels": {"a": "-"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "a", "image": " ", "ports": [{"containerPort": 80}]}]}}});
        pod_defaults::template(&mut object, "template");
        let errors = template(&object["template"], &Path::new("spec.template"));
        let sentences = shown(&errors);
        assert_eq!(sentences.len(), 1, "{sentences:?}");
        assert!(sentences[0].starts_with("spec.template.labels: Invalid value: \"-\": a valid label must be"));
    }
}
