//! What is wrong with a service.
//!
//! Never looks at other services.

use super::labels::{self, invalid};
use super::rules::{self, required_one_of};
use super::service_prepare::{addresses, has_health_port, is_external, is_headless};
use super::{addresses as ip, names, pod_probes};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::{meta, value};

const TYPES: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
/// The annotation that named what is in `loadBalancerSourceRanges` before there was the field.
pub const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

/// A service on its own; addresses and ports still to be allocated may be absent. What `old` had may be written as it was.
#[must_use]
pub fn validate(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("spec");
    let none = Value::Null;
    let spec = service.get("spec").unwrap_or(&none);
    let kind = value::text(spec, "type");
    let headless = is_headless(service);
    let ports = value::items(spec, "ports");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&field.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&field.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => {
            for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.get(name).is_some_and(|value| !rules::is_zero(value)) {
                    let detail = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(&field.child(name), detail));
                }
            }
            match names::without_final_dot(value::text(spec, "externalName")) {
                "" => errors.push(FieldError::required(&field.child("externalName"), "")),
                name => invalid(&mut errors, &field.child("externalName"), name, names::dns_subdomain(name)),
            }
        }
        _ => {}
    }
    for (i, port) in ports.iter().enumerate() {
        validate_port(&mut errors, port, ports, i, &field.child("ports").index(i));
    }
    errors.extend(labels::validate(spec.get("selector"), &field.child("selector")));
    affinity(&mut errors, spec, &field);
    errors.extend(addresses_and_families(service, old));
    let before = texts(old, "spec.externalIPs");
    for (i, text) in texts(Some(service), "spec.externalIPs").into_iter().enumerate() {
        let at = field.child("externalIPs").index(i);
        let found = errors.len();
        ip::check(&mut errors, &at, text, ip::legacy_ip, &before);
        if let (true, Some(parsed)) = (errors.len() == found, ip::sloppy_ip(text)) {
            invalid(&mut errors, &at, text, names::not_special(parsed));
        }
    }
    required_one_of(&mut errors, spec, "type", &field, TYPES);
    unique_ports(&mut errors, kind, ports, &field.child("ports"));
    load_balancer(&mut errors, service, old, &field);
    traffic(&mut errors, service, spec, &field);
    errors
}

fn validate_port(errors: &mut Errors, port: &Value, all: &[Value], i: usize, field: &Path) {
    match value::text(port, "name") {
        "" if all.len() > 1 => errors.push(FieldError::required(&field.child("name"), "")),
        "" => {}
        name => {
            invalid(errors, &field.child("name"), name, names::dns_label(name));
            if all.iter().take(i).any(|other| value::text(other, "name") == name) {
                errors.push(FieldError::duplicate(&field.child("name"), name));
            }
        }
    }
    let number = value::int(port, "port").unwrap_or_default();
    for message in names::port_number(number) {
        errors.push(FieldError::invalid(&field.child("port"), number, message));
    }
    required_one_of(errors, port, "protocol", field, rules::PROTOCOLS);
    pod_probes::port(errors, port.get("targetPort"), &field.child("targetPort"));
    rules::text(errors, port, "appProtocol", field, names::qualified_name);
}

fn unique_ports(errors: &mut Errors, kind: &str, ports: &[Value], field: &Path) {
    let number = |port: &Value, name: &str| value::int(port, name).unwrap_or_default();
    let same = |i: usize, port: &Value, name: &str| {
        ports.iter().take(i).any(|other| {
            number(other, name) == number(port, name) && value::text(other, "protocol") == value::text(port, "protocol")
        })
    };
    if kind == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| number(port, "nodePort") != 0) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&field.index(i).child("nodePort"), detail));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if number(port, "nodePort") != 0 && same(i, port, "nodePort") {
            errors.push(FieldError::duplicate(&field.index(i).child("nodePort"), number(port, "nodePort")));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        if same(i, port, "port") {
            let fields = [
                ("Name", "".into()),
                ("Protocol", value::text(port, "protocol").into()),
                ("AppProtocol", Value::Null),
                ("Port", number(port, "port").into()),
                ("TargetPort", 0.into()),
                ("NodePort", 0.into()),
            ];
            errors.push(rules::duplicate_struct(&field.index(i), &fields));
        }
    }
}

