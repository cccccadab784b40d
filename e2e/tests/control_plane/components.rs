//! The parts as processes of their own, started with what kubeadm v1.36 writes into its static pod manifests and unit files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

use e2e::{Cli, Cluster, control_plane, eventually, free_port};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A process that ends with the value.
pub(crate) struct Part {
    child: Child,
    log: PathBuf,
}

impl Part {
    pub(crate) fn start(directory: &Path, name: &str, words: &[String]) -> Part {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(e2e::binary().unwrap())
            .arg(name)
            .args(words)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Part { child, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The code with which it ends, or has.
    pub(crate) fn stop(mut self) -> Option<i32> {
        if self.is_running() {
            self.terminate();
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates in kubeadm's layout, below a directory of the test's own.
pub(crate) struct Machine {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    pub(crate) ca: (String, KeyPair),
}

pub(crate) fn authority(common: &str) -> (String, KeyPair) {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::KeyEncipherment];
    (params.self_signed(&key).unwrap().pem(), key)
}

pub(crate) fn issue(ca: &(String, KeyPair), common: &str, group: Option<&str>, hosts: &[&str]) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    let purpose =
        if hosts.is_empty() { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth };
    params.extended_key_usages = vec![purpose];
    for host in hosts {
        params.subject_alt_names.push(match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*host).try_into().unwrap()),
        });
    }
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.0, &ca.1).unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A kubelet makes its root a mount of its own, so that volumes reach containers, and leaves it to the next one.
        let root = self.directory.path().join("kubelet");
        if root.exists() {
            let _ = Command::new("umount").arg(root).stderr(Stdio::null()).status();
        }
    }
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let directory = tempfile::Builder::new().prefix("ik").tempdir_in("/tmp").unwrap();
        let pki = directory.path().join("pki");
        std::fs::create_dir_all(&pki).unwrap();
        let write = |name: &str, text: &str| std::fs::write(pki.join(name), text).unwrap();
        let ca = authority("kubernetes");
        let front = authority("front-proxy-ca");
        write("ca.crt", &ca.0);
        write("ca.key", &ca.1.serialize_pem());
        write("front-proxy-ca.crt", &front.0);
        let pair = |name: &str, (certificate, key): (String, String)| {
            write(&format!("{name}.crt"), &certificate);
            write(&format!("{name}.key"), &key);
        };
        let hosts = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc", "10.96.0.1"];
        pair("apiserver", issue(&ca, "kube-apiserver", None, &hosts));
        let kubelet = issue(&ca, "kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"), &[]);
        pair("apiserver-kubelet-client", kubelet);
        pair("front-proxy-client", issue(&front, "front-proxy-client", None, &[]));
        let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        write("sa.key", &tokens.serialize_pem());
        write("sa.pub", &tokens.public_key_pem());
        let machine = Machine { directory, port: free_port(), ca };
        machine.kubeconfig("admin.conf", "kubernetes-admin", Some("system:masters"));
        machine.kubeconfig("controller-manager.conf", "system:kube-controller-manager", None);
        machine.kubeconfig("scheduler.conf", "system:kube-scheduler", None);
        machine
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn write_config(&self, file: &str, user: &serde_json::Value) {
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": self.path("pki/ca.crt")}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(self.path(file), text.to_string()).unwrap();
    }

    fn kubeconfig(&self, file: &str, user: &str, group: Option<&str>) {
        let (certificate, key) = issue(&self.ca, user, group, &[]);
        let (at, key_at) = (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        std::fs::write(&at, certificate).unwrap();
        std::fs::write(&key_at, key).unwrap();
        self.write_config(file, &serde_json::json!({"client-certificate": at, "client-key": key_at}));
    }

    pub(crate) fn kubectl(&self) -> Cli {
        Cli::new("kubectl").env("KUBECONFIG", self.path("admin.conf")).with("--request-timeout=30s")
    }

    /// An API server by [`Machine::apiserver`] and further flags, which stand for those of the same name, that is ready, and its
    /// administrator's kubectl.
    pub(crate) fn serve(&self, further: &[String]) -> (Part, Cli) {
        let name = |flag: &String| flag.split('=').next().map(str::to_owned);
        let given = |flag: &String| further.iter().any(|other| name(other) == name(flag));
        let flags = [self.apiserver().into_iter().filter(|flag| !given(flag)).collect(), further.to_vec()].concat();
        let (server, kubectl) = (Part::start(self.directory.path(), "apiserver", &flags), self.kubectl());
        eventually("the API server is ready", LONG, || {
            let output = kubectl.run("get --raw /readyz");
            if output.code == 0 { Ok(()) } else { Err(format!("{output}\n{}", server.log())) }
        });
        (server, kubectl)
    }

    /// kubectl as the scheduler's user against a listener whose certificate is its own.
    fn probe(&self, port: u16) -> Cli {
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {
                "client-certificate": self.path("scheduler.conf.crt"), "client-key": self.path("scheduler.conf.key")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(self.path("probe.conf"), text.to_string()).unwrap();
        Cli::new("kubectl").env("KUBECONFIG", self.path("probe.conf"))
    }

    /// What kubeadm writes for an API server, in its order, and where objects are kept.
    pub(crate) fn apiserver(&self) -> Vec<String> {
        let pki = self.path("pki");
        let text = format!(
            "--advertise-address=127.0.0.1 --allow-privileged=true --authorization-mode=Node,RBAC \
             --client-ca-file={pki}/ca.crt --enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true \
             --etcd-cafile={pki}/etcd/ca.crt --etcd-certfile={pki}/apiserver-etcd-client.crt \
             --etcd-keyfile={pki}/apiserver-etcd-client.key --etcd-servers=https://127.0.0.1:2379 \
             --kubelet-client-certificate={pki}/apiserver-kubelet-client.crt \
             --kubelet-client-key={pki}/apiserver-kubelet-client.key \
             --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
             --proxy-client-cert-file={pki}/front-proxy-client.crt --proxy-client-key-file={pki}/front-proxy-client.key \
             --requestheader-allowed-names=front-proxy-client --requestheader-client-ca-file={pki}/front-proxy-ca.crt \
             --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
             --requestheader-username-headers=X-Remote-User --secure-port={port} \
             --service-account-issuer=https://kubernetes.default.svc.cluster.local \
             --service-account-key-file={pki}/sa.pub --service-account-signing-key-file={pki}/sa.key \
             --service-cluster-ip-range=10.96.0.0/12 --tls-cert-file={pki}/apiserver.crt \
             --tls-private-key-file={pki}/apiserver.key --storage=embedded:{store}",
            port = self.port,
            store = self.path("store"),
        );
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn controller_manager(&self, port: u16) -> Vec<String> {
        let (pki, config) = (self.path("pki"), self.path("controller-manager.conf"));
        let text = format!(
            "--authentication-kubeconfig={config} --authorization-kubeconfig={config} --bind-address=127.0.0.1 \
             --client-ca-file={pki}/ca.crt --cluster-name=kubernetes --cluster-signing-cert-file={pki}/ca.crt \
             --cluster-signing-key-file={pki}/ca.key --controllers=*,bootstrapsigner,tokencleaner --kubeconfig={config} \
             --leader-elect=true --requestheader-client-ca-file={pki}/front-proxy-ca.crt --root-ca-file={pki}/ca.crt \
             --service-account-private-key-file={pki}/sa.key --use-service-account-credentials=true --secure-port={port}"
        );
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn scheduler(&self, port: u16) -> Vec<String> {
        let config = self.path("scheduler.conf");
        let text = format!(
            "--authentication-kubeconfig={config} --authorization-kubeconfig={config} --bind-address=127.0.0.1 \
             --kubeconfig={config} --leader-elect=true --secure-port={port}"
        );
        text.split_whitespace().map(str::to_owned).collect()
    }
}

#[test]
fn kubeadms_manifests_start_a_control_plane_of_processes() {
    // Whoever lacks what the shared cluster needs lacks it for these processes, too.
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let directory = machine.directory.path();
    let (server, kubectl) = machine.serve(&[]);
    let log = server.log();
    assert!(log.contains("--etcd-servers has no effect: objects are kept in --storage"), "{log}");

    let (manager_port, scheduler_port) = (free_port(), free_port());
    let manager = Part::start(directory, "controller-manager", &machine.controller_manager(manager_port));
    let scheduler = Part::start(directory, "scheduler", &machine.scheduler(scheduler_port));
    eventually("the default service account", LONG, || {
        let output = kubectl.run("get serviceaccount default -o name");
        if output.code == 0 { Ok(()) } else { Err(format!("{output}\n{}", manager.log())) }
    });
    // A node without a kubelet: what is bound to it stays pending.
    let node = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"paper"},
        "status":{"allocatable":{"cpu":"4","memory":"8Gi","pods":"10"},"capacity":{"cpu":"4","memory":"8Gi","pods":"10"},
        "conditions":[{"type":"Ready","status":"True"}]}}"#;
    kubectl.feed("create -f -", node.as_bytes()).ok();
    kubectl.ok("create deployment web --image=web --replicas=2");
    eventually("two pods with a node", LONG, || {
        let nodes = kubectl.run("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
        if nodes.stdout == "paper paper" {
            Ok(())
        } else {
            Err(format!("{nodes}\n{}\n{}", manager.log(), scheduler.log()))
        }
    });
    // Each controller writes as its own account.
    let owner = kubectl.ok("get replicaset -l app=web -o jsonpath={.items[0].metadata.managedFields[0].manager}");
    assert!(owner.starts_with("kube-controller-manager"), "{owner}");
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let holder = kubectl.ok(&format!("get lease -n kube-system {name} -o jsonpath={{.spec.holderIdentity}}"));
        assert!(!holder.is_empty(), "nobody holds {name}");
    }
    // Health is for everybody, everything else is for whom the cluster lets.
    for port in [manager_port, scheduler_port] {
        let kubectl = machine.probe(port);
        assert_eq!(kubectl.ok("get --raw /healthz"), "ok");
        kubectl.fails("get --raw /metrics", "orbidden");
        kubectl.fails("get --raw /debug/pprof/cmdline", "orbidden");
    }
    kubectl.ok("create clusterrole profiles --verb=get --non-resource-url=/debug/pprof/*");
    let accounts = "--user=system:kube-scheduler --serviceaccount=default:default";
    kubectl.ok(&format!("create clusterrolebinding profiles --clusterrole=profiles {accounts}"));
    let token = kubectl.ok("create token default");
    // The manifest of the manager names the authority of clients, the scheduler looks it up in the cluster: a certificate says who asks, or a token.
    let token = format!("--token={}", token.trim());
    for (port, who) in [(manager_port, ""), (scheduler_port, ""), (manager_port, &*token), (scheduler_port, &*token)] {
        let kubectl = machine.probe(port).with(who);
        eventually("a role that lets one look", LONG, || {
            let output = kubectl.run("get --raw /debug/pprof/threadcreate");
            if output.stdout.starts_with("threads: ") { Ok(()) } else { Err(format!("{port} {who}: {output}")) }
        });
    }
    for part in [scheduler, manager, server] {
        let log = part.log.clone();
        assert_eq!(part.stop(), Some(0), "{}", std::fs::read_to_string(log).unwrap());
    }
}

#[test]
fn a_kubelet_joins_with_a_bootstrap_token_and_its_certificate_is_the_clusters() {
    if control_plane().is_none() {
        return;
    }
    let machine = Machine::new();
    let directory = machine.directory.path();
    let (_server, kubectl) = machine.serve(&[]);
    let manager = Part::start(directory, "controller-manager", &machine.controller_manager(free_port()));
    // As kubeadm does it.
    let secret = r#"{"apiVersion":"v1","kind":"Secret","type":"bootstrap.kubernetes.io/token",
        "metadata":{"name":"bootstrap-token-abcdef","namespace":"kube-system"},"stringData":{"token-id":"abcdef",
        "token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true",
        "auth-extra-groups":"system:bootstrappers:kubeadm:default-node-token"}}"#;
    kubectl.feed("create -f -", secret.as_bytes()).ok();
    for (name, role) in [
        ("kubelet-bootstrap", "system:node-bootstrapper"),
        ("node-autoapprove", "system:certificates.k8s.io:certificatesigningrequests:nodeclient"),
    ] {
        let group = "system:bootstrappers:kubeadm:default-node-token";
        kubectl.ok(&format!("create clusterrolebinding kubeadm:{name} --clusterrole={role} --group={group}"));
    }
    machine.write_config("bootstrap.conf", &serde_json::json!({"token": "abcdef.0123456789abcdef"}));
    let config = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  anonymous:\n    enabled: false\n  \
         webhook:\n    cacheTTL: 0s\n    enabled: true\n  x509:\n    clientCAFile: {ca}\nauthorization:\n  mode: Webhook\n  \
         webhook:\n    cacheAuthorizedTTL: 0s\n    cacheUnauthorizedTTL: 0s\ncgroupDriver: systemd\nclusterDNS:\n- 10.96.0.10\n\
         clusterDomain: cluster.local\ncontainerRuntimeEndpoint: \"\"\ncpuManagerReconcilePeriod: 0s\n\
         evictionPressureTransitionPeriod: 0s\nfileCheckFrequency: 0s\nhealthzBindAddress: 127.0.0.1\nhealthzPort: {health}\n\
         httpCheckFrequency: 0s\nimageMinimumGCAge: 0s\nlogging:\n  flushFrequency: 0\n  options:\n    json:\n      \
         infoBufferSize: \"0\"\n  verbosity: 0\nmemorySwap: {{}}\nrotateCertificates: true\nruntimeRequestTimeout: 0s\n\
         shutdownGracePeriod: 0s\nstaticPodPath: /etc/kubernetes/manifests\nsyncFrequency: 0s\nvolumeStatsAggPeriod: 0s\n",
        ca = machine.path("pki/ca.crt"),
        health = free_port(),
    );
    std::fs::write(machine.path("kubelet.yaml"), config).unwrap();
    let words: Vec<String> = format!(
        "--bootstrap-kubeconfig={} --kubeconfig={} --config={} --container-runtime-endpoint=unix://{} --hostname-override=joined \
         --node-ip=127.0.0.1 --port={} --cert-dir={} --root-dir={} --register-with-taints=a=b:NoSchedule --node-labels=x=y",
        machine.path("bootstrap.conf"),
        machine.path("kubelet.conf"),
        machine.path("kubelet.yaml"),
        // Nobody answers there: the node registers and says that it is not ready.
        machine.path("no.sock"),
        free_port(),
        machine.path("kubelet-pki"),
        machine.path("kubelet"),
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect();
    let kubelet = Part::start(directory, "kubelet", &words);
    eventually("the node", LONG, || {
        let line =
            "get node joined -o jsonpath={.metadata.labels.x}/{.spec.taints[0].key}/{.status.addresses[0].address}";
        let output = kubectl.run(line);
        if output.stdout == "y/a/127.0.0.1" {
            Ok(())
        } else {
            Err(format!("{output}\n{}\n{}", kubelet.log(), manager.log()))
        }
    });
    let asked = kubectl.ok("get csr -o jsonpath={.items[*].spec.username}/{.items[*].spec.signerName}");
    assert_eq!(asked, "system:bootstrap:abcdef/kubernetes.io/kube-apiserver-client-kubelet");
    let written = std::fs::read_to_string(machine.path("kubelet.conf")).unwrap();
    assert!(written.contains("kubelet-client-current.pem"), "{written}");
    // Whoever knows the token can trust what it signs, for as long as it lives.
    kubectl.ok("create configmap cluster-info -n kube-public --from-literal=kubeconfig=hello");
    let patch = r#"{"stringData":{"usage-bootstrap-signing":"true"}}"#;
    kubectl.ok(&format!("patch secret -n kube-system bootstrap-token-abcdef --patch {patch}"));
    let info = || kubectl.run("get configmap cluster-info -n kube-public -o jsonpath={.data.jws-kubeconfig-abcdef}");
    let signed = |want: bool| {
        let output = info();
        let is = output.stdout.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..");
        if is == want { Ok(()) } else { Err(format!("{output}\n{}", manager.log())) }
    };
    eventually("the signature", LONG, || signed(true));
    // It goes on as itself without the bootstrap credentials, which go when their time is over.
    assert_eq!(kubelet.stop(), Some(0));
    let patch = r#"{"stringData":{"expiration":"2020-01-01T00:00:00Z"}}"#;
    kubectl.ok(&format!("patch secret -n kube-system bootstrap-token-abcdef --patch {patch}"));
    eventually("the end of the token", LONG, || {
        let output = kubectl.run("get secret -n kube-system bootstrap-token-abcdef");
        if output.stderr.contains("not found") { Ok(()) } else { Err(format!("{output}\n{}", manager.log())) }
    });
    eventually("the end of the signature", LONG, || signed(false));
    // A class of attributes that a claim names stays until the claim is gone.
    let claimed = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttributesClass","metadata":{"name":"gold"},"driverName":"d","parameters":{"a":"b"}},
        {"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"c","namespace":"default"},"spec":{"accessModes":["ReadWriteOnce"],
         "resources":{"requests":{"storage":"1Gi"}},"volumeAttributesClassName":"gold"}}]}"#;
    kubectl.feed("create -f -", claimed.as_bytes()).ok();
    kubectl.ok("delete volumeattributesclass gold --wait=false");
    let held =
        kubectl.ok("get volumeattributesclass gold -o jsonpath={.metadata.finalizers}/{.metadata.deletionTimestamp}");
    assert!(held.starts_with(r#"["kubernetes.io/vac-protection"]/2"#), "{held}");
    kubectl.ok("delete pvc c -n default --wait=false");
    eventually("the end of the class", LONG, || {
        let output = kubectl.run("get volumeattributesclass gold");
        if output.stderr.contains("not found") { Ok(()) } else { Err(format!("{output}\n{}", manager.log())) }
    });
    kubectl.ok("delete node joined");
    let kubelet = Part::start(directory, "kubelet", &words);
    eventually("the node again", LONG, || {
        let output = kubectl.run("get node joined -o name");
        if output.code == 0 { Ok(()) } else { Err(format!("{output}\n{}", kubelet.log())) }
    });
    assert_eq!(kubelet.stop(), Some(0));
}

#[test]
fn mistakes_on_the_command_line_end_the_start_with_a_suggestion() {
    if control_plane().is_none() {
        return;
    }
    for (line, words) in [
        (
            "apiserver --servce-account-issuer=x",
            "unknown flag: --servce-account-issuer (did you mean --service-account-issuer?)",
        ),
        ("apiserver --egress-selector-config-file=x", "--egress-selector-config-file: there is no egress selector"),
        ("kubelet --cluster-dns=1.1.1.1", "--kubeconfig is missing"),
        ("proxy --masquerade-all=perhaps", "neither true nor false"),
        ("scheduler --secure-port=x", "it is not a whole number"),
        ("controller-manager --kubeconfig=/nonexistent --controllers=nonsense", "/nonexistent"),
    ] {
        Cluster::ironkeel().fails(line, words);
    }
    let help = Cluster::ironkeel().ok("kubelet --help");
    assert!(help.contains("--container-runtime-endpoint"), "{help}");
}
