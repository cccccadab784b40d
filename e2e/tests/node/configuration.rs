//! What containers get from the API: environment, volumes, tokens, and their updates.

use crate::{IDLE, becomes, pod, shell};
use e2e::node;

#[test]
fn environment_from_every_source() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("environment");
    kubectl.ok("create configmap settings --from-literal=COLOR=blue --from-literal=SIZE=xl");
    kubectl.ok("create secret generic hidden --from-literal=PASSWORD=s3cret");
    kubectl.ok("create service clusterip other --tcp=80:8080");
    let address = kubectl.ok("get service other -o jsonpath={.spec.clusterIP}");
    let spec = format!(
        "{}    env:
    - {{name: PLAIN, value: text}}
    - {{name: COMBINED, value: $(PLAIN)-$(ONE)-$(MISSING)-$$(PLAIN)}}
    - {{name: ONE, valueFrom: {{configMapKeyRef: {{name: settings, key: COLOR}}}}}}
    - {{name: LATER, value: $(PLAIN)-$(ONE)}}
    - {{name: SECRET, valueFrom: {{secretKeyRef: {{name: hidden, key: PASSWORD}}}}}}
    - {{name: ABSENT, valueFrom: {{configMapKeyRef: {{name: none, key: x, optional: true}}}}}}
    - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
    - {{name: LABEL, valueFrom: {{fieldRef: {{fieldPath: \"metadata.labels['app']\"}}}}}}
    - {{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: limits.cpu, divisor: 1m}}}}}}
    resources: {{limits: {{cpu: 250m, memory: 32Mi}}}}
    envFrom:
    - configMapRef: {{name: settings}}
    - secretRef: {{name: hidden}}
      prefix: P_
",
        shell(IDLE)
    );
    pod(&kubectl, "all", &spec, "Running");
    let environment = kubectl.ok("exec all -- env");
    let ip = kubectl.ok("get pod all -o jsonpath={.status.podIP}");
    let want = [
        "PLAIN=text",
        "COMBINED=text-$(ONE)-$(MISSING)-$(PLAIN)",
        "ONE=blue",
        "LATER=text-blue",
        "SECRET=s3cret",
        "POD=all",
        "NODE=e2e",
        "LABEL=all",
        "CPU=250",
        "COLOR=blue",
        "SIZE=xl",
        "P_PASSWORD=s3cret",
        "OTHER_SERVICE_PORT=80",
        "KUBERNETES_SERVICE_PORT=443",
        &format!("IP={ip}"),
        &format!("OTHER_SERVICE_HOST={address}"),
    ];
    for want in want {
        assert!(environment.lines().any(|line| line == want), "{want} in\n{environment}");
    }
    assert!(!environment.contains("ABSENT"), "{environment}");
    // What the pod needs and does not find keeps it waiting, and it starts when it comes.
    let waits = format!("{}    envFrom: [{{configMapRef: {{name: later}}}}]\n", shell("echo $NOW; sleep 1000"));
    pod(&kubectl, "waits", &waits, "Pending");
    becomes(
        &kubectl,
        "get pod waits -o jsonpath={.status.containerStatuses[0].state.waiting.reason}",
        "CreateContainerConfigError",
    );
    kubectl.ok("create configmap later --from-literal=NOW=here");
    becomes(&kubectl, "logs waits", "here\n");
    kubectl.ok("delete pods --all");
}

#[test]
fn volumes_hold_what_the_api_holds() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("volumes");
    kubectl.ok("create configmap files --from-literal=a=1 --from-literal=b=2");
    kubectl.ok("create secret generic hidden --from-literal=key=s3cret");
    let spec = format!(
        "{}    volumeMounts:
    - {{name: files, mountPath: /files}}
    - {{name: one, mountPath: /one/a.txt, subPath: a}}
    - {{name: hidden, mountPath: /hidden, readOnly: true}}
    - {{name: scratch, mountPath: /scratch}}
    - {{name: memory, mountPath: /memory}}
    - {{name: info, mountPath: /info}}
    - {{name: mixed, mountPath: /mixed}}
  - name: second
    image: ironkeel/busybox:1
    command: [sh, -c, \"{IDLE}\"]
    volumeMounts: [{{name: scratch, mountPath: /shared}}]
  volumes:
  - {{name: files, configMap: {{name: files}}}}
  - {{name: one, configMap: {{name: files}}}}
  - {{name: hidden, secret: {{secretName: hidden, defaultMode: 0400, items: [{{key: key, path: deep/file}}]}}}}
  - {{name: scratch, emptyDir: {{}}}}
  - {{name: memory, emptyDir: {{medium: Memory}}}}
  - {{name: info, downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}, {{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
  - name: mixed
    projected:
      sources:
      - {{configMap: {{name: files, items: [{{key: b, path: b}}]}}}}
      - {{secret: {{name: hidden}}}}
      - {{serviceAccountToken: {{path: token, audience: vault, expirationSeconds: 600}}}}
",
        shell(IDLE)
    );
    pod(&kubectl, "all", &spec, "Running");
    let check =
        |command: &str, want: &str| assert_eq!(kubectl.ok(&format!("exec all -c c -- {command}")), want, "{command}");
    check("cat /files/a /files/b", "12");
    check("cat /one/a.txt", "1");
    check("cat /hidden/deep/file", "s3cret");
    check("stat -L -c %a /hidden/deep/file", "400\n");
    kubectl.fails("exec all -c c -- touch /hidden/x", "Read-only file system");
    check("sh -c 'echo shared > /scratch/x'", "");
    assert_eq!(kubectl.ok("exec all -c second -- cat /shared/x"), "shared\n");
    check("sh -c 'grep -c \" /memory tmpfs \" /proc/mounts'", "1\n");
    check("cat /info/name /info/labels", "allapp=\"all\"");
    check("cat /mixed/b /mixed/key", "2s3cret");
    // The tokens are whose they say, for whom they say.
    let review = |token: &str, audience: &str| {
        let text = format!(
            r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{}","audiences":{audience}}}}}"#,
            token.trim()
        );
        kubectl
            .feed(
                "create --validate=false -f - -o jsonpath={.status.authenticated}:{.status.user.username}",
                text.as_bytes(),
            )
            .ok()
    };
    let token = kubectl.ok("exec all -c c -- cat /mixed/token");
    assert_eq!(review(&token, r#"["vault"]"#), "true:system:serviceaccount:volumes:default");
    assert_ne!(review(&token, "[]"), "true:system:serviceaccount:volumes:default", "not for the API server");
    let token = kubectl.ok("exec all -c c -- cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(review(&token, "[]"), "true:system:serviceaccount:volumes:default");
    check("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace", "volumes");
    // Changes arrive in volumes, whole, and not in a subPath.
    kubectl.ok("patch configmap files -p '{\"data\":{\"a\":\"new\",\"b\":\"newer\"}}'");
    kubectl.ok("label pod all tier=front");
    let kubectl = kubectl.limit(std::time::Duration::from_secs(20));
    e2e::eventually("the new content", std::time::Duration::from_secs(120), || {
        let output =
            kubectl.run("exec all -c c -- sh -c 'cat /files/a /files/b; echo; cat /info/labels; echo; cat /one/a.txt'");
        if output.stdout == "newnewer\napp=\"all\"\ntier=\"front\"\n1" { Ok(()) } else { Err(output.to_string()) }
    });
    kubectl.ok("delete pod all");
}

#[test]
fn pods_run_as_they_say() {
    let Some(cluster) = node() else { return };
    let kubectl = cluster.namespace("confined");
    let spec = format!(
        "  securityContext: {{runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000}}\n{}    workingDir: /tmp\n    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n    resources: {{limits: {{memory: 32Mi, cpu: 200m}}}}\n    volumeMounts: [{{name: s, mountPath: /s}}]\n  volumes: [{{name: s, emptyDir: {{}}}}]\n",
        shell(IDLE)
    );
    pod(&kubectl, "box", &spec, "Running");
    let check =
        |command: &str, want: &str| assert_eq!(kubectl.ok(&format!("exec box -- {command}")), want, "{command}");
    check("id -u", "1000\n");
    check("id -g", "3000\n");
    check("pwd", "/tmp\n");
    check("sh -c 'touch /s/x && stat -c %g /s/x'", "2000\n");
    check("grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n");
    kubectl.fails("exec box -- touch /x", "Read-only file system");
    assert_eq!(kubectl.ok("get pod box -o jsonpath={.status.qosClass}"), "Guaranteed");
    kubectl.ok("delete pod box");
}