fn affinity(errors: &mut Errors, spec: &Value, field: &Path) {
    required_one_of(errors, spec, "sessionAffinity", field, &["ClientIP", "None"]);
    let at = field.child("sessionAffinityConfig");
    match value::text(spec, "sessionAffinity") {
        "ClientIP" => match value::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds") {
            None => errors.push(FieldError::required(&at, "when session affinity type is ClientIP")),
            Some(seconds) if !(1..=86400).contains(&seconds) => errors.push(FieldError::invalid(
                &at.child("clientIP.timeoutSeconds"),
                seconds,
                "must be greater than 0 and less than 86400",
            )),
            Some(_) => {}
        },
        "None" if spec.get("sessionAffinityConfig").is_some_and(|config| !config.is_null()) => {
            errors.push(FieldError::forbidden(&at, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

/// The texts of a list.
fn texts<'a>(service: Option<&'a Value>, path: &str) -> Vec<&'a str> {
    service.map(|service| value::items(service, path)).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Addresses, families and their policy, as far as they go together by themselves.
#[must_use]
pub fn addresses_and_families(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    if value::text(service, "spec.type") == "ExternalName" {
        return errors;
    }
    let field = Path::new("spec");
    let at = field.child("clusterIPs");
    let one = value::text(service, "spec.clusterIP");
    let all = addresses(service);
    let shown = || Value::from(all.clone());
    match (one, all.first()) {
        ("", None | Some(&"")) => {}
        ("", Some(_)) => {
            errors.push(FieldError::invalid(&at, shown(), "must be empty when `clusterIP` is not specified"));
        }
        (_, None) => errors.push(FieldError::required(&at, "")),
        (one, Some(first)) if one != *first => {
            errors.push(FieldError::invalid(&at, shown(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let families: Vec<&str> = value::items(service, "spec.ipFamilies").iter().filter_map(Value::as_str).collect();
    for (i, family) in families.iter().enumerate() {
        let at = field.child("ipFamilies").index(i);
        if !matches!(*family, "IPv4" | "IPv6") {
            errors.push(FieldError::not_supported(&at, *family, &["IPv4", "IPv6"]));
        }
        if families.iter().take(i).any(|other| other == family) {
            errors.push(FieldError::duplicate(&at, *family));
        }
    }
    let policies = &["SingleStack", "PreferDualStack", "RequireDualStack"];
    let spec = service.get("spec").unwrap_or(&Value::Null);
    rules::given_one_of(&mut errors, spec, "ipFamilyPolicy", &field, policies);

    let before = texts(old, "spec.clusterIPs");
    let mut sound = true;
    for (i, text) in all.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        let found = errors.len();
        if i > 0 || *text != "None" {
            ip::check(&mut errors, &at.index(i), text, ip::legacy_ip, &before);
        } else if all.len() > 1 {
            errors.push(FieldError::invalid(&at, shown(), "'None' must be the first and only value"));
        }
        sound &= errors.len() == found;
    }
    if all.len() > 2 {
        errors.push(FieldError::invalid(&at, shown(), "may only hold up to 2 values"));
    }
    if !sound {
        return errors;
    }
    if let [first, second] = all.as_slice()
        && !first.is_empty()
        && !second.is_empty()
        && first.contains(':') == second.contains(':')
    {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&at, shown(), detail));
    }
    if !is_headless(service) {
        for (i, (ip, family)) in all.iter().zip(&families).enumerate().filter(|(_, (ip, _))| !ip.is_empty()) {
            if (*family == "IPv6") != ip.contains(':') {
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(&at.index(i), *ip, detail));
            }
        }
    }
    errors
}

fn load_balancer(errors: &mut Errors, service: &Value, old: Option<&Value>, field: &Path) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let is = value::text(spec, "type") == "LoadBalancer";
    // Spaces around a range mean nothing.
    let cidr = |errors: &mut Errors, text: &str, at: &Path, before: &[&str]| {
        if !before.contains(&text) {
            ip::check(errors, at, text.trim(), ip::legacy_cidr, &[]);
        }
    };
    let ranges = value::items(spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let before = texts(old, "spec.loadBalancerSourceRanges");
        let at = field.child("LoadBalancerSourceRanges");
        if !is {
            errors.push(FieldError::forbidden(&at, ONLY_LOAD_BALANCER));
        }
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            cidr(errors, range, &at.index(i), &before);
        }
    } else if let Some(ranges) = meta::annotation(service, RANGES) {
        let at = Path::new("metadata.annotations").key(RANGES);
        if !is {
            errors.push(FieldError::forbidden(&at, ONLY_LOAD_BALANCER));
        }
        let before = old.and_then(|old| meta::annotation(old, RANGES)).unwrap_or_default();
        for range in ranges.split(',').filter(|_| !ranges.trim().is_empty() && ranges != before) {
            cidr(errors, range, &at, &[]);
        }
    }
    if !is && spec.get("allocateLoadBalancerNodePorts").is_some_and(|value| !value.is_null()) {
        errors.push(FieldError::forbidden(&field.child("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER));
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) {
        let at = field.child("loadBalancerClass");
        if is {
            invalid(errors, &at, class, names::qualified_name(class));
        } else {
            errors.push(FieldError::forbidden(&at, ONLY_LOAD_BALANCER));
        }
    }
}

fn traffic(errors: &mut Errors, service: &Value, spec: &Value, field: &Path) {
    let policy = value::text(spec, "externalTrafficPolicy");
    if is_external(service) {
        required_one_of(errors, spec, "externalTrafficPolicy", field, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&field.child("externalTrafficPolicy"), policy, detail));
    }
    let at = field.child("healthCheckNodePort");
    if let Some(port) = value::int(spec, "healthCheckNodePort").filter(|port| *port != 0) {
        if has_health_port(service) {
            errors.extend(names::port_number(port).into_iter().map(|m| FieldError::invalid(&at, port, m)));
        } else {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&at, port, detail));
        }
    }
    let policies = &["Cluster", "Local"];
    let wanted = matches!(value::text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer");
    if wanted && spec.get("internalTrafficPolicy").is_none_or(Value::is_null) {
        errors.push(FieldError::required(&field.child("internalTrafficPolicy"), ""));
    }
    rules::given_one_of(errors, spec, "internalTrafficPolicy", field, policies);
    let ways = &["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(way) = spec.get("trafficDistribution").and_then(Value::as_str).filter(|way| !ways.contains(way)) {
        errors.push(FieldError::not_supported_as_listed(&field.child("trafficDistribution"), way, ways));
    }
}

/// What a service may not change: its addresses, families and load balancer class, once set.
#[must_use]
pub fn validate_update(new: &Value, old: &Value) -> Errors {
    const FIXED: &str = "may not change once set";
    let mut errors = Errors::new();
    let kind = |service| value::text(service, "spec.type");
    let (is_headless_now, was_headless) = (is_headless(new), is_headless(old));
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" && !(is_headless_now && was_headless) {
        let lists: [(&str, Vec<&str>, Vec<&str>); 2] = [
            ("clusterIPs", addresses(new), addresses(old)),
            (
                "ipFamilies",
                if is_headless_now == was_headless { families(new) } else { Vec::new() },
                if is_headless_now == was_headless { families(old) } else { Vec::new() },
            ),
        ];
        for (name, now, before) in lists {
            let at = Path::new("spec").child(name);
            let shown = || Value::from(now.clone());
            if let (Some(_), None) = (before.first(), now.first()) {
                let what = if name == "clusterIPs" { "clusterIP" } else { "ipFamily" };
                let detail = format!("primary {what} can not be unset");
                errors.push(FieldError::invalid(&at.index(0), shown(), detail));
            }
            let changed = now.iter().zip(&before).enumerate().filter(|(_, (a, b))| a != b && !b.is_empty());
            for (i, _) in changed {
                let at = if name == "clusterIPs" { at.index(i) } else { at.index(0) };
                errors.push(FieldError::invalid(&at, shown(), FIXED));
            }
            if now.len() == 1 && before.len() == 2 && value::text(new, "spec.ipFamilyPolicy") != "SingleStack" {
                let what = if name == "clusterIPs" { "clusterIP" } else { "ipFamily" };
                let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
                let policy = value::text(new, "spec.ipFamilyPolicy");
                errors.push(FieldError::invalid(&Path::new("spec.ipFamilyPolicy"), policy, detail));
            }
        }
    }
    let class = |service| value::get(service, "spec.loadBalancerClass");
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" && rules::differ(class(new), class(old)) {
        let shown = class(new).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&Path::new("spec.loadBalancerClass"), shown, FIXED));
    }
    let health = |service| value::int(service, "spec.healthCheckNodePort").unwrap_or_default();
    if has_health_port(new) && has_health_port(old) && health(new) != health(old) {
        errors.push(FieldError::forbidden(&Path::new("spec.healthCheckNodePort"), rules::IMMUTABLE));
    }
    errors
}

