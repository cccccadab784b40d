//! Objects in, answers out, by the examples of Kubernetes' DNS specification.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use std::sync::Arc;

use dns::zone::{Found, Zone};
use hickory_proto::rr::{Name, RecordType};
use serde::Deserialize as _;

const OBJECTS: &str = "
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.20, clusterIPs: [10.96.0.20, 'fd00:96::20'], ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
kind: Service
metadata: {name: heads, namespace: shop}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: db, port: 5432}]}
---
kind: EndpointSlice
metadata: {name: heads-1, namespace: shop, labels: {kubernetes.io/service-name: heads}}
addressType: IPv4
ports: [{name: db, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [10.244.0.5], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.0.6], conditions: {ready: true}}
- {addresses: [10.244.0.7], hostname: db-2, conditions: {ready: false}}
---
kind: Service
metadata: {name: idle, namespace: shop}
spec: {clusterIP: None, clusterIPs: [None]}
---
kind: Service
metadata: {name: far, namespace: shop}
spec: {type: ExternalName, externalName: Example.org}
";

fn zone() -> Zone {
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    for document in serde_yaml_ng::Deserializer::from_str(OBJECTS) {
        let mut value = serde_yaml_ng::Value::deserialize(document).unwrap();
        let slice = value["kind"] == "EndpointSlice";
        value["apiVersion"] = if slice { "discovery.k8s.io/v1" } else { "v1" }.into();
        if slice {
            slices.push(Arc::new(serde_yaml_ng::from_value(value).unwrap()));
        } else {
            services.push(Arc::new(serde_yaml_ng::from_value(value).unwrap()));
        }
    }
    Zone::new("cluster.local", &services, &slices)
}

#[test]
fn names_are_those_of_the_specification() {
    let zone = zone();
    let check = |name: &str, kind: RecordType, want: &[&str]| {
        let found = match zone.find(&Name::from_ascii(name).unwrap(), kind) {
            Found::Records(records) => records.iter().map(|record| record.data.to_string()).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(found, want, "{name} {kind}");
    };
    let (a, aaaa, srv, ptr) = (RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR);
    check("dns-version.cluster.local.", RecordType::TXT, &["1.1.0"]);
    check("web.shop.svc.cluster.local.", a, &["10.96.0.20"]);
    check("WEB.shop.svc.Cluster.local.", aaaa, &["fd00:96::20"]);
    check("web.shop.svc.cluster.local.", RecordType::MX, &[]);
    check("_http._tcp.web.shop.svc.cluster.local.", srv, &["0 100 80 web.shop.svc.cluster.local."]);
    check("_dns._udp.web.shop.svc.cluster.local.", srv, &["0 100 53 web.shop.svc.cluster.local."]);
    check("_tcp.web.shop.svc.cluster.local.", srv, &[]);
    check("_http._udp.web.shop.svc.cluster.local.", srv, &["Nothing"]);
    check("20.0.96.10.in-addr.arpa.", ptr, &["web.shop.svc.cluster.local."]);
    let six = format!("0.2.{}6.9.0.0.0.0.d.f.ip6.arpa.", "0.".repeat(22));
    check(&six, ptr, &["web.shop.svc.cluster.local."]);

    check("heads.shop.svc.cluster.local.", a, &["10.244.0.5", "10.244.0.6"]);
    check("db-0.heads.shop.svc.cluster.local.", a, &["10.244.0.5"]);
    check("db-2.heads.shop.svc.cluster.local.", a, &["Nothing"]);
    check("10-244-0-6.heads.shop.svc.cluster.local.", a, &["10.244.0.6"]);
    let ports =
        ["0 100 5432 db-0.heads.shop.svc.cluster.local.", "0 100 5432 10-244-0-6.heads.shop.svc.cluster.local."];
    check("_db._tcp.heads.shop.svc.cluster.local.", srv, &ports);
    check("5.0.244.10.in-addr.arpa.", ptr, &["db-0.heads.shop.svc.cluster.local."]);
    check("6.0.244.10.in-addr.arpa.", ptr, &["Elsewhere"]);
    check("idle.shop.svc.cluster.local.", a, &[]);

    for kind in [a, aaaa, RecordType::CNAME] {
        check("far.shop.svc.cluster.local.", kind, &["Example.org."]);
    }
    check("10-244-0-5.shop.pod.cluster.local.", a, &["10.244.0.5"]);
    check("10-244-0-5.shop.pod.cluster.local.", aaaa, &[]);
    check("host.shop.pod.cluster.local.", a, &["Nothing"]);
    for name in ["cluster.local.", "svc.cluster.local.", "shop.svc.cluster.local.", "pod.cluster.local."] {
        check(name, a, &[]);
    }
    for name in [
        "absent.shop.svc.cluster.local.",
        "web.other.svc.cluster.local.",
        "x.cluster.local.",
        "a.web.shop.svc.cluster.local.",
    ] {
        check(name, a, &["Nothing"]);
    }
    for name in ["example.org.", "xcluster.local.", "local.", "."] {
        check(name, a, &["Elsewhere"]);
    }
    let Found::Records(records) = zone.find(&Name::from_ascii("cluster.local.").unwrap(), RecordType::SOA) else {
        panic!()
    };
    assert_eq!(records, [zone.authority()]);
}
