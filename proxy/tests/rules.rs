//! Manifests in, nftables scripts out, as committed (`UPDATE=1` rewrites them); and what the kernel makes of them, in a network namespace
//! of the test's own, left out in one line where there is no right to make one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proxy::plan::{self, Family, Place, ServicePort};
use proxy::rules::{self, Options, Table};
use serde::Deserialize as _;

const TABLE: &str = "ironkeel-test";

fn options() -> Options {
    Options {
        table: TABLE.to_owned(),
        node_addresses: vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
        pod_cidrs: vec!["10.244.0.0/24".to_owned(), "fd00:244::/64".to_owned()],
        bridge: Some("ik-1".to_owned()),
        masquerade_all: false,
    }
}

fn ports(yaml: &str) -> Vec<ServicePort> {
    let (mut services, mut slices) = (Vec::<Arc<Service>>::new(), Vec::<Arc<EndpointSlice>>::new());
    for document in serde_yaml_ng::Deserializer::from_str(yaml) {
        let mut value = serde_yaml_ng::Value::deserialize(document).unwrap();
        let slice = value["kind"] == "EndpointSlice";
        value["apiVersion"] = if slice { "discovery.k8s.io/v1" } else { "v1" }.into();
        if slice {
            slices.push(Arc::new(serde_yaml_ng::from_value(value).unwrap()));
        } else {
            services.push(Arc::new(serde_yaml_ng::from_value(value).unwrap()));
        }
    }
    plan::plan(&services, &slices, &Place { node: "here".to_owned(), zone: "a".to_owned() })
}

fn manifests() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "yaml")).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn tables(ports: &[ServicePort]) -> [(Family, Table); 2] {
    [Family::V4, Family::V6].map(|family| (family, rules::table(ports, family, &options())))
}

#[test]
fn manifests_become_rules() {
    let fixed = tables(&[]);
    let text = |ports: &[ServicePort], from: &[(Family, Table)]| -> String {
        let pairs = tables(ports).into_iter().zip(from);
        pairs.map(|((family, new), (_, old))| rules::changes(family, TABLE, old, &new)).collect()
    };
    let empty = [(Family::V4, Table::default()), (Family::V6, Table::default())];
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let mut pictures = vec![(folder.join("no_services.nft"), text(&[], &empty))];
    pictures
        .extend(manifests().into_iter().map(|(path, yaml)| (path.with_extension("nft"), text(&ports(&yaml), &fixed))));
    for (file, text) in pictures {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let want = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, want, "{} differs; UPDATE=1 rewrites it", file.display());
    }
}

