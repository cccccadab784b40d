//! Pods from their API objects to real containers and back, over a containerd of the test's own. Left out, in one line,
//! where the machine has no runtime or the test is not root.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)] // a test says by panicking that it failed

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kubelet::containerd::{self, Containerd};
use kubelet::cri::Cri;
use kubelet::network;
use serde_json::{Value, json};
use support::Api;
use tokio_util::sync::CancellationToken;

const IMAGE: &str = "ironkeel/busybox:1";

struct Certificates {
    ca: String,
    certificate: String,
    key: String,
}

fn certificates() -> Certificates {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Certificates { ca: ca.pem(), certificate: leaf.pem(), key: key.serialize_pem() }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// One node: containerd, network, API and a kubelet that can be stopped and started.
struct Cluster {
    api: Api,
    cri: Cri,
    config: kubelet::Config,
    dir: PathBuf,
    running: Option<(CancellationToken, tokio::task::JoinHandle<Result<(), kubelet::Error>>)>,
}

impl Cluster {
    async fn start(dir: &Path, socket: PathBuf) -> Self {
        let api = Api::new();
        api.put("/api/v1/namespaces/default", json!({"kind": "Namespace", "metadata": {"name": "default"}}));
        api.put(
            "/api/v1/namespaces/default/services/kubernetes",
            json!({"metadata": {"name": "kubernetes", "namespace": "default"},
                "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}),
        );
        let tls = certificates();
        let config = kubelet::Config {
            node_name: "node".into(),
            client: api.client(),
            containerd: socket.clone(),
            root: dir.join("kubelet"),
            node_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            pod_cidr: "10.203.7.0/24".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], free_port())),
            serving: kubelet::Serving::new(&tls.certificate, &tls.key).unwrap(),
            spoken: kubelet::Spoken::default(),
            client_ca_pem: tls.ca,
            max_pods: 110,
            static_pods: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            resolv_conf: kubelet::RESOLV_CONF.into(),
            cluster_dns: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))],
            cluster_domain: "cluster.local".into(),
        };
        let mut cluster = Self { api, cri: Cri::new(&socket), config, dir: dir.to_owned(), running: None };
        cluster.up().await;
        cluster
    }

    async fn up(&mut self) {
        let stop = CancellationToken::new();
        let (sender, ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(kubelet::run(self.config.clone(), stop.clone(), move || {
            let _ = sender.send(());
        }));
        self.running = Some((stop, task));
        tokio::time::timeout(Duration::from_secs(20), ready).await.expect("the node is ready in time").unwrap();
    }

    async fn down(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("the kubelet ends in time").unwrap().unwrap();
    }

    fn path(name: &str) -> String {
        format!("/api/v1/namespaces/default/pods/{name}")
    }

    /// Creates a pod bound to the node, with defaults that an API server gives.
    fn create(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!("node");
        let defaults = [
            ("restartPolicy", json!("Always")),
            ("terminationGracePeriodSeconds", json!(2)),
            ("dnsPolicy", json!("ClusterFirst")),
            ("serviceAccountName", json!("default")),
        ];
        for (key, value) in defaults {
            if spec.get(key).is_none() {
                spec[key] = value;
            }
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "generation": 1, "labels": {"app": name}},
            "spec": spec, "status": {"phase": "Pending", "qosClass": "BestEffort"}});
        self.api.put(&Self::path(name), pod);
    }

    /// Waits until a pod satisfies `done`, and returns it.
    async fn until(&self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let pod = self.api.get(&Self::path(name));
            if let Some(pod) = pod.as_ref().filter(|pod| done(pod)) {
                return pod.clone();
            }
            if began.elapsed() > Duration::from_secs(40) {
                let events: Vec<String> = self
                    .api
                    .list("/api/v1/events")
                    .iter()
                    .filter(|event| event["involvedObject"]["name"] == name)
                    .map(|event| format!("{}: {}", event["reason"], event["message"]))
                    .collect();
                panic!("{name} is not {what}: {:#}\n{}", pod.unwrap_or_default()["status"], events.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn running(&self, name: &str) -> Value {
        self.until(name, "running", |pod| condition(pod, "Ready") == "True").await
    }

    async fn phase(&self, name: &str, phase: &str) -> Value {
        self.until(name, phase, |pod| pod["status"]["phase"] == phase).await
    }

    async fn gone(&self, name: &str) {
        let began = Instant::now();
        while self.api.get(&Self::path(name)).is_some() {
            assert!(began.elapsed() < Duration::from_secs(30), "{name} is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn exec(&self, pod: &Value, command: &[&str]) -> String {
        let id = container_id(pod, 0);
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let result = self.cri.exec_sync(&id, &command, Duration::from_secs(10)).await.unwrap();
        assert_eq!(result.exit_code, 0, "{command:?}: {}", String::from_utf8_lossy(&result.output));
        String::from_utf8(result.output).unwrap()
    }

    /// What comes back on a connection upgraded to a WebSocket, until it ends or five seconds have passed.
    async fn stream(&self, path: &str, protocol: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let stream = tokio::net::TcpStream::connect(self.config.listen).await.unwrap();
        let mut stream = tls(stream, &self.config.client_ca_pem).await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer admin\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {protocol}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        let read = async {
            let mut buffer = [0; 4096];
            while let Ok(size) = stream.read(&mut buffer).await {
                seen.extend_from_slice(&buffer[..size]);
                let text = String::from_utf8_lossy(&seen);
                if size == 0 || text.contains("hello") || text.starts_with("HTTP/1.1 4") {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// A GET of the kubelet's API with a bearer token.
    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(self.config.listen).await.unwrap();
        let stream = tls(stream, &self.config.client_ca_pem).await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", "127.0.0.1");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        task.abort();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

async fn tls(stream: tokio::net::TcpStream, ca: &str) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap()
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let list = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|item| item["type"] == kind).and_then(|item| item["status"].as_str()).unwrap_or_default()
}

fn container_id(pod: &Value, index: usize) -> String {
    let id = pod["status"]["containerStatuses"][index]["containerID"].as_str().unwrap_or_default();
    id.trim_start_matches("containerd://").to_owned()
}

fn sleeper(name: &str) -> Value {
    shell(name, "trap 'exit 0' TERM; echo up; while true; do sleep 0.1; done")
}

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log"})
}

async fn images(dir: &Path, socket: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/images");
    let output = tokio::process::Command::new("bash").arg(script).arg(dir).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    containerd::import_image(socket, &dir.join("busybox-1.tar")).await.unwrap();
}

/// A pod runs with its address, environment, volumes and logs, and leaves nothing behind.
async fn a_pod_lives_and_dies(cluster: &mut Cluster) {
    cluster.api.put(
        "/api/v1/namespaces/default/configmaps/settings",
        json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"color": "blue"}}),
    );
    let mut container = sleeper("main");
    container["env"] = json!([
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "WHO", "value": "$(COLOR)-pod"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]);
    container["volumeMounts"] = json!([
        {"name": "settings", "mountPath": "/settings"},
        {"name": "scratch", "mountPath": "/scratch", "subPath": "a/b"},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "token", "mountPath": "/token", "readOnly": true},
    ]);
    let began = Instant::now();
    cluster.create(
        "web",
        json!({"containers": [container], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["alias"]}],
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
        ]}),
    );
    let pod = cluster.running("web").await;
    println!("create to ready: {} ms", began.elapsed().as_millis());
    let lease = cluster.api.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node").unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "node");
    let ip = pod["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.203.7."), "{ip}");
    let env = cluster.exec(&pod, &["sh", "-c", "echo $COLOR $WHO $IP $KUBERNETES_SERVICE_HOST"]).await;
    assert_eq!(env.trim(), format!("blue blue-pod {ip} 10.96.0.1"));
    let files = cluster
        .exec(
            &pod,
            &[
                "sh",
                "-c",
                "cat /settings/color /token/token /token/labels; touch /scratch/x; mount | grep -c ' /memory '",
            ],
        )
        .await;
    assert_eq!(files.replace('\n', "|"), "bluea-tokenapp=\"web\"1|");
    let hosts = cluster.exec(&pod, &["cat", "/etc/hosts", "/etc/resolv.conf"]).await;
    assert!(hosts.contains(&format!("{ip}\tweb")) && hosts.contains("1.2.3.4\talias"), "{hosts}");
    assert!(hosts.contains("nameserver 10.96.0.10") && hosts.contains("default.svc.cluster.local"), "{hosts}");

    let logs = cluster.get("/containerLogs/default/web/main", Some("admin")).await;
    assert_eq!(logs, (200, "up\n".to_owned()));
    assert_eq!(cluster.get("/healthz", None).await.0, 401);
    assert_eq!(cluster.get("/healthz", Some("nobody")).await.0, 401);
    assert_eq!(cluster.get("/containerLogs/default/web/other", Some("admin")).await.0, 404);
    assert!(cluster.get("/stats/summary", Some("admin")).await.1.contains("\"web\""));

    let streamed =
        cluster.stream("/exec/default/web/main?command=echo&command=hello&output=1&error=1", "v4.channel.k8s.io").await;
    assert!(streamed.starts_with("HTTP/1.1 101 ") && streamed.contains("hello"), "{streamed}");
    let refused = cluster.stream("/exec/default/web/main?command=true&output=1", "v5.channel.k8s.io").await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");

    cluster.api.put(
        "/api/v1/namespaces/default/configmaps/settings",
        json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"color": "red"}}),
    );
    let began = Instant::now();
    while cluster.exec(&pod, &["cat", "/settings/color"]).await != "red" {
        assert!(began.elapsed() < Duration::from_secs(40), "the volume still shows the old ConfigMap");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    cluster.api.delete(&Cluster::path("web"), 2);
    cluster.gone("web").await;
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let began = Instant::now();
    while cluster.dir.join("kubelet/pods").join(&uid).exists()
        || !cluster.cri.list_sandboxes(Some(&uid)).await.unwrap().is_empty()
    {
        assert!(began.elapsed() < Duration::from_secs(10), "the pod left something behind");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Init containers run in order, a sidecar beside the app, and a job-like pod ends with its sidecar stopped.
async fn containers_in_order(cluster: &mut Cluster) {
    let mut sidecar = sleeper("side");
    sidecar["restartPolicy"] = json!("Always");
    let mount = json!([{"name": "shared", "mountPath": "/shared"}]);
    let mut first = shell("first", "echo 1 >> /shared/log");
    let mut second = shell("second", "echo 2 >> /shared/log");
    let mut app = shell("app", "echo 3 >> /shared/log; cat /shared/log; echo bye > /dev/termination-log");
    for container in [&mut first, &mut second, &mut app] {
        container["volumeMounts"] = mount.clone();
    }
    cluster.create(
        "job",
        json!({"restartPolicy": "Never", "initContainers": [first, sidecar, second], "containers": [app],
            "volumes": [{"name": "shared", "emptyDir": {}}]}),
    );
    let pod = cluster.phase("job", "Succeeded").await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((ended["reason"].as_str(), ended["message"].as_str()), (Some("Completed"), Some("bye\n")));
    assert_eq!(condition(&pod, "Initialized"), "True");
    let logs = cluster.get("/containerLogs/default/job/app", Some("admin")).await;
    assert_eq!(logs, (200, "1\n2\n3\n".to_owned()));
    assert!(pod["status"]["initContainerStatuses"][1]["state"]["terminated"].is_object(), "{:#}", pod["status"]);
    cluster.api.delete(&Cluster::path("job"), 2);
    cluster.gone("job").await;
}

/// A crashing container backs off; its previous log and exit code can be seen.
async fn a_crash_loop(cluster: &mut Cluster) {
    cluster.create("crash", json!({"containers": [shell("main", "echo run; exit 3")]}));
    let looping =
        |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = cluster.until("crash", "backing off", looping).await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    assert!(status["restartCount"].as_i64().unwrap() >= 1, "{status:#}");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(cluster.get("/containerLogs/default/crash/main?previous=true", Some("admin")).await.1, "run\n");
    cluster.api.delete(&Cluster::path("crash"), 2);
    cluster.gone("crash").await;
}

/// Probes decide readiness and restart; what cannot start says why.
async fn probes_and_refusals(cluster: &mut Cluster) {
    let mut container = sleeper("main");
    container["readinessProbe"] =
        json!({"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    container["livenessProbe"] =
        json!({"exec": {"command": ["test", "!", "-f", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 1});
    cluster.create("probed", json!({"containers": [container]}));
    let pod = cluster.phase("probed", "Running").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    cluster.exec(&pod, &["touch", "/tmp/ready"]).await;
    let pod = cluster.running("probed").await;
    cluster.exec(&pod, &["touch", "/tmp/dead"]).await;
    cluster.until("probed", "restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    cluster.api.delete(&Cluster::path("probed"), 1);
    cluster.gone("probed").await;

    let mut absent = sleeper("main");
    absent["image"] = json!("ironkeel/absent:1");
    cluster.create("absent", json!({"containers": [absent]}));
    let mut unset = sleeper("main");
    unset["env"] = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "no", "key": "x"}}}]);
    cluster.create("unset", json!({"containers": [unset]}));
    for (name, reason) in [("absent", "ErrImageNeverPull"), ("unset", "CreateContainerConfigError")] {
        let state = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason;
        cluster.until(name, reason, state).await;
        cluster.api.delete(&Cluster::path(name), 1);
        cluster.gone(name).await;
    }
}

/// Hooks run, HTTP probes reach the pod, and a host path is shared with the node.
async fn hooks_and_host_paths(cluster: &mut Cluster) {
    let shared = cluster.dir.join("shared");
    let mut container = shell("main", "trap 'exit 0' TERM; httpd -p 8080 -h /etc; while true; do sleep 0.1; done");
    container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
    container["ports"] = json!([{"name": "web", "containerPort": 8080}]);
    container["readinessProbe"] = json!({"httpGet": {"path": "/passwd", "port": "web"}, "periodSeconds": 1});
    container["lifecycle"] = json!({
        "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /shared/out"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /shared/out"]}}});
    cluster.create(
        "hooked",
        json!({"containers": [container],
            "volumes": [{"name": "shared", "hostPath": {"path": shared, "type": "DirectoryOrCreate"}}]}),
    );
    cluster.running("hooked").await;
    cluster.api.delete(&Cluster::path("hooked"), 5);
    cluster.gone("hooked").await;
    assert_eq!(std::fs::read_to_string(shared.join("out")).unwrap(), "started\nstopping\n");
}

/// User, groups, root file system and memory limit are what the pod asks for.
async fn confinement(cluster: &mut Cluster) {
    let mut container = sleeper("main");
    container["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    container["securityContext"] = json!({"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}});
    container["resources"] = json!({"limits": {"memory": "32Mi", "cpu": "500m"}});
    cluster.create(
        "confined",
        json!({"containers": [container], "securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000},
            "volumes": [{"name": "scratch", "emptyDir": {}}]}),
    );
    let pod = cluster.running("confined").await;
    let seen = cluster
        .exec(
            &pod,
            &[
                "sh",
                "-c",
                "id -u; id -g; touch /scratch/x && stat -c %g /scratch/x; touch /y 2>&1; grep CapEff /proc/self/status",
            ],
        )
        .await;
    let expected = "1000\n1001\n2000\ntouch: /y: Read-only file system\nCapEff:\t0000000000000000\n";
    assert_eq!(seen, expected);
    let limits = cluster
        .exec(&pod, &["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"])
        .await;
    assert_eq!(limits.trim(), (32 << 20).to_string());
    cluster.api.delete(&Cluster::path("confined"), 1);
    cluster.gone("confined").await;
}

/// A restart of the kubelet, and one of containerd, leave the container as it is.
async fn restarts_are_not_felt(cluster: &mut Cluster, runtime: &Containerd) {
    cluster.create("steady", json!({"containers": [sleeper("main")]}));
    let before = cluster.running("steady").await;
    cluster.down().await;
    let still = cluster.cri.container_status(&container_id(&before, 0)).await.unwrap();
    assert_eq!(still.state, 1, "stopping the kubelet stops no container");
    cluster.up().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = cluster.running("steady").await;
    assert_eq!(after["status"], before["status"]);

    let old = runtime.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(old.try_into().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let began = Instant::now();
    while runtime.pid() == old || cluster.cri.version().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "containerd has not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = cluster.running("steady").await;
    assert_eq!(after["status"], before["status"]);

    cluster.down().await;
    cluster.api.delete(&Cluster::path("steady"), 0);
    cluster.up().await;
    let uid = before["metadata"]["uid"].as_str().unwrap().to_owned();
    let began = Instant::now();
    while !cluster.cri.list_sandboxes(Some(&uid)).await.unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(15), "a pod that the API forgot still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_on_a_real_runtime() {
    let missing = containerd::missing();
    if !missing.is_empty() {
        println!("left out: {}", missing.join(", "));
        return;
    }
    if std::env::var_os("KUBELET_TEST_LOG").is_some() {
        let _ = tracing_subscriber::fmt().with_env_filter("kubelet=debug").try_init();
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::Builder::new().prefix("kubelet-").tempdir_in("/tmp").unwrap();
    let runtime = Containerd::start(containerd::Config::under(dir.path())).await.unwrap();
    containerd::ensure_pause_image(&runtime.socket(), dir.path()).await.unwrap();
    let net = network::Config::under(dir.path(), network::PodCidr::parse("10.203.7.0/24").unwrap());
    network::ensure(&net).await.unwrap();
    images(&dir.path().join("images"), &runtime.socket()).await;

    let work = async {
        let mut cluster = Cluster::start(dir.path(), runtime.socket()).await;
        a_pod_lives_and_dies(&mut cluster).await;
        containers_in_order(&mut cluster).await;
        a_crash_loop(&mut cluster).await;
        probes_and_refusals(&mut cluster).await;
        hooks_and_host_paths(&mut cluster).await;
        confinement(&mut cluster).await;
        restarts_are_not_felt(&mut cluster, &runtime).await;
        cluster.create("left", json!({"containers": [sleeper("main")]}));
        cluster.running("left").await;
        cluster.down().await;
    };
    let result = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(work)).await;
    // As after a stop and `down`: the runtime has only just come back.
    runtime.stop().await;
    let runtime = Containerd::start(containerd::Config::under(dir.path())).await.unwrap();
    let removed = kubelet::remove_all(&runtime.socket()).await;
    let left = Cri::new(&runtime.socket()).list_sandboxes(None).await;
    runtime.stop().await;
    network::remove(&net).await.unwrap();
    kubelet::unmount_root(&dir.path().join("kubelet")).await.unwrap();
    containerd::unmount_below(dir.path()).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    removed.unwrap();
    assert!(left.unwrap().is_empty());
}
