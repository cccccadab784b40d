//! Services: pods, the host and the API server reach each other by cluster address and node port.

use crate::{IDLE, SOON, becomes, pod, shell, until};
use e2e::{eventually, node};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// What a web server answers, or why it does not.
fn page(address: &str, path: &str) -> Result<String, String> {
    let limit = Duration::from_secs(3);
    let to = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let read = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    read().map_err(|error| format!("{address}: {error}"))
}

#[test]
fn a_service_is_reached_from_pods_and_from_the_host() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("services");
    kubectl.ok("create deployment web --image=ironkeel/web:1 --replicas=2");
    kubectl.ok("expose deployment web --port=80 --target-port=8080 --type=NodePort");
    kubectl.ok("rollout status deployment/web --timeout=60s");
    pod(&kubectl, "client", &shell(IDLE), "Running");
    let address = kubectl.ok("get service web -o jsonpath={.spec.clusterIP}");
    let port = kubectl.ok("get service web -o jsonpath={.spec.ports[0].nodePort}");
    let host = kubectl.ok("get node e2e -o jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}");

    let whoami = |at: &str| format!("exec client -- timeout 3 wget -qO- http://{at}/cgi-bin/whoami");
    let version = |text: &str| text.contains("version 1");
    until(&kubectl, &whoami(&address), "the cluster address from a pod", |output| version(&output.stdout));
    until(&kubectl, &whoami(&format!("{host}:{port}")), "the node port from a pod", |output| version(&output.stdout));
    for at in [format!("{address}:80"), format!("{host}:{port}")] {
        eventually(&format!("{at} from the host"), SOON, || {
            page(&at, "/cgi-bin/whoami").and_then(|text| if version(&text) { Ok(()) } else { Err(text) })
        });
        eventually("each pod has its turn", SOON, || {
            let answered: BTreeSet<_> = (0..32).map(|_| page(&at, "/cgi-bin/whoami")).collect();
            if answered.len() == 2 && answered.iter().all(Result::is_ok) {
                Ok(())
            } else {
                Err(format!("{answered:?}"))
            }
        });
    }
    // A pod reaches itself by its Service as well.
    let itself = "exec deploy/web -- sh -c 'for i in 1 2 3 4 5 6 7 8; do timeout 3 wget -qO- http://ADDRESS/cgi-bin/whoami || exit 1; done'";
    let output = kubectl.run(&itself.replace("ADDRESS", &address)).ok();
    assert_eq!(output.matches("version 1").count(), 8, "{output}");

    kubectl.ok("patch service web --type=merge -p '{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}'");
    eventually("one endpoint for one client", SOON, || {
        let answered: BTreeSet<_> = (0..16).map(|_| page(&format!("{address}:80"), "/cgi-bin/whoami")).collect();
        if answered.len() == 1 && answered.iter().all(Result::is_ok) { Ok(()) } else { Err(format!("{answered:?}")) }
    });

    kubectl.ok("scale deployment web --replicas=0");
    for at in [format!("{address}:80"), format!("{host}:{port}")] {
        eventually(&format!("{at} refuses"), SOON, || match page(&at, "/") {
            Err(error) if error.contains("refused") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    kubectl.ok("delete deployment,service,pod --all");
}

#[test]
fn a_pod_finds_the_api_server_where_its_environment_says() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("inside");
    // busybox speaks no TLS that the server takes: to a request in the clear a TLS server answers with an alert, whose first byte is 21.
    for (name, host) in [("asks", "$KUBERNETES_SERVICE_HOST"), ("by-name", "kubernetes.default")] {
        let script = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc {host} 443 | head -c 1 | od -An -tu1 | grep 21"
        );
        pod(&kubectl, name, &format!("  restartPolicy: OnFailure\n{}", shell(&script)), "Succeeded");
    }
    // At the cluster address stock kubectl finds the certificate in order.
    let address = kubectl.ok("get service -n default kubernetes -o jsonpath={.spec.clusterIP}");
    let said = kubectl.ok(&format!("--server=https://{address} get --raw /version"));
    assert!(said.contains("v1.36"), "{said}");
    becomes(&kubectl, "get endpointslices -n default kubernetes -o jsonpath={.ports[0].name}", "https");
}
