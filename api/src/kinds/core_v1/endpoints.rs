//! `endpoints`: addresses of a service, in subsets.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::judgement::Judgement;
use crate::kind::{Column, Deprecated, Gvk, Hooks, Kind, describe};
use crate::kinds::shared::{addresses, cells, labels, names, rules};
use crate::value;

/// The description.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    create_on_update: true,
    columns: &[Column::NAME, Column::text("Endpoints").of("subsets"), Column::AGE],
    deprecated: Some(Deprecated {
        since: "1.33",
        removed: None,
        instead: Some(Gvk { group: "discovery.k8s.io", version: "v1", kind: "EndpointSlice" }),
        said: None,
    }),
    describe: describe::<k8s_openapi::api::core::v1::Endpoints>,
    judgement: Judgement::AS_NEW,
    hooks: &Endpoints,
    ..Kind::BASE
};

struct Endpoints;

impl Hooks for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in value::items_mut(object, "subsets") {
            for port in value::items_mut(subset, "ports") {
                value::set_default(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        for (i, subset) in value::items(object, "subsets").iter().enumerate() {
            let field = Path::new("subsets").index(i);
            let mut any = false;
            for list in ["addresses", "notReadyAddresses"] {
                for (j, address) in value::items(subset, list).iter().enumerate() {
                    any = true;
                    validate_address(&mut errors, address, &field.child(list).index(j));
                }
            }
            if !any {
                errors.push(FieldError::required(&field, "must specify `addresses` or `notReadyAddresses`"));
            }
            let ports = value::items(subset, "ports");
            for (j, port) in ports.iter().enumerate() {
                validate_port(&mut errors, port, ports.len() > 1, &field.child("ports").index(j));
            }
        }
        errors
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        // What is there already may be older than its rules.
        let same = value::items(new, "subsets") == value::items(old, "subsets");
        if same { Errors::new() } else { self.validate(new) }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        const MANAGER: &str = "endpoints.kubernetes.io/managed-by";
        // The controller writes addresses as they should be, and many of them.
        if labels::map(new, "metadata.labels")
            .and_then(|labels| labels.get(MANAGER))
            .is_some_and(|by| by == "endpoint-controller")
        {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (i, subset) in value::items(new, "subsets").iter().enumerate() {
            for list in ["addresses", "notReadyAddresses"] {
                let field = Path::new("subsets").index(i).child(list);
                for (j, address) in value::items(subset, list).iter().enumerate() {
                    out.extend(addresses::ip_warnings(&field.index(j).child("ip"), value::text(address, "ip")));
                }
            }
        }
        out
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut all = Vec::new();
        for subset in value::items(object, "subsets") {
            let addresses: Vec<&str> = value::items(subset, "addresses").iter().map(|a| value::text(a, "ip")).collect();
            let ports = value::items(subset, "ports");
            if ports.is_empty() {
                all.extend(addresses.iter().map(|ip| (*ip).to_owned()));
            }
            for port in ports {
                let port = value::int(port, "port").unwrap_or_default();
                all.extend(
                    addresses
                        .iter()
                        .map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
                );
            }
        }
        let none = if value::items(object, "subsets").is_empty() { "<none>" } else { "" };
        vec![cells::name(object), cells::first_three(&all, none).into(), cells::age(object, now)]
    }
}

fn validate_address(errors: &mut Errors, address: &Value, field: &Path) {
    let ip = value::text(address, "ip");
    let at = field.child("ip");
    addresses::check(errors, &at, ip, addresses::legacy_ip, &[]);
    if !value::text(address, "hostname").is_empty() {
        rules::text(errors, address, "hostname", field, names::dns_label);
    }
    rules::text(errors, address, "nodeName", field, names::dns_subdomain);
    // What is no address is told twice, as upstream does.
    let none = || vec!["must be a valid IP address".to_owned()];
    labels::invalid(errors, &at, ip, addresses::sloppy_ip(ip).map_or_else(none, names::not_special));
}

fn validate_port(errors: &mut Errors, port: &Value, named: bool, field: &Path) {
    match value::text(port, "name") {
        "" if named => errors.push(FieldError::required(&field.child("name"), "")),
        "" => {}
        name => labels::invalid(errors, &field.child("name"), name, names::dns_label(name)),
    }
    let number = value::int(port, "port").unwrap_or_default();
    for message in names::port_number(number) {
        errors.push(FieldError::invalid(&field.child("port"), number, message));
    }
    rules::required_one_of(errors, port, "protocol", field, rules::PROTOCOLS);
    rules::text(errors, port, "appProtocol", field, names::qualified_name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing;

    #[test]
    fn subsets_hold_reachable_addresses() {
        testing::defaults(
            &KIND,
            json!({"subsets": [{"ports": [{"port": 80}]}]}),
            &json!({"subsets": [{"ports": [{"port": 80, "protocol": "TCP"}]}]}),
        );
        testing::invalid(
            &KIND,
            &json!({"subsets": [{}, {"addresses": [{"ip": "127.0.0.1"}, {"ip": "x"}],
                "ports": [{"port": 0, "protocol": "TCP"}, {"port": 1, "protocol": "TCP", "name": "a"}]}]}),
            &[
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address",
                "subsets[1].ports[0].name: Required value",
                "subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        );
    }

    #[test]
    fn row() {
        let object = json!({"metadata": {"name": "a"}, "subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 81}]}]});
        let cell = "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...";
        testing::row(&KIND, &object, &json!(["a", cell, "<unknown>"]));
        testing::row(&KIND, &json!({"metadata": {"name": "a"}}), &json!(["a", "<none>", "<unknown>"]));
    }
}
