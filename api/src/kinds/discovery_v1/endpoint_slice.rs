//! `endpointslices` of discovery.k8s.io: a part of the addresses of a service.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Hooks, Kind, describe};
use crate::kinds::shared::{addresses, cells, labels, names, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generation: true,
    generation_metadata: &["labels"],
    columns: &[
        Column::NAME,
        Column::text("AddressType").of("addressType"),
        Column::text("Ports").of("ports"),
        Column::text("Endpoints").of("endpoints"),
        Column::AGE,
    ],
    describe: describe::<k8s_openapi::api::discovery::v1::EndpointSlice>,
    judgement: Judgement::ONLY_AS_NEW,
    hooks: &EndpointSlice,
    ..Kind::BASE
};

struct EndpointSlice;

/// The topology of older versions, which this one does not write: endpoints that change lose it, and keep the name of a node that was
/// there before.
fn drop_topology(new: &mut Value, old: &Value) {
    const HOST: &str = "kubernetes.io/hostname";
    let before = value::items(old, "endpoints");
    if value::items(new, "endpoints") == before {
        return;
    }
    let host = |endpoint: &Value| {
        let topology = labels::map(endpoint, "deprecatedTopology")?;
        topology.get(HOST).and_then(Value::as_str).map(str::to_owned)
    };
    let known: Vec<String> = before.iter().filter_map(host).collect();
    for endpoint in value::items_mut(new, "endpoints") {
        let name = host(endpoint).filter(|name| known.contains(name) && names::dns_subdomain(name).is_empty());
        if let (Some(name), None) = (name, endpoint.get("nodeName").and_then(Value::as_str)) {
            value::set(endpoint, "nodeName", name);
        }
        value::remove(endpoint, "deprecatedTopology");
    }
}

impl Hooks for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in value::items_mut(object, "ports") {
            value::set_default(port, "name", "");
            value::set_default(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        drop_topology(object, &Value::Null);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_topology(new, old);
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let whole = Path::new("");
        rules::required_one_of(&mut errors, object, "addressType", &whole, &["FQDN", "IPv4", "IPv6"]);
        validate_ports(&mut errors, value::items(object, "ports"));
        let endpoints = value::items(object, "endpoints");
        let field = Path::new("endpoints");
        if endpoints.len() > 1000 {
            errors.push(FieldError::too_many(&field, endpoints.len(), 1000));
            return errors;
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            validate_endpoint(&mut errors, endpoint, value::text(object, "addressType"), &field.index(i));
        }
        errors
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        // Endpoints that are there already may be older than their rules.
        if !errors.is_empty() && value::items(new, "endpoints") == value::items(old, "endpoints") {
            errors.retain(|error| !error.field.to_string().starts_with("endpoints"));
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
        let mut out = Vec::new();
        if old.is_none() && value::text(new, "addressType") == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let by = labels::map(new, "metadata.labels").and_then(|labels| labels.get(MANAGER)).and_then(Value::as_str);
        // Controllers write addresses as they should be, and many of them.
        if matches!(by, Some("endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")) {
            return out;
        }
        for (i, endpoint) in value::items(new, "endpoints").iter().enumerate() {
            let field = Path::new("endpoints").index(i).child("addresses");
            for (j, address) in value::items(endpoint, "addresses").iter().filter_map(Value::as_str).enumerate() {
                out.extend(addresses::ip_warnings(&field.index(j), address));
            }
        }
        out
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        rules::unchanged_text(&mut errors, new, old, "addressType");
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let port = |port: &Value| match (value::int(port, "port"), port.get("name").and_then(Value::as_str)) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = value::items(object, "ports").iter().map(port).collect();
        let endpoints = value::items(object, "endpoints").iter();
        let addresses = endpoints.flat_map(|endpoint| value::items(endpoint, "addresses"));
        let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        vec![
            cells::name(object),
            cells::text(object, "addressType"),
            cells::first_three(&ports, "<unset>").into(),
            cells::first_three(&addresses, "<unset>").into(),
            cells::age(object, now),
        ]
    }
}

fn validate_ports(errors: &mut Errors, ports: &[Value]) {
    let field = Path::new("ports");
    if ports.len() > 20_000 {
        errors.push(FieldError::too_many(&field, ports.len(), 20_000));
        return;
    }
    let mut seen = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let field = field.index(i);
        let name = value::text(port, "name");
        if !name.is_empty() {
            labels::invalid(errors, &field.child("name"), name, names::dns_label(name));
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&field.child("name"), name));
        }
        seen.push(name);
        rules::required_one_of(errors, port, "protocol", &field, rules::PROTOCOLS);
        rules::text(errors, port, "appProtocol", &field, names::qualified_name);
    }
}

