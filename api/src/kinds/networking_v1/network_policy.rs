//! `networkpolicies` of networking.k8s.io: which traffic some pods may have.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::labels::{self, invalid};
use crate::kinds::shared::{addresses, cells, names, selector_cell};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    generation: true,
    tells_empty: true,
    columns: &[Column::NAME, Column::text("Pod-Selector").of("spec.podSelector"), Column::AGE],
    describe: describe::<k8s_openapi::api::networking::v1::NetworkPolicy>,
    hooks: &NetworkPolicy,
    ..Kind::BASE
};

/// Both directions, and the name of the peers in each.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

struct NetworkPolicy;

impl Hooks for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        value::map_mut(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        for (direction, _) in DIRECTIONS {
            for rule in value::items_mut(spec, direction) {
                for port in value::items_mut(rule, "ports") {
                    value::set_default(port, "protocol", "TCP");
                }
            }
        }
        if value::items(spec, "policyTypes").is_empty() {
            let both = !value::items(spec, "egress").is_empty();
            value::set(spec, "policyTypes", if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        validate(object, &[])
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let before: Vec<&str> =
            blocks(old).into_iter().flat_map(|(_, block)| cidrs(block)).map(|(_, cidr)| cidr).collect();
        validate(new, &before)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (field, block) in blocks(new) {
            for (name, cidr) in cidrs(block) {
                out.extend(addresses::cidr_warnings(&field.child(&name), cidr));
            }
        }
        out
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let selector = value::get(object, "spec.podSelector");
        vec![cells::name(object), selector_cell::shown(selector), cells::age(object, now)]
    }
}

/// Every `ipBlock`, and where it is.
fn blocks(policy: &Value) -> Vec<(Path, &Value)> {
    let mut out = Vec::new();
    for (direction, peers) in DIRECTIONS {
        let rules = value::get(policy, "spec").map_or(&[][..], |spec| value::items(spec, direction));
        for (i, rule) in rules.iter().enumerate() {
            for (j, peer) in value::items(rule, peers).iter().enumerate() {
                if let Some(block) = peer.get("ipBlock").filter(|block| !block.is_null()) {
                    let field = Path::new("spec").child(direction).index(i).child(peers).index(j);
                    out.push((field.child("ipBlock"), block));
                }
            }
        }
    }
    out
}

/// The CIDRs of a block: the whole and its exceptions.
fn cidrs(block: &Value) -> Vec<(String, &str)> {
    let mut out = vec![("cidr".to_owned(), value::text(block, "cidr"))];
    let except = value::items(block, "except").iter().filter_map(Value::as_str).enumerate();
    out.extend(except.map(|(i, cidr)| (format!("except[{i}]"), cidr)));
    out
}

/// `before`: CIDRs that the policy had already, and may keep.
fn validate(object: &Value, before: &[&str]) -> Errors {
    let field = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = labels::validate_selector(spec.get("podSelector"), &field.child("podSelector"));
    for (direction, peers) in DIRECTIONS {
        for (i, rule) in value::items(spec, direction).iter().enumerate() {
            let field = field.child(direction).index(i);
            for (j, port) in value::items(rule, "ports").iter().enumerate() {
                self::port(&mut errors, port, &field.child("ports").index(j));
            }
            for (j, peer) in value::items(rule, peers).iter().enumerate() {
                self::peer(&mut errors, peer, &field.child(peers).index(j), before);
            }
        }
    }
    let field = field.child("policyTypes");
    let types = value::items(spec, "policyTypes");
    if types.len() > 2 {
        errors.push(FieldError::invalid(&field, types.to_vec(), "may not specify more than two policyTypes"));
        return errors;
    }
    for (i, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(FieldError::not_supported_as_listed(&field.index(i), kind, &["Ingress", "Egress"]));
        }
    }
    errors
}

fn port(errors: &mut Errors, port: &Value, field: &Path) {
    if let Some(protocol) = port.get("protocol").and_then(Value::as_str)
        && !matches!(protocol, "TCP" | "UDP" | "SCTP")
    {
        let at = field.child("protocol");
        errors.push(FieldError::not_supported_as_listed(&at, protocol, &["TCP", "UDP", "SCTP"]));
    }
    let (at, at_end) = (field.child("port"), field.child("endPort"));
    let end = value::int(port, "endPort");
    match (port.get("port").filter(|port| !port.is_null()), end) {
        (None, Some(end)) => {
            errors.push(FieldError::invalid(&at_end, end, "may not be specified when `port` is not specified"));
        }
        (None, None) => {}
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                errors.push(FieldError::invalid(&at_end, end, "may not be specified when `port` is non-numeric"));
            }
            invalid(errors, &at, name, names::port_name(name));
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or_default();
            for message in names::port_number(number) {
                errors.push(FieldError::invalid(&at, number, message));
            }
            if let Some(end) = end {
                if end < number {
                    // The value shown is the port's, as upstream has it.
                    errors.push(FieldError::invalid(&at_end, number, "must be greater than or equal to `port`"));
                }
                for message in names::port_number(end) {
                    errors.push(FieldError::invalid(&at_end, end, message));
                }
            }
        }
    }
}

