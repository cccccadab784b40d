//! Where a request goes on: the kubelet of a pod's node, or the node, pod or service that `proxy` names.
//!
//! Never opens a connection, and leads nobody to an address that means this machine. Source: upstream's `ResourceLocation` of nodes, pods and services.

use super::Call;
use super::connect::CONNECT;
use crate::answer::Failure;
use crate::registry::{Target, read};
use crate::road::authorized::Permit;
use crate::road::received::RequestInfo;
use crate::server::Server;
use crate::webhook::{self, Endpoint};
use api::json::Value;
use api::status::Status;
use api::{kinds, meta, value};
use rand::seq::SliceRandom as _;
use std::net::IpAddr;

/// What a part of a path shows as it is: RFC 3986's unreserved characters.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the connection to a backend runs on.
#[derive(Clone, Copy)]
pub(super) enum Wire {
    Plain,
    /// TLS with our certificate to one that we know.
    Kubelet,
    /// The same to whoever answers.
    AnyKubelet,
    /// TLS to whoever answers.
    Unjudged,
}

/// Where a request goes on.
pub(super) struct Backend {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) wire: Wire,
    /// Where the host is, if somebody has looked whether that may be reached.
    pub(super) addresses: Vec<IpAddr>,
    /// Path and query.
    pub(super) target: String,
}

/// A pod's subresource goes to the kubelet of its node; `None` for the log of a pod that has none yet.
pub(super) async fn node(server: &Server, call: &Call) -> Result<Option<Backend>, Failure> {
    let pod = read::get(server, &call.authorized.permit, &call.target).await?.value();
    let (namespace, name) = (&call.target.namespace, &call.target.name);
    let node = value::text(&pod, "spec.nodeName");
    let part = call.part.map_or("", |part| part.name);
    if node.is_empty() {
        if part == "log" {
            return container(call, &pod).map(|_| None);
        }
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")).into());
    }
    let (host, port) = kubelet(server, &call.authorized.permit, node).await?;
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, SEGMENT).to_string();
    let path = match part {
        "log" => format!("/containerLogs/{namespace}/{name}/{}", encode(&container(call, &pod)?)),
        "portforward" => format!("/portForward/{namespace}/{name}"),
        other => format!("/{other}/{namespace}/{name}/{}", encode(&container(call, &pod)?)),
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = &call.received().query;
    match part {
        "log" => {
            for name in ["previous", "follow", "timestamps"] {
                if given.flag(name) {
                    query.append_pair(name, "true");
                }
            }
            for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
                if let Some(text) = given.get(name).filter(|text| !text.is_empty()) {
                    query.append_pair(name, text);
                }
            }
        }
        "portforward" => {
            for port in given.all("ports") {
                query.append_pair("port", port);
            }
        }
        _ => {
            for (name, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
                if given.flag(name) {
                    query.append_pair(theirs, "1");
                }
            }
            for word in given.all("command") {
                query.append_pair("command", word);
            }
        }
    }
    let query = query.finish();
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let wire =
        if part == "log" && given.flag("insecureSkipTLSVerifyBackend") { Wire::AnyKubelet } else { Wire::Kubelet };
    Ok(Some(Backend { host, port, wire, addresses: Vec::new(), target }))
}

/// The container that the client means.
fn container(call: &Call, pod: &Value) -> Result<String, Failure> {
    let names = |list: &str| -> Vec<String> {
        value::items(pod, list).iter().map(|container| value::text(container, "name").to_owned()).collect()
    };
    let (main, init, ephemeral) =
        (names("spec.containers"), names("spec.initContainers"), names("spec.ephemeralContainers"));
    let pod_name = &call.target.name;
    match call.received().query.get("container").filter(|name| !name.is_empty()) {
        Some(wanted) => {
            if main.iter().chain(&init).chain(&ephemeral).any(|name| name == wanted) {
                Ok(wanted.to_owned())
            } else {
                Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")).into())
            }
        }
        None => match (main.as_slice(), meta::annotation(pod, "kubectl.kubernetes.io/default-container")) {
            ([only], _) => Ok(only.clone()),
            (_, Some(default)) if main.iter().any(|name| name == default) => Ok(default.to_owned()),
            _ => {
                let mut why = format!(
                    "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                    main.join(" ")
                );
                if !init.is_empty() {
                    why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(why).into())
            }
        },
    }
}

/// The first address of the first of these types that there is.
fn preferred<'a>(addresses: &'a [Value], types: &[String]) -> Option<&'a str> {
    let of = |wanted: &String| addresses.iter().find(|address| value::text(address, "type") == *wanted);
    types.iter().find_map(of).map(|address| value::text(address, "address"))
}

