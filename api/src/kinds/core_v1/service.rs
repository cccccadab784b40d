//! `services`: a name and address for a set of pods.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, Path};
use crate::json::Value;
use crate::judgement::{Check, Judgement};
use crate::kind::{Column, Hooks, Kind, NameRule, Need, Selectable, describe};
use crate::kinds::shared::parts;
use crate::kinds::shared::{addresses, cells, labels, rules, service_families, service_prepare, service_validation};
use crate::{meta, value};

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[parts::proxy("ServiceProxyOptions"), parts::status("", "v1", "Service")],
    create_on_update: true,
    columns: &[
        Column::NAME,
        Column::text("Type").of("spec.type"),
        Column::text("Cluster-IP").of("spec.clusterIP"),
        Column::text("External-IP").of("spec.externalIPs"),
        Column::text("Port(s)").of("spec.ports"),
        Column::AGE,
        cells::SELECTOR,
    ],
    returns_deleted: true,
    selectable: &[
        Selectable { name: "spec.clusterIP", value: |service| value::text(service, "spec.clusterIP").to_owned() },
        Selectable { name: "spec.type", value: |service| value::text(service, "spec.type").to_owned() },
    ],
    describe: describe::<k8s_openapi::api::core::v1::Service>,
    judgement: Judgement { update: &[Check::MetadataChange, Check::Change, Check::Object], ..Judgement::USUAL },
    hooks: &Service,
    ..Kind::BASE
};

struct Service;

impl Hooks for Service {
    fn default(&self, object: &mut Value) {
        service_prepare::default(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        service_prepare::create(object);
        value::set(object, "status", crate::json::json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        service_prepare::update(new, old);
    }

    fn settle_families(&self, new: &mut Value, old: Option<&Value>, cluster: &[&str]) -> Errors {
        service_families::settle(new, old, cluster)
    }

    fn validate(&self, object: &Value) -> Errors {
        service_validation::validate(object, None)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        service_validation::validate(new, Some(old))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        service_validation::validate_update(new, old)
    }

    fn validate_part(&self, _part: &str, new: &Value, old: &Value) -> Errors {
        service_validation::validate_status(new, old)
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn needs(&self, new: &Value, _old: Option<&Value>) -> Vec<Need> {
        service_prepare::needs(new)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(new)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let ports = value::items(object, "spec.ports").iter().map(|port| {
            let number = value::int(port, "port").unwrap_or_default();
            let protocol = value::text(port, "protocol");
            match value::int(port, "nodePort").unwrap_or_default() {
                0 => format!("{number}/{protocol}"),
                node => format!("{number}:{node}/{protocol}"),
            }
        });
        let ports = ports.collect::<Vec<_>>().join(",");
        let address = service_prepare::addresses(object).first().map_or("<none>", |ip| *ip).to_owned();
        vec![
            cells::name(object),
            cells::text(object, "spec.type"),
            address.into(),
            external(object).into(),
            if ports.is_empty() { "<none>".into() } else { ports.into() },
            cells::age(object, now),
            labels::shown(value::get(object, "spec.selector")).into(),
        ]
    }
}

/// Fields that mean nothing, or soon will, and addresses that are not written as they should be.
fn warnings(service: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let has = |path: &str| value::get(service, path).is_some_and(|value| !rules::is_zero(value));
    let headless = service_prepare::is_headless(service);
    let alias = value::text(service, "spec.type") == "ExternalName";
    let external = has("spec.externalIPs");
    let mut out = Vec::new();
    if meta::annotation(service, HINTS).is_some() {
        out.push(format!("annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    let written = |path: &str, of: fn(&Path, &str) -> Vec<String>, applies: bool| {
        let texts = value::items(service, path).iter().filter_map(Value::as_str).enumerate().filter(|_| applies);
        texts.flat_map(|(i, text)| of(&Path::new(path).index(i), text)).collect::<Vec<_>>()
    };
    let cluster = written("spec.clusterIPs", addresses::ip_warnings, !headless && !alias);
    let outside = written("spec.externalIPs", addresses::ip_warnings, true);
    let ranges = written("spec.loadBalancerSourceRanges", addresses::cidr_warnings, true);
    let balancer = value::text(service, "spec.loadBalancerIP");
    let say = |rules: &[(bool, &str)]| {
        let texts = rules.iter().filter(|(applies, _)| *applies).map(|(_, text)| (*text).to_owned());
        texts.collect::<Vec<String>>()
    };
    out.extend(cluster);
    out.extend(say(&[
        (headless && has("spec.loadBalancerIP"), "spec.loadBalancerIP is ignored for headless services"),
        (headless && external, "spec.externalIPs is ignored for headless services"),
        (
            headless && value::text(service, "spec.sessionAffinity") != "None",
            "spec.SessionAffinity is ignored for headless services",
        ),
    ]));
    out.extend(outside);
    out.extend(say(&[(
        external && !headless && !alias,
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    )]));
    out.extend(addresses::ip_warnings(&Path::new("spec.loadBalancerIP"), balancer));
    out.extend(ranges);
    out.extend(say(&[
        (alias && external, "spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        (!alias && has("spec.externalName"), "spec.externalName is ignored when spec.type is not \"ExternalName\""),
        (
            value::text(service, "spec.trafficDistribution") == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ]));
    out
}

/// The addresses by which a service is reached from outside.
fn external(service: &Value) -> String {
    let given: Vec<&str> = value::items(service, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match value::text(service, "spec.type") {
        "ClusterIP" | "NodePort" if given.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => given.join(","),
        "LoadBalancer" => {
            let mut all: Vec<&str> = value::items(service, "status.loadBalancer.ingress")
                .iter()
                .map(|ingress| match value::text(ingress, "ip") {
                    "" => value::text(ingress, "hostname"),
                    ip => ip,
                })
                .filter(|text| !text.is_empty())
                .collect();
            all.sort_unstable();
            all.dedup();
            all.extend(given);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => value::text(service, "spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn idle_fields_are_named() {
        let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "None", "externalName": "x",
            "externalIPs": ["1.2.3.4", "::ffff:1.2.3.5"], "loadBalancerSourceRanges": ["10.0.0.1/8"]}});
        assert_eq!(
            warnings(&service),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.externalIPs[1]: non-standard IP address \"::ffff:1.2.3.5\" is invalid: use \"1.2.3.5\"",
                "spec.loadBalancerSourceRanges[0]: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \
                 \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ]
        );
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            "selector": {"b": "2", "a": "1"}}});
        let cells = json!(["a", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "<unknown>", "a=1,b=2"]);
        testing::row(&KIND, &object, &cells);
        let object = json!({"metadata": {"name": "a"}, "spec": {"type": "ExternalName", "externalName": "x.y"}});
        testing::row(&KIND, &object, &json!(["a", "ExternalName", "<none>", "x.y", "<none>", "<unknown>", "<none>"]));
        let object = json!({"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "1.2.3.4"}]}}});
        assert_eq!(external(&object), "1.2.3.4,h");
        assert_eq!(external(&json!({"spec": {"type": "LoadBalancer"}})), "<pending>");
    }
}