fn peer(errors: &mut Errors, peer: &Value, field: &Path, before: &[&str]) {
    let get = |name| peer.get(name).filter(|part: &&Value| !part.is_null());
    let mut peers = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = get(name) {
            peers += 1;
            errors.extend(labels::validate_selector(Some(selector), &field.child(name)));
        }
    }
    if let Some(block) = get("ipBlock") {
        ip_block(errors, block, &field.child("ipBlock"), before);
        if peers > 0 {
            errors.push(FieldError::forbidden(field, "may not specify both ipBlock and another peer"));
        }
    } else if peers == 0 {
        errors.push(FieldError::required(field, "must specify a peer"));
    }
}

fn ip_block(errors: &mut Errors, block: &Value, field: &Path, before: &[&str]) {
    let whole = value::text(block, "cidr");
    if whole.is_empty() {
        errors.push(FieldError::required(&field.child("cidr"), ""));
        return;
    }
    addresses::check(errors, &field.child("cidr"), whole, addresses::legacy_cidr, before);
    let Some(whole) = addresses::sloppy_cidr(whole) else { return };
    for (name, cidr) in cidrs(block).into_iter().skip(1) {
        let at = field.child(&name);
        addresses::check(errors, &at, cidr, addresses::legacy_cidr, before);
        if addresses::sloppy_cidr(cidr).is_some_and(|except| !addresses::is_strictly_within(except, whole)) {
            errors.push(FieldError::invalid(&at, cidr, "must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing;

    #[test]
    fn defaults() {
        testing::defaults(
            &KIND,
            json!({"spec": {"egress": [{"ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}]}]}}),
            &json!({"spec": {"egress": [{"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}],
                "policyTypes": ["Ingress", "Egress"]}}),
        );
        testing::defaults(&KIND, json!({"spec": {}}), &json!({"spec": {"policyTypes": ["Ingress"]}}));
    }

    #[allow(clippy::needless_pass_by_value)] // `json!` at every call
    fn ports(ports: Value, sentences: &[&str]) {
        testing::invalid(&KIND, &json!({"spec": {"ingress": [{ "ports": ports }]}}), sentences);
    }

    #[test]
    fn ports_and_ranges() {
        ports(json!([{}, {"port": 80, "endPort": 90}, {"port": "http"}]), &[]);
        ports(
            json!([{"protocol": "X", "port": 0, "endPort": 65536}, {"port": 2, "endPort": 1}, {"port": "80", "endPort": 1}, {"endPort": 1}]),
            &[
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ingress[0].ports[0].endPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
                "spec.ingress[0].ports[1].endPort: Invalid value: 2: must be greater than or equal to `port`",
                "spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[2].port: Invalid value: \"80\": must contain at least one letter (a-z)",
                "spec.ingress[0].ports[3].endPort: Invalid value: 1: may not be specified when `port` is not specified",
            ],
        );
    }

    #[test]
    fn peers() {
        let check = |peer: Value, sentences: &[&str]| {
            testing::invalid(&KIND, &json!({"spec": {"egress": [{"to": [peer]}]}}), sentences);
        };
        check(json!({"podSelector": {}, "namespaceSelector": {}}), &[]);
        check(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}), &[]);
        check(json!({}), &["spec.egress[0].to[0]: Required value: must specify a peer"]);
        check(
            json!({"ipBlock": {}, "podSelector": {}}),
            &[
                "spec.egress[0].to[0].ipBlock.cidr: Required value",
                "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
            ],
        );
        check(
            json!({"ipBlock": {"cidr": "10.0.0.1/8", "except": ["10.0.0.0/8", "x"]}}),
            &[
                "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                 2001:db8::/64)",
            ],
        );
        testing::invalid(
            &KIND,
            &json!({"spec": {"policyTypes": ["Odd"]}}),
            &["spec.policyTypes[0]: Unsupported value: \"Odd\": supported values: \"Ingress\", \"Egress\""],
        );
        testing::invalid(
            &KIND,
            &json!({"spec": {"policyTypes": ["Ingress", "Egress", "Odd"]}}),
            &[
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Odd\"]: may not specify more than two policyTypes",
            ],
        );
    }

    #[test]
    fn old_cidrs_may_stay_wherever_they_go() {
        let old = json!({"spec": {"egress": [{"to": [{"ipBlock": {"cidr": "010.0.0.0/8"}}]}]}});
        let new = json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "010.0.0.0/8"}}]}]}});
        assert_eq!(testing::shown(&KIND.hooks.revalidate(&new, &old)), [""; 0]);
        assert_eq!(KIND.hooks.validate(&new).len(), 1);
        assert_eq!(
            KIND.hooks.warnings(&new, Some(&old)),
            [
                "spec.ingress[0].from[0].ipBlock.cidr: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""
            ]
        );
    }

    #[test]
    fn row() {
        let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchLabels": {"a": "1"}}}});
        testing::row(&KIND, &policy, &json!(["p", "a=1", "<unknown>"]));
        testing::row(
            &KIND,
            &json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}}),
            &json!(["p", "<none>", "<unknown>"]),
        );
    }
}