/// Address and port of a node's kubelet.
async fn kubelet(server: &Server, permit: &Permit, node: &str) -> Result<(String, u16), Failure> {
    let kind = kinds::by_gvk("", "v1", "Node").ok_or_else(Status::no_such_path)?;
    let target = Target { kind, namespace: String::new(), name: node.to_owned() };
    let object = read::get(server, permit, &target).await?.value();
    let addresses = value::items(&object, "status.addresses");
    let Some(address) = preferred(addresses, &server.config.kubelet_addresses) else {
        return Err(Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}")).into());
    };
    let port =
        value::int(&object, "status.daemonEndpoints.kubeletEndpoint.Port").filter(|port| *port > 0).unwrap_or(10250);
    let port = u16::try_from(port).map_err(|_| Status::internal("the node names no port of its kubelet"))?;
    Ok((address.to_owned(), port))
}

/// `proxy` of a node, pod or service. Names may be `scheme:name:port`.
pub(super) async fn proxied(server: &Server, call: &Call) -> Result<Backend, Failure> {
    let (id, plural) = (&call.target.name, call.target.kind.plural);
    let given: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match given.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => ("", "", ""),
    };
    if name.is_empty() || !["", "http", "https"].contains(&scheme) {
        return Err(Status::bad_request(format!("invalid {} request {id:?}", plural.trim_end_matches('s'))).into());
    }
    let (_, theirs) = cut(&call.received().target, &call.received().info);
    let path = if theirs.starts_with('/') { theirs.to_owned() } else { format!("/{theirs}") };
    let permit = &call.authorized.permit;
    let target = call.target.named(name);
    let wire = if scheme == "https" { Wire::Unjudged } else { Wire::Plain };
    if plural == "nodes" {
        let (host, known) = kubelet(server, permit, name).await?;
        let addresses = reachable(server, &host).await?;
        let port = if port.is_empty() { known } else { number(port)? };
        let wire = if port == known { Wire::Kubelet } else { wire };
        return Ok(Backend { host, port, wire, addresses, target: path });
    }
    let object = read::get(server, permit, &target).await?.value();
    let (host, port) = if plural == "pods" {
        let first = value::items(&object, "spec.containers")
            .iter()
            .flat_map(|container| value::items(container, "ports"))
            .find_map(|port| value::int(port, "containerPort"));
        let usual = if scheme == "https" { 443 } else { 80 };
        let first = first.and_then(|port| u16::try_from(port).ok()).unwrap_or(usual);
        let port = if port.is_empty() { first } else { number(port)? };
        (value::text(&object, "status.podIP").to_owned(), port)
    } else {
        endpoint(server, &target, &object, port, id)?
    };
    let address = host.parse::<IpAddr>().ok().filter(|address| is_open(server, *address));
    let address = address.ok_or_else(not_allowed)?;
    Ok(Backend { host, port, wire, addresses: vec![address], target: path })
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// Whether somebody may be led to this address: none that means this machine, its link or many at once.
fn is_open(server: &Server, address: IpAddr) -> bool {
    server.config.local_backends || is_global(address)
}

/// Go's `IsGlobalUnicast`.
fn is_global(address: IpAddr) -> bool {
    let link = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !(link || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The addresses of a host, all of which may be reached: one of these is dialled, so that no name can mean another one by then.
async fn reachable(server: &Server, host: &str) -> Result<Vec<IpAddr>, Status> {
    let unknown = |why: String| Status::bad_request(format!("lookup {host}: {why}"));
    let all: Vec<IpAddr> = match host.trim_matches(['[', ']']).parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((host, 0))).await;
            let found =
                found.map_err(|_| unknown("i/o timeout".to_owned()))?.map_err(|error| unknown(error.to_string()));
            found?.map(|address| address.ip()).collect()
        }
    };
    match all.iter().all(|address| is_open(server, *address)) {
        _ if all.is_empty() => Err(Status::bad_request("no addresses for hostname")),
        true => Ok(all),
        false => Err(not_allowed()),
    }
}

/// A target as sent, cut behind the part `proxy`: what leads here, and what is the backend's.
pub(super) fn cut<'a>(target: &'a str, info: &RequestInfo) -> (&'a str, &'a str) {
    let path = target.split('?').next().unwrap_or_default();
    let slash = |at: usize| match path.get(at..) {
        Some(rest) if rest.starts_with('/') => Some((at, at + 1)),
        Some(rest) if rest.starts_with("%2f") || rest.starts_with("%2F") => Some((at, at + 3)),
        _ => None,
    };
    let mut slashes: Vec<(usize, usize)> = (0..path.len()).filter_map(slash).collect();
    let mut at = path.len();
    // Those behind all are nobody's part.
    while let Some((begin, _)) = slashes.pop_if(|(_, end)| *end == at) {
        at = begin;
    }
    let before = slashes.len().checked_sub(info.rest.len()).and_then(|place| slashes.get(place));
    if let Some((begin, _)) = before {
        at = *begin;
    }
    target.split_at_checked(at).unwrap_or((target, ""))
}

