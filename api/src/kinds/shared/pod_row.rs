//! The row of a pod: how `kubectl get pods` sums up its containers.
//!
//! Never changes a pod.

use super::cells;
use crate::json::Value;
use crate::kind::Column;
use crate::{meta, value};

/// The columns.
pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready").says("The aggregate readiness state of this pod for accepting traffic."),
    Column::text("Status").says("The aggregate status of the containers in this pod."),
    Column::text("Restarts").says("The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
    Column::AGE,
    Column::text("IP").wide().of("status.podIP"),
    Column::text("Node").wide().of("spec.nodeName"),
    Column::text("Nominated Node").wide().of("status.nominatedNodeName"),
    Column::text("Readiness Gates").wide().of("spec.readinessGates"),
];

/// What was counted on the way through the containers.
#[derive(Default)]
struct Restarts {
    count: i64,
    /// The latest end of a former run, RFC 3339.
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += value::int(status, "restartCount").unwrap_or_default();
        let ended = value::text(status, "lastState.terminated.finishedAt");
        if meta::seconds(ended) > meta::seconds(&self.last) {
            self.last = ended.to_owned();
        }
    }

    fn shown(&self, now: i64) -> String {
        if self.count != 0 && !self.last.is_empty() {
            format!("{} ({} ago)", self.count, meta::since(&self.last, now))
        } else {
            self.count.to_string()
        }
    }
}

fn is_condition(pod: &Value, kind: &str) -> bool {
    let conditions = value::items(pod, "status.conditions");
    conditions.iter().any(|c| value::text(c, "type") == kind && value::text(c, "status") == "True")
}

fn state<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status.get("state").and_then(|state| state.get(name)).filter(|state| !state.is_null())
}

/// Why a container ended, in a word.
fn ended(terminated: &Value) -> String {
    match (value::text(terminated, "reason"), value::int(terminated, "signal").unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", value::int(terminated, "exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The cells of `COLUMNS`.
#[must_use]
pub fn row(pod: &Value, now: i64) -> Vec<Value> {
    let phase = value::text(pod, "status.phase");
    let mut reason = match value::text(pod, "status.reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated = value::items(pod, "status.conditions")
        .iter()
        .any(|c| value::text(c, "type") == "PodScheduled" && value::text(c, "reason") == "SchedulingGated");
    if gated {
        "SchedulingGated".clone_into(&mut reason);
    }
    let init = value::items(pod, "spec.initContainers");
    let is_sidecar =
        |name: &str| init.iter().any(|c| value::text(c, "name") == name && value::text(c, "restartPolicy") == "Always");
    let sidecars = init.iter().filter(|c| value::text(c, "restartPolicy") == "Always").count();
    let total = value::items(pod, "spec.containers").len() + sidecars;

    let (mut ready, mut restarts, mut of_sidecars) = (0, Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (i, status) in value::items(pod, "status.initContainerStatuses").iter().enumerate() {
        restarts.add(status);
        let sidecar = is_sidecar(value::text(status, "name"));
        if sidecar {
            of_sidecars.add(status);
        }
        let terminated = state(status, "terminated");
        if terminated.is_some_and(|t| value::int(t, "exitCode").unwrap_or_default() == 0) {
            continue;
        }
        if sidecar && value::flag(status, "started") {
            ready += i64::from(value::flag(status, "ready"));
            continue;
        }
        let waiting = state(status, "waiting").map_or("", |waiting| value::text(waiting, "reason"));
        reason = match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", init.len()),
        };
        initializing = true;
        break;
    }

    if !initializing || is_condition(pod, "Initialized") {
        restarts = of_sidecars;
        let (mut running, mut error) = (false, String::new());
        for status in value::items(pod, "status.containerStatuses").iter().rev() {
            restarts.add(status);
            let waiting = state(status, "waiting").map_or("", |waiting| value::text(waiting, "reason"));
            if !waiting.is_empty() {
                waiting.clone_into(&mut reason);
            } else if let Some(terminated) = state(status, "terminated") {
                reason = ended(terminated);
                if value::int(terminated, "exitCode").unwrap_or_default() != 0 {
                    reason.clone_into(&mut error);
                }
            } else if value::flag(status, "ready") && state(status, "running").is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" {
            if running && is_condition(pod, "Ready") {
                "Running".clone_into(&mut reason);
            } else if !error.is_empty() {
                reason = error;
            } else if running {
                "NotReady".clone_into(&mut reason);
            }
        }
    }

    if meta::is_deleting(pod) {
        if value::text(pod, "status.reason") == "NodeLost" {
            "Unknown".clone_into(&mut reason);
        } else if !matches!(phase, "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut reason);
        }
    }

    let address = value::items(pod, "status.podIPs").first().map_or("", |address| value::text(address, "ip"));
    let gates = value::items(pod, "spec.readinessGates");
    let passed = gates.iter().filter(|gate| is_condition(pod, value::text(gate, "conditionType"))).count();
    vec![
        cells::name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.shown(now).into(),
        cells::age(pod, now),
        if address.is_empty() { "<none>" } else { address }.into(),
        cells::text_or(pod, "spec.nodeName", "<none>"),
        cells::text_or(pod, "status.nominatedNodeName", "<none>"),
        if gates.is_empty() { "<none>".into() } else { format!("{passed}/{}", gates.len()).into() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;
    use crate::kinds::shared::testing::NOW;

    fn check(spec: Value, status: Value, cells: [&str; 3]) {
        let mut pod = json!({"metadata": {"name": "p"}});
        pod["spec"] = spec;
        pod["status"] = status;
        let row = row(&pod, NOW);
        let shown: Vec<&str> = row.iter().skip(1).take(3).map(|cell| cell.as_str().unwrap()).collect();
        assert_eq!(shown, cells, "{pod}");
        assert_eq!(row.len(), COLUMNS.len());
    }

    #[test]
    fn containers_are_summed_up() {
        let one = json!({"containers": [{"name": "a"}]});
        check(one.clone(), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        check(
            one.clone(),
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
            ["1/1", "Running", "0"],
        );
        check(
            one.clone(),
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:25:00Z"}}}]}),
            ["0/1", "CrashLoopBackOff", "3 (5m ago)"],
        );
        check(
            one.clone(),
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
            ["0/1", "ExitCode:2", "0"],
        );
        check(
            json!({"containers": [{}, {}]}),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]}),
            ["1/2", "Running", "0"],
        );
    }

    #[test]
    fn initialisation_comes_first() {
        let spec =
            json!({"containers": [{}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        check(
            spec.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            ["0/2", "Init:0/2", "0"],
        );
        check(
            spec.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            ["0/2", "Init:Error", "1"],
        );
        check(
            spec,
            json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}}],
                "containerStatuses": [{"ready": true, "state": {"running": {}}}]}),
            ["2/2", "Running", "2"],
        );
    }

    #[test]
    fn deletion_and_wide_cells() {
        let pod = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": [{}], "readinessGates": [{"conditionType": "x"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "x", "status": "True"}]}});
        let cells = json!(["p", "0/1", "Terminating", "0", "<unknown>", "10.0.0.1", "n", "<none>", "1/1"]);
        assert_eq!(Value::from(row(&pod, NOW)), cells);
    }
}
