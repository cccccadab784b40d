//! Two API servers over one FoundationDB database, driven as a user would: what one takes the other shows, and either may go.
//!
//! Needs an fdbserver on PATH or in `FDB_BIN`, and an `ironkeel` that was built with the feature `foundationdb`; says in one line what is
//! missing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]

#[path = "../../../storage/tests/fdb/mod.rs"]
mod fdb;

use e2e::{Cli, binary, eventually, free_port, runtime, tool};
use fdb::{Cluster, Programs};
use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(90);

/// One `ironkeel up --no-node` over the shared database.
struct Server {
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    fn start(directory: &Path, database: &Path) -> Server {
        std::fs::create_dir_all(directory).unwrap();
        let mut server = Server { directory: directory.to_owned(), port: free_port(), child: None };
        server.launch(database);
        server
    }

    fn launch(&mut self, database: &Path) {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let child = Command::new(binary().unwrap())
            .args(["up", "--no-node", "--bind-address=127.0.0.1", "--log=info"])
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--storage=foundationdb:{}", database.display()))
            .arg("--data-dir")
            .arg(self.directory.join("d"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    fn kubectl(&self) -> Cli {
        Cli::new("kubectl")
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.join("cache"))
            .with("--request-timeout=60s")
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn wait_ready(&mut self) {
        let kubectl = self.kubectl();
        eventually("the server is ready", START, || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            for (line, want) in [("get --raw /readyz", "ok"), ("get serviceaccount default -o name", "default")] {
                let output = kubectl.run(line);
                if output.code != 0 || !output.stdout.contains(want) {
                    return Err(format!("{output}\n{}", self.log()));
                }
            }
            Ok(())
        });
    }

    fn crash(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As Ctrl-C ends it; returns the exit code.
    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        eventually("the server ends", Duration::from_secs(60), || match child.try_wait() {
            Ok(Some(status)) => Ok(status.code()),
            Ok(None) => Err("it runs".to_owned()),
            Err(e) => Err(e.to_string()),
        })
    }

    async fn client(&self) -> kube::Client {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a kubeconfig");
        kube::Client::try_from(config).expect("a client")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the tests need, or a line about what is missing.
fn possible() -> Option<Programs> {
    let programs = Programs::or_say("two API servers over one FoundationDB database")?;
    let missing = match (binary(), tool("kubectl")) {
        (None, _) => Some("`ironkeel` is not built".to_owned()),
        (_, None) => Some("kubectl is not on PATH (hack/setup installs it)".to_owned()),
        (Some(binary), Some(_)) => {
            let directory = TempDir::new().unwrap();
            let said = Cli::at(binary).run(&format!(
                "up --no-node --storage=foundationdb:/nowhere/fdb.cluster --data-dir {} --kubeconfig {}",
                directory.path().display(),
                directory.path().join("k").display()
            ));
            match said.stderr.contains("there is no cluster file /nowhere/fdb.cluster") {
                true => None,
                false => Some(format!("this `ironkeel` has no FoundationDB: {}", said.stderr.trim())),
            }
        }
    };
    if let Some(missing) = missing {
        eprintln!("left out: two API servers over one FoundationDB database: {missing}");
        return None;
    }
    Some(programs)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object.data = Some(BTreeMap::from([("k".to_owned(), value.to_owned())]));
    object
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("a status, not {other}"),
    }
}

#[test]
fn two_api_servers_share_a_database() {
    let Some(programs) = possible() else { return };
    let place = tempfile::Builder::new().prefix("ik").tempdir_in("/tmp").unwrap();
    let (first, second) = (place.path().join("1"), place.path().join("2"));
    let database = Cluster::single(&programs);

    // Keys and authority are made by a start of the first; both then start at once over a database that is empty again.
    let mut a = Server::start(&first, database.file());
    a.wait_ready();
    assert_eq!(a.stop(), Some(0), "{}", a.log());
    copy(&first.join("d/pki"), &second.join("d/pki"));
    let said = database.cli("writemode on; clearrange \"\" \\xff", 30);
    assert!(said.contains("Committed"), "{said}");
    let begun = Instant::now();
    a.launch(database.file());
    let mut b = Server::start(&second, database.file());
    a.wait_ready();
    b.wait_ready();
    eprintln!("two API servers over an empty database were ready after {:?}", begun.elapsed());

    runtime().block_on(async {
        let (on_a, on_b) = (a.client().await, b.client().await);
        bootstrap_is_there_once(&on_a, &on_b).await;
        one_writes_and_the_other_watches(&on_a, &on_b).await;
        updates_conflict_across_servers(&on_a, &on_b).await;
        addresses_are_unique_across_servers(&on_a, &on_b).await;
        one_leads(&on_a).await;
    });

    // A service account's token of one is good at the other: they share the signing key.
    let token = a.kubectl().ok("create token default");
    let who = Cli::new("kubectl").env("KUBECONFIG", "/dev/null").ok(&format!(
        "--server=https://127.0.0.1:{} --insecure-skip-tls-verify --token={} auth whoami -o \
         jsonpath={{.status.userInfo.username}}",
        b.port,
        token.trim()
    ));
    assert_eq!(who, "system:serviceaccount:default:default");

    // One dies without a word; the other goes on, and its controllers take over.
    runtime().block_on(async {
        let on_b = b.client().await;
        a.crash();
        let namespaces: Api<Namespace> = Api::all(on_b.clone());
        let begun = Instant::now();
        let mut after = Namespace::default();
        after.metadata.name = Some("after".to_owned());
        namespaces.create(&PostParams::default(), &after).await.unwrap();
        eprintln!("the survivor wrote {:?} after the other's death", begun.elapsed());
        let maps: Api<ConfigMap> = Api::namespaced(on_b.clone(), "after");
        let deadline = Instant::now() + Duration::from_secs(60);
        while maps.get_opt("kube-root-ca.crt").await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "the survivor's controllers took over: {}", b.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        eprintln!("its controllers had taken over after {:?}", begun.elapsed());
    });

    // It comes back and shows what happened meanwhile.
    a.launch(database.file());
    a.wait_ready();
    a.kubectl().ok("get configmap kube-root-ca.crt --namespace=after");
    assert_eq!(a.stop(), Some(0), "{}", a.log());
    assert_eq!(b.stop(), Some(0), "{}", b.log());
}

/// What every cluster has is there, once, and the same through both.
async fn bootstrap_is_there_once(on_a: &kube::Client, on_b: &kube::Client) {
    let names = async |client: &kube::Client| -> BTreeSet<(String, String)> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let list = namespaces.list(&ListParams::default()).await.unwrap();
        list.items.into_iter().map(|n| (n.metadata.name.unwrap(), n.metadata.uid.unwrap())).collect()
    };
    let (here, there) = (names(on_a).await, names(on_b).await);
    assert_eq!(here, there, "both show the same objects");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(here.iter().filter(|(n, _)| n == name).count(), 1, "{name}");
    }
    let service = async |client: &kube::Client| {
        Api::<Service>::namespaced(client.clone(), "default").get("kubernetes").await.unwrap()
    };
    let (here, there) = (service(on_a).await, service(on_b).await);
    assert_eq!(here.metadata.uid, there.metadata.uid);
    assert_eq!(here.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
}

/// Every change made through one comes once and in order out of a watch at the other.
async fn one_writes_and_the_other_watches(on_a: &kube::Client, on_b: &kube::Client) {
    let here: Api<ConfigMap> = Api::namespaced(on_a.clone(), "default");
    let there: Api<ConfigMap> = Api::namespaced(on_b.clone(), "default");
    let list = there.list(&ListParams::default()).await.unwrap();
    let watch = there.watch(&WatchParams::default(), &list.metadata.resource_version.unwrap()).await.unwrap();
    let mut watch = std::pin::pin!(watch);
    let mut took = Vec::new();
    for turn in 0..30 {
        let begun = Instant::now();
        let made = here.create(&PostParams::default(), &config_map(&format!("w{turn:02}"), "1")).await.unwrap();
        let event =
            tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time").unwrap().unwrap();
        let WatchEvent::Added(seen) = event else { panic!("{event:?}") };
        assert_eq!(
            (seen.metadata.name, seen.metadata.resource_version),
            (made.metadata.name, made.metadata.resource_version)
        );
        took.push(begun.elapsed());
    }
    took.sort();
    eprintln!("create through one to event from the other: median {:?}, longest {:?}", took[15], took[29]);
    // A read through the other sees what was acknowledged before it began, every time.
    for turn in 0..30 {
        let name = format!("r{turn:02}");
        here.create(&PostParams::default(), &config_map(&name, "1")).await.unwrap();
        assert!(there.get_opt(&name).await.unwrap().is_some(), "{name} was acknowledged");
        let listed = there.list(&ListParams::default()).await.unwrap();
        assert!(listed.items.iter().any(|m| m.metadata.name.as_deref() == Some(&name)), "{name} is in the list");
    }
}

/// Of two updates of one version, one through each server, exactly one is taken; patches through both all count.
async fn updates_conflict_across_servers(on_a: &kube::Client, on_b: &kube::Client) {
    let sides: [Api<ConfigMap>; 2] = [on_a, on_b].map(|client| Api::namespaced(client.clone(), "default"));
    let mut held = sides[0].create(&PostParams::default(), &config_map("contended", "0")).await.unwrap();
    for round in 0..20 {
        let writes = sides.iter().enumerate().map(|(side, api)| {
            let mut mine = held.clone();
            mine.data = Some(BTreeMap::from([("k".to_owned(), format!("{round}/{side}"))]));
            async move { api.replace("contended", &PostParams::default(), &mine).await }
        });
        let results = join_all(writes).await;
        let won: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {results:?}");
        let lost = results.iter().find_map(|r| r.as_ref().err()).unwrap();
        assert_eq!(code(lost), 409, "{lost}");
        held = won[0].clone();
    }
    let patches = (0..20).map(|i| {
        let api = &sides[i % 2];
        let patch = Patch::Merge(json!({"data": {format!("p{i}"): "x"}}));
        async move { api.patch("contended", &PatchParams::default(), &patch).await.unwrap() }
    });
    join_all(patches).await;
    for api in &sides {
        let data = api.get("contended").await.unwrap().data.unwrap();
        assert_eq!(data.keys().filter(|k| k.starts_with('p')).count(), 20, "no patch was lost");
    }
}

/// Services made through both at once: no two share an address or a node port.
async fn addresses_are_unique_across_servers(on_a: &kube::Client, on_b: &kube::Client) {
    let sides: [Api<Service>; 2] = [on_a, on_b].map(|client| Api::namespaced(client.clone(), "default"));
    let service = |name: &str, address: Option<&str>| -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}], "clusterIP": address}
        }))
        .unwrap()
    };
    let made = join_all((0..60).map(|i| {
        let (api, service) = (&sides[i % 2], service(&format!("s{i}"), None));
        async move { api.create(&PostParams::default(), &service).await.unwrap().spec.unwrap() }
    }))
    .await;
    let addresses: BTreeSet<_> = made.iter().map(|spec| spec.cluster_ip.clone().unwrap()).collect();
    let ports: BTreeSet<_> =
        made.iter().flat_map(|spec| spec.ports.iter().flatten().map(|p| p.node_port.unwrap())).collect();
    assert_eq!((addresses.len(), ports.len()), (60, 60), "all differ");
    // One address wanted by both at once.
    for round in 0..10 {
        let address = format!("10.111.0.{}", 10 + round);
        let wanted = sides.iter().enumerate().map(|(side, api)| {
            let service = service(&format!("same-{round}-{side}"), Some(&address));
            async move { api.create(&PostParams::default(), &service).await }
        });
        let results = join_all(wanted).await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
        let lost = results.iter().find_map(|r| r.as_ref().err()).unwrap();
        assert_eq!(code(lost), 422, "{lost}");
        assert!(lost.to_string().contains("already allocated"), "{lost}");
    }
    // What one gives back the other can take.
    let freed = made[0].cluster_ip.clone().unwrap();
    sides[0].delete("s0", &DeleteParams::default()).await.unwrap();
    sides[1].create(&PostParams::default(), &service("reused", Some(&freed))).await.unwrap();
}

/// Two processes ran controllers and a scheduler; one of them acted.
async fn one_leads(on_a: &kube::Client) {
    let leases: Api<Lease> = Api::namespaced(on_a.clone(), "kube-system");
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let holder = leases.get(name).await.unwrap().spec.unwrap().holder_identity;
        assert!(holder.is_some_and(|h| !h.is_empty()), "{name} has a holder");
    }
}