fn families(service: &Value) -> Vec<&str> {
    value::items(service, "spec.ipFamilies").iter().filter_map(Value::as_str).collect()
}

/// The status of a load balancer; addresses of `old` may be written as they were.
#[must_use]
pub fn validate_status(service: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let field = Path::new("status.loadBalancer.ingress");
    let ingress = value::items(service, "status.loadBalancer.ingress");
    if value::text(service, "spec.type") != "LoadBalancer" && !ingress.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&field, detail));
        return errors;
    }
    let before = value::items(old, "status.loadBalancer.ingress");
    let before: Vec<&str> = before.iter().map(|ingress| value::text(ingress, "ip")).collect();
    for (i, ingress) in ingress.iter().enumerate() {
        let field = field.index(i);
        let (ip, mode) = (value::text(ingress, "ip"), value::text(ingress, "ipMode"));
        let at = field.child("ipMode");
        if !ip.is_empty() {
            super::addresses::check(&mut errors, &field.child("ip"), ip, super::addresses::legacy_ip, &before);
        }
        match (ip.is_empty(), mode) {
            (false, "") => errors.push(FieldError::required(&at, "must be specified when `ip` is set")),
            (true, mode) if !mode.is_empty() => {
                errors.push(FieldError::forbidden(&at, "may not be specified when `ip` is not set"));
            }
            _ => rules::one_of(&mut errors, ingress, "ipMode", &field, &["Proxy", "VIP"]),
        }
        let host = value::text(ingress, "hostname");
        if !host.is_empty() {
            let at = field.child("hostname");
            invalid(&mut errors, &at, host, names::dns_subdomain(host));
            if names::ip(host).is_some() {
                errors.push(FieldError::invalid(&at, host, "must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::shown;
    use crate::kinds::shared::{service_families, service_prepare};

    fn check(spec: Value, sentences: &[&str]) {
        let mut service = json!({});
        service["spec"] = spec;
        service_prepare::default(&mut service);
        service_prepare::create(&mut service);
        let _ = service_families::settle(&mut service, None, &["IPv4"]);
        assert_eq!(shown(&validate(&service, None)), sentences, "{service}");
    }

    #[test]
    fn services() {
        check(json!({"ports": [{"port": 80}]}), &[]);
        check(json!({"clusterIP": "None"}), &[]);
        check(json!({}), &["spec.ports: Required value"]);
        check(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
        check(
            json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 1}]}),
            &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        );
        check(
            json!({"type": "Other", "ports": [{"port": 1}]}),
            &[
                "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
             \"NodePort\"",
            ],
        );
        check(
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a", "nodePort": 30000}, {"port": 0}]}),
            &[
                "spec.ports[1].name: Duplicate value: \"a\"",
                "spec.ports[2].name: Required value",
                "spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[2].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ],
        );
        check(
            json!({"clusterIP": "x", "externalIPs": ["127.0.0.1"], "ports": [{"port": 1}]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        );
        check(
            json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"], "ports": [{"port": 1}]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        );
        check(
            json!({"loadBalancerSourceRanges": ["x"], "loadBalancerClass": "a/b", "ports": [{"port": 1}]}),
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
             2001:db8::/64)",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        );
    }

    #[test]
    fn addresses_stay() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}});
        let mut new = old.clone();
        value::set(&mut new, "spec.clusterIP", "10.0.0.2");
        value::set(&mut new, "spec.clusterIPs", json!(["10.0.0.2"]));
        assert_eq!(
            shown(&validate_update(&new, &old)),
            ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
        );
        value::set(&mut new, "spec.type", "ExternalName");
        assert_eq!(validate_update(&new, &old), Errors::new());
        let status =
            json!({"spec": {"type": "ClusterIP"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
        assert_eq!(
            shown(&validate_status(&status, &json!({}))),
            ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
        );
    }
}