/// One Service with one port; `rest` is YAML below its `spec`, each endpoint YAML of its own.
fn one(rest: &str, endpoints: &[&str]) -> ServicePort {
    let yaml = format!(
        "kind: Service\nmetadata: {{name: s, namespace: n}}\nspec: {{clusterIP: 10.96.0.1, ports: [{{port: 80, nodePort: 30080}}]{rest}}}\n---\n\
         kind: EndpointSlice\nmetadata: {{name: s-1, namespace: n, labels: {{kubernetes.io/service-name: s}}}}\n\
         addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    );
    ports(&yaml).remove(0)
}

#[test]
fn endpoints_are_chosen_by_state_place_and_hint() {
    let check = |rest: &str, endpoints: &[&str], cluster: &[u8], local: &[u8], anywhere: bool| {
        let port = one(rest, endpoints);
        let last = |set: &BTreeSet<std::net::SocketAddr>| -> Vec<u8> {
            set.iter().map(|e| e.ip().to_string().rsplit('.').next().unwrap().parse().unwrap()).collect()
        };
        assert_eq!(
            (last(&port.cluster), last(&port.local), port.anywhere),
            (cluster.into(), local.into(), anywhere),
            "{endpoints:?}"
        );
    };
    let ready = "{addresses: [10.0.0.1], nodeName: there}";
    let here = "{addresses: [10.0.0.2], nodeName: here}";
    let lingers =
        "{addresses: [10.0.0.3], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}";
    let gone = "{addresses: [10.0.0.4], nodeName: here, conditions: {ready: false, serving: false, terminating: true}}";
    let sick = "{addresses: [10.0.0.5], nodeName: here, conditions: {ready: false, serving: false}}";
    check("", &[], &[], &[], false);
    check("", &[gone, sick], &[], &[], false);
    check("", &[ready, here, lingers, gone, sick], &[1, 2], &[], true);
    check("", &[lingers, gone], &[3], &[], true);
    let internal = ", internalTrafficPolicy: Local";
    check(internal, &[ready, here, lingers], &[], &[2], true);
    check(internal, &[ready, lingers, sick], &[], &[3], true);
    check(internal, &[ready], &[], &[], true);
    check(internal, &[], &[], &[], false);
    let external = ", type: NodePort, externalTrafficPolicy: Local";
    check(external, &[ready, here], &[1, 2], &[2], true);
    check(external, &[ready], &[1], &[], true);
    // Without a port outside the policy says nothing.
    check(", externalTrafficPolicy: Local", &[ready, here], &[1, 2], &[], true);

    let hint = |last: u8, hints: &str| format!("{{addresses: [10.0.0.{last}], hints: {{{hints}}}}}");
    let near = hint(1, "forNodes: [{name: here}], forZones: [{name: a}]");
    let zone = hint(2, "forNodes: [{name: x}], forZones: [{name: a}]");
    let far = hint(3, "forNodes: [{name: y}], forZones: [{name: b}]");
    check("", &[&near, &zone, &far], &[1], &[], true);
    check("", &[&zone, &far], &[2], &[], true);
    check("", &[&far], &[3], &[], true);
    check("", &[&near, &far, "{addresses: [10.0.0.4]}"], &[1, 3, 4], &[], true);
}

/// Puts this test's thread, and with it the programs it starts, into a network namespace of its own.
fn own_namespace() -> bool {
    let done = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
    let tools = ["ip", "nft"].iter().all(|tool| Command::new(tool).arg("-V").output().is_ok());
    if !done || !tools {
        eprintln!("left out: rules in the kernel need ip, nft and the right to make a network namespace");
    }
    done && tools
}

fn run(program: &str, arguments: &str, input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments}: {said}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// A table as `nft` lists it, in an order of its own: maps are listed as they hash.
fn listed(family: &str) -> Vec<String> {
    let text = run("nft", &format!("-s list table {family} {TABLE}"), "");
    let words = text.replace("elements = {", "").replace(['\n', '\t', '}'], ",");
    let mut parts: Vec<String> =
        words.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    parts.sort();
    parts
}

#[test]
fn the_kernel_takes_every_script_and_changes_lead_where_the_whole_does() {
    if !own_namespace() {
        return;
    }
    let mut steps: Vec<Vec<ServicePort>> = manifests().iter().map(|(_, yaml)| ports(yaml)).collect();
    steps.push(Vec::new());
    steps.push(manifests().iter().flat_map(|(_, yaml)| ports(yaml)).collect());
    steps.push(manifests().iter().skip(1).flat_map(|(_, yaml)| ports(yaml)).collect());
    let wholes: Vec<[Vec<String>; 2]> = steps
        .iter()
        .map(|step| {
            for (family, table) in tables(step) {
                run("nft", "-f -", &rules::whole(family, TABLE, &table));
            }
            [listed("ip"), listed("ip6")]
        })
        .collect();
    let mut last = tables(steps.last().unwrap());
    for (step, whole) in steps.iter().zip(wholes) {
        let next = tables(step);
        for ((family, old), (_, new)) in last.iter().zip(&next) {
            run("nft", "-f -", &rules::changes(*family, TABLE, old, new));
            assert_eq!(rules::changes(*family, TABLE, new, new), "");
        }
        assert_eq!([listed("ip"), listed("ip6")], whole);
        last = next;
    }
    for family in [Family::V4, Family::V6] {
        run("nft", "-f -", &rules::removal(family, TABLE));
        run("nft", "-f -", &rules::removal(family, TABLE));
    }
    assert!(!run("nft", "list tables", "").contains(TABLE));
}

#[test]
fn connections_arrive_at_an_endpoint_and_stay_with_it_where_they_should() {
    if !own_namespace() {
        return;
    }
    let network = "link set lo up
        link add v0 type veth peer name v1
        link set v0 up
        link set v1 up
        address add 192.0.2.2/24 dev v0
        address add 10.244.0.5/32 dev lo
        address add 10.244.0.6/32 dev lo
        route add default via 192.0.2.1";
    for line in network.lines() {
        run("ip", line, "");
    }
    for address in ["10.244.0.5", "10.244.0.6"] {
        let listener = TcpListener::bind((address, 8080)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.unwrap().write_all(address.as_bytes()).unwrap();
            }
        });
    }
    let answers = |at: &str| -> BTreeSet<String> {
        let answer = |_| {
            let stream = TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(2));
            let mut text = String::new();
            match stream {
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                    stream.read_to_string(&mut text).map(|_| text).unwrap()
                }
                Err(error) => error.kind().to_string(),
            }
        };
        (0..24).map(answer).collect()
    };
    let yaml = |address: &str, rest: &str, node_port: u16, endpoints: &str| {
        format!(
            "kind: Service\nmetadata: {{name: s{node_port}, namespace: n}}\nspec: {{type: NodePort, clusterIP: {address}, ports: [{{port: 80, nodePort: {node_port}}}]{rest}}}\n---\n\
             kind: EndpointSlice\nmetadata: {{name: s, namespace: n, labels: {{kubernetes.io/service-name: s{node_port}}}}}\n\
             addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{endpoints}]\n"
        )
    };
    let two = "{addresses: [10.244.0.5]}, {addresses: [10.244.0.6]}";
    let mut all = ports(&yaml("10.96.0.1", "", 30001, two));
    all.extend(ports(&yaml("10.96.0.2", ", sessionAffinity: ClientIP", 30002, two)));
    all.extend(ports(&yaml("10.96.0.3", "", 30003, "")));
    let apply = |old: &Table, ports: &[ServicePort]| {
        let new = rules::table(ports, Family::V4, &options());
        run("nft", "-f -", &rules::changes(Family::V4, TABLE, old, &new));
        new
    };
    run("nft", "-f -", &format!("add table ip {TABLE}"));
    let before = apply(&Table::default(), &all);
    let set = |words: &[&str]| -> BTreeSet<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let both = set(&["10.244.0.5", "10.244.0.6"]);
    assert_eq!(answers("10.96.0.1:80"), both);
    assert_eq!(answers("192.0.2.2:30001"), both);
    let kept = answers("10.96.0.2:80");
    assert_eq!(kept.len(), 1, "{kept:?}");
    let refused = set(&["connection refused"]);
    for at in ["10.96.0.3:80", "192.0.2.2:30003", "10.96.0.1:81"] {
        assert_eq!(answers(at), refused, "{at}");
    }
    // A change elsewhere leaves a client with its endpoint.
    let one: Vec<ServicePort> = all.iter().filter(|port| port.name != "s30001").cloned().collect();
    let after = apply(&before, &one);
    assert_eq!(answers("10.96.0.2:80"), kept);
    let less: Vec<ServicePort> = one
        .into_iter()
        .map(|mut port| {
            port.cluster.retain(|endpoint| !kept.contains(&endpoint.ip().to_string()));
            port
        })
        .collect();
    apply(&after, &less);
    assert_eq!(answers("10.96.0.2:80"), both.difference(&kept).cloned().collect());
}