fn validate_endpoint(errors: &mut Errors, endpoint: &Value, kind: &str, field: &Path) {
    let at = field.child("addresses");
    let addresses = value::items(endpoint, "addresses");
    match addresses.len() {
        0 => errors.push(FieldError::required(&at, "must contain at least 1 address")),
        1..=100 => {}
        many => errors.push(FieldError::too_many(&at, many, 100)),
    }
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        validate_address(errors, address, kind, &at, i);
    }
    rules::text(errors, endpoint, "nodeName", field, names::dns_subdomain);
    let topology = field.child("deprecatedTopology");
    let labels = endpoint.get("deprecatedTopology");
    if let Some(count) = labels.and_then(Value::as_object).map(crate::json::Map::len).filter(|count| *count > 16) {
        errors.push(FieldError::too_many(&topology, count, 16));
    }
    errors.extend(labels::validate(labels, &topology));
    rules::text(errors, endpoint, "hostname", field, names::dns_label);
    for (list, rule) in [("forZones", names::label_value as fn(&str) -> _), ("forNodes", names::dns_subdomain)] {
        let hints = value::items(endpoint.get("hints").unwrap_or(&Value::Null), list);
        let field = field.child("hints").child(list);
        if hints.len() > 8 {
            errors.push(FieldError::too_many(&field, hints.len(), 8));
            continue;
        }
        for (i, hint) in hints.iter().enumerate() {
            let name = value::text(hint, "name");
            let at = field.index(i).child("name");
            if hints.iter().take(i).any(|other| value::text(other, "name") == name) {
                errors.push(FieldError::duplicate(&at, name));
            }
            labels::invalid(errors, &at, name, rule(name));
        }
    }
}

fn validate_address(errors: &mut Errors, address: &str, kind: &str, list: &Path, i: usize) {
    let field = list.index(i);
    if kind == "FQDN" {
        let name = names::without_final_dot(address);
        match names::dns_subdomain(name) {
            bad if !bad.is_empty() => errors.push(FieldError::invalid(&field, name, bad.join(","))),
            _ if !name.contains('.') => errors.push(FieldError::invalid(
                &field,
                name,
                "should be a domain with at least two segments separated by dots",
            )),
            _ => {}
        }
        return;
    }
    let rule = match kind {
        "IPv4" => addresses::legacy_ip,
        "IPv6" => addresses::canonical_ip,
        _ => return,
    };
    let found = errors.len();
    addresses::check(errors, &field, address, rule, &[]);
    if let (true, Some(ip)) = (errors.len() == found, addresses::sloppy_ip(address)) {
        if ip.is_ipv4() != (kind == "IPv4") {
            errors.push(FieldError::invalid(list, address, format!("must be an {kind} address")));
        }
        labels::invalid(errors, &field, address, names::not_special(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn topology_is_of_the_past() {
        let endpoint = |address: &str| json!({"addresses": [address], "deprecatedTopology": {"kubernetes.io/hostname": "n", "zone": "z"}});
        let old = json!({"endpoints": [endpoint("10.0.0.1")]});
        let mut made = old.clone();
        KIND.hooks.prepare_create(&mut made);
        assert_eq!(made, json!({"endpoints": [{"addresses": ["10.0.0.1"]}]}));
        let mut same = old.clone();
        KIND.hooks.prepare_update(&mut same, &old);
        assert_eq!(same, old);
        let mut moved = json!({"endpoints": [endpoint("10.0.0.2")]});
        KIND.hooks.prepare_update(&mut moved, &old);
        assert_eq!(moved, json!({"endpoints": [{"addresses": ["10.0.0.2"], "nodeName": "n"}]}));
    }

    #[test]
    fn addresses_are_of_the_type() {
        testing::defaults(
            &KIND,
            json!({"ports": [{"port": 80}]}),
            &json!({"ports": [{"port": 80, "name": "", "protocol": "TCP"}]}),
        );
        testing::invalid(
            &KIND,
            &json!({"addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP"}, {"name": "", "protocol": "X"}],
                "endpoints": [{"addresses": ["::2"]}, {"addresses": []}]}),
            &[
                "ports[1].name: Duplicate value: \"\"",
                "ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "endpoints[0].addresses: Invalid value: \"::2\": must be an IPv4 address",
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ],
        );
        testing::invalid(&KIND, &json!({}), &["addressType: Required value"]);
        let old = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["FD00::1"]}]});
        let wrong = "endpoints[0].addresses[0]: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")";
        testing::invalid(&KIND, &old, &[wrong]);
        assert_eq!(KIND.hooks.revalidate(&old, &old), []);
        let said =
            "endpoints[0].addresses[0]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")";
        assert_eq!(KIND.hooks.warnings(&old, None), [said]);
        let named = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}]});
        assert_eq!(KIND.hooks.warnings(&named, None), ["spec.addressType: FQDN endpoints are deprecated"]);
        assert!(KIND.hooks.warnings(&named, Some(&named)).is_empty());
        testing::invalid_update(
            &KIND,
            &json!({"addressType": "IPv6"}),
            &json!({"addressType": "IPv4"}),
            &["addressType: Invalid value: \"IPv6\": field is immutable"],
        );
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"name": "x", "port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]});
        testing::row(&KIND, &object, &json!(["a", "IPv4", "80", "10.0.0.1,10.0.0.2", "<unknown>"]));
        testing::row(&KIND, &json!({}), &json!(["", "", "<unset>", "<unset>", "<unknown>"]));
    }
}