/// Where the root of a backend is for a browser, so that relative links of its pages stay below it; none behind the root.
pub(super) fn rooted(ours: &str, theirs: &str) -> Option<String> {
    match theirs.strip_prefix('?') {
        Some("") => Some(format!("{ours}/")),
        Some(query) => Some(format!("{ours}/?{query}")),
        None => theirs.is_empty().then(|| format!("{ours}/")),
    }
}

fn number(port: &str) -> Result<u16, Failure> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")).into())
}

/// A ready endpoint of a service's port, by name or number, that is a pod: who writes endpoints leads nobody elsewhere.
fn endpoint(
    server: &Server,
    service: &Target,
    object: &Value,
    wanted: &str,
    id: &str,
) -> Result<(String, u16), Failure> {
    let none = || Failure::from(Status::unavailable(format!("no endpoints available for service {id:?}")));
    let name = match wanted.parse::<i64>() {
        Err(_) => wanted,
        Ok(number) => {
            let found = value::items(object, "spec.ports").iter().find(|port| value::int(port, "port") == Some(number));
            let unknown =
                || Status::unavailable(format!("no service port {number} found for service {:?}", service.name));
            value::text(found.ok_or_else(unknown)?, "name")
        }
    };
    let slices = server.caches.named("endpointslices.discovery.k8s.io").ok_or_else(none)?;
    let pods = server.caches.named("pods").ok_or_else(none)?;
    let is_pod = |endpoint: &Endpoint| {
        let own = endpoint.pod.as_ref().filter(|(namespace, _)| *namespace == service.namespace);
        let Some(entry) = own.and_then(|(namespace, name)| pods.peek(namespace, name)) else { return false };
        let pod = entry.value();
        value::items(&pod, "status.podIPs").iter().any(|held| value::text(held, "ip") == endpoint.address)
    };
    let mut all = webhook::ready(&slices, &service.namespace, &service.name, name);
    all.shuffle(&mut rand::rng());
    all.into_iter().find(is_pod).map(|found| (found.address, found.port)).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::road::received::Query;
    use crate::testing::World;
    use api::json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn the_root_of_a_backend_ends_with_a_slash() {
        let check = |target: &str, ours: &str, theirs: &str, root: Option<&str>| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let info = RequestInfo::parse("GET", path, &Query::parse(query));
            let got = cut(target, &info);
            assert_eq!((got, rooted(got.0, got.1).as_deref()), ((ours, theirs), root), "{target}");
        };
        let pod = "/api/v1/namespaces/a/pods/p/proxy";
        check(pod, pod, "", Some("/api/v1/namespaces/a/pods/p/proxy/"));
        check(&format!("{pod}?x=1&y"), pod, "?x=1&y", Some("/api/v1/namespaces/a/pods/p/proxy/?x=1&y"));
        check(&format!("{pod}/"), pod, "/", None);
        check(&format!("{pod}//a%2Fb/?x=/proxy"), pod, "//a%2Fb/?x=/proxy", None);
        // One of the backend's own.
        check(&format!("{pod}/x/proxy"), pod, "/x/proxy", None);
        check("/api/v1/namespaces%2Fa/pods%2fp/proxy%2Fx%2f", "/api/v1/namespaces%2Fa/pods%2fp/proxy", "%2Fx%2f", None);
        let service = "/api/v1/namespaces/a/services/https%3Aweb%3A443/proxy";
        check(&format!("{service}/x?y"), service, "/x?y", None);
    }

    #[test]
    fn the_first_type_that_a_node_has_leads_to_its_kubelet() {
        let of = |(kind, address): (&str, &str)| json!({"type": kind, "address": address});
        let addresses =
            [("InternalIP", "10.0.0.1"), ("Hostname", "n"), ("InternalIP", "10.0.0.2"), ("ExternalIP", "8.8.8.8")]
                .map(of);
        let check = |types: &str, want: Option<&str>| {
            let types: Vec<String> = types.split(',').map(str::to_owned).collect();
            assert_eq!(preferred(&addresses, &types), want, "{types:?}");
        };
        check("Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP", Some("n"));
        check("InternalIP,ExternalIP,Hostname", Some("10.0.0.1"));
        check("ExternalDNS,ExternalIP", Some("8.8.8.8"));
        check("InternalDNS", None);
        check("", None);
    }

    #[test]
    fn what_means_this_machine_is_not_reached() {
        for address in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(is_global(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.1.1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!is_global(address.parse().unwrap()), "{address}");
        }
    }

    /// A backend over TLS, whose certificate nobody knows; it says what it was asked for.
    async fn kubelet_of_nobody() -> (u16, Arc<AtomicUsize>) {
        let identity = crate::testing::config(&crate::encryption::Encryption::none()).identity;
        let settings = crate::transport::TlsSettings { identity, client_ca: None, options: Default::default() };
        let mut config = crate::transport::server_config(&settings).unwrap();
        config.alpn_protocols.clear();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, came) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                });
            }
        });
        (port, came)
    }

    async fn node(world: &World, name: &str, address: &str, port: u16) {
        let endpoints = json!({"kubeletEndpoint": {"Port": port}});
        let addresses = json!([{"type": "InternalIP", "address": address}]);
        let status = json!({"addresses": addresses, "daemonEndpoints": endpoints});
        let node = json!({"metadata": {"name": name}, "status": status});
        let root = User::new("root", &["system:masters"]);
        assert_eq!(world.ask(&root, "POST", "/api/v1/nodes", &node).await.0, 201);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kubelets_are_judged_where_there_is_an_authority() {
        let (port, _) = kubelet_of_nobody().await;
        let root = User::new("root", &["system:masters"]);
        let other = crate::testing::config(&crate::encryption::Encryption::none()).identity.certificates;
        for (authority, code) in [(None, 200), (Some(other), 500)] {
            let world = World::start(|config| {
                config.kubelet_ca = authority;
                config.local_backends = true;
            })
            .await;
            node(&world, "n", "127.0.0.1", port).await;
            let (got, said) = world.ask(&root, "GET", "/api/v1/nodes/n/proxy/stats?x=1", &Value::Null).await;
            assert_eq!(got, code, "{said}");
            // With a port of its own it is a backend like others; the name may be written with percents.
            let path = format!("/api/v1/nodes/https%3An%3A{port}/proxy/a/b");
            let (got, said) = world.ask(&root, "GET", &path, &Value::Null).await;
            assert_eq!(got, code, "{said}");
            assert!(code != 200 || said == "GET /a/b HTTP/1.1", "{said}");
            let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
            assert_eq!(world.ask(&root, "POST", "/api/v1/namespaces/default/pods", &pod).await.0, 201);
            let log = "/api/v1/namespaces/default/pods/p/log?insecureSkipTLSVerifyBackend=";
            for (skip, want) in [(false, code), (true, 200)] {
                let (got, said) = world.ask(&root, "GET", &format!("{log}{skip}"), &Value::Null).await;
                assert_eq!(got, want, "{skip}: {said}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_led_to_this_machine() {
        let (port, came) = kubelet_of_nobody().await;
        let world = World::start(|_| ()).await;
        let root = User::new("root", &["system:masters"]);
        node(&world, "n", "127.0.0.1", port).await;
        let refused = async |path: &str, code: u16, why: &str| {
            let (got, said) = world.ask(&root, "GET", path, &Value::Null).await;
            assert_eq!((got, said["message"].as_str()), (code, Some(why)), "{path}");
        };
        refused("/api/v1/nodes/n/proxy/x", 400, "address not allowed").await;
        refused("/api/v1/nodes/ftp:n:1/proxy/x", 400, "invalid node request \"ftp:n:1\"").await;
        let all = "/api/v1/namespaces/default";
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
            "status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
        let (code, held) = world.ask(&root, "POST", &format!("{all}/pods"), &pod).await;
        assert_eq!(code, 201, "{held}");
        let (code, said) = world.ask(&root, "PUT", &format!("{all}/pods/p/status"), &pod).await;
        assert_eq!(code, 200, "{said}");
        refused(&format!("{all}/pods/p:{port}/proxy/x"), 400, "address not allowed").await;
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
        assert_eq!(world.ask(&root, "POST", &format!("{all}/services"), &service).await.0, 201);
        refused(&format!("{all}/services/s:81/proxy/"), 503, "no service port 81 found for service \"s\"").await;
        // An endpoint that is no pod is none.
        let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": port}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let (code, said) = world.ask(&root, "POST", slices, &slice).await;
        assert_eq!(code, 201, "{said}");
        refused(&format!("{all}/services/s:80/proxy/x"), 503, "no endpoints available for service \"s:80\"").await;
        assert_eq!(came.load(Ordering::SeqCst), 0);
    }
}
