//! Real containers on a real node: what a user sees with stock kubectl and helm, checked against containerd itself. Left out, in one
//! line, where the machine cannot run containers.

mod charts;
mod configuration;
mod life;
mod manifests;
mod nodes;
mod rollouts;
mod services;
mod sessions;
mod survival;

use e2e::{Cli, Output, eventually};
use std::time::Duration;

/// Time for what takes containers.
const SOON: Duration = Duration::from_secs(60);

/// Waits until a command prints exactly this.
fn becomes(kubectl: &Cli, line: &str, want: &str) {
    until(kubectl, line, &format!("{want:?}"), |output| output.stdout == want);
}

/// Waits until a command's output is as asked.
fn until(kubectl: &Cli, line: &str, what: &str, is: impl Fn(&Output) -> bool) {
    eventually(&format!("{line}: {what}"), SOON, || {
        let output = kubectl.run(line);
        if output.code == 0 && is(&output) { Ok(()) } else { Err(output.to_string()) }
    });
}

/// Makes a pod of YAML lines below `spec:` and waits until it is in this phase.
fn pod(kubectl: &Cli, name: &str, spec: &str, phase: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n{spec}"
    );
    kubectl.feed("apply -f -", text.as_bytes()).ok();
    becomes(kubectl, &format!("get pod {name} -o jsonpath={{.status.phase}}"), phase);
}

/// One container that runs this shell script, as YAML.
fn shell(script: &str) -> String {
    let script = serde_json::Value::from(script);
    format!("  containers:\n  - name: c\n    image: ironkeel/busybox:1\n    command: [sh, -c, {script}]\n")
}

/// A shell script that ends when it is asked to.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";
