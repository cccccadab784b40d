//! `/stats/summary` and `/metrics`: what the runtime and the kernel count.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{Body, Server, answer};
use crate::cri::v1::{ContainerStats, UInt64Value};
use crate::{machine, model, names};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn number(value: Option<&UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

/// Usage of one container by the runtime's count: CPU nanoseconds in all, working set, bytes.
struct Usage {
    pod: [String; 3],
    container: String,
    cpu: u64,
    nano_cores: Option<u64>,
    working_set: u64,
    rss: u64,
    at: i64,
}

fn usage(stats: &ContainerStats) -> Option<Usage> {
    let attributes = stats.attributes.as_ref()?;
    let label = |name: &str| attributes.labels.get(name).cloned();
    let cpu = stats.cpu.as_ref();
    let memory = stats.memory.as_ref();
    Some(Usage {
        pod: [label(names::POD_NAMESPACE)?, label(names::POD_NAME)?, label(names::POD_UID)?],
        container: attributes.metadata.as_ref()?.name.clone(),
        cpu: number(cpu.and_then(|cpu| cpu.usage_core_nano_seconds.as_ref())),
        nano_cores: cpu.and_then(|cpu| cpu.usage_nano_cores.as_ref()).map(|value| value.value),
        working_set: number(memory.and_then(|memory| memory.working_set_bytes.as_ref())),
        rss: number(memory.and_then(|memory| memory.rss_bytes.as_ref())),
        at: cpu.map_or(0, |cpu| cpu.timestamp),
    })
}

async fn usages(server: &Server) -> Vec<Usage> {
    match server.node.cri.container_stats().await {
        Ok(stats) => stats.iter().filter_map(usage).collect(),
        Err(error) => {
            tracing::debug!(%error, "no container statistics");
            Vec::new()
        }
    }
}

/// Usage of the node, its pods and containers, in the shape of upstream's `stats/v1alpha1` Summary.
pub(crate) async fn summary(server: &Server) -> Response<Body> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pods: BTreeMap<[String; 3], Vec<Value>> = BTreeMap::new();
    for usage in usages(server).await {
        let time = model::from_nanos(usage.at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut cpu = json!({"time": time, "usageCoreNanoSeconds": usage.cpu});
        if let (Some(map), Some(nano_cores)) = (cpu.as_object_mut(), usage.nano_cores) {
            map.insert("usageNanoCores".to_owned(), json!(nano_cores));
        }
        pods.entry(usage.pod).or_default().push(json!({
            "name": usage.container,
            "startTime": time,
            "cpu": cpu,
            "memory": {"time": time, "workingSetBytes": usage.working_set, "rssBytes": usage.rss},
        }));
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|([namespace, name, uid], containers)| {
            json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "startTime": now, "containers": containers})
        })
        .collect();
    let memory = machine::memory();
    let disk = machine::disk(&server.node.config.root);
    let summary = json!({
        "node": {
            "nodeName": server.node.config.node_name,
            "startTime": now,
            "cpu": {"time": now, "usageCoreNanoSeconds": machine::cpu_nanos()},
            "memory": {
                "time": now,
                "availableBytes": memory.available,
                "workingSetBytes": memory.total.saturating_sub(memory.available),
            },
            "fs": {"time": now, "availableBytes": disk.available, "capacityBytes": disk.total,
                "usedBytes": disk.total.saturating_sub(disk.available)},
        },
        "pods": pods,
    });
    answer(StatusCode::OK, "application/json", Bytes::from(summary.to_string()))
}

/// Counters of the kubelet itself.
pub(crate) async fn metrics(server: &Server) -> Response<Body> {
    let pods = server.pods.all().len();
    let states = server.node.cri.list_containers(None).await.unwrap_or_default();
    let mut counts: BTreeMap<&str, usize> =
        BTreeMap::from([("created", 0), ("exited", 0), ("running", 0), ("unknown", 0)]);
    for container in states {
        let state = match container.state {
            0 => "created",
            1 => "running",
            2 => "exited",
            _ => "unknown",
        };
        *counts.entry(state).or_default() += 1;
    }
    let mut text = format!(
        "# HELP kubelet_node_name The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node={:?}}} 1\n# HELP kubelet_desired_pods Pods that this node is to run.\n\
         # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {pods}\n\
         # HELP kubelet_running_containers Containers by state.\n# TYPE kubelet_running_containers gauge\n",
        server.node.config.node_name
    );
    for (state, count) in counts {
        let _ = writeln!(text, "kubelet_running_containers{{container_state={state:?}}} {count}");
    }
    answer(StatusCode::OK, METRICS_TYPE, Bytes::from(text))
}

/// CPU and memory of containers and the node, by upstream's `/metrics/resource` names.
pub(crate) async fn resource_metrics(server: &Server) -> Response<Body> {
    let usages = usages(server).await;
    let mut text = String::from(
        "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n\
         # TYPE container_cpu_usage_seconds_total counter\n",
    );
    let label = |usage: &Usage| {
        let [namespace, pod, _] = &usage.pod;
        format!("container={:?},namespace={namespace:?},pod={pod:?}", usage.container)
    };
    let seconds = |nanos: u64| std::time::Duration::from_nanos(nanos).as_secs_f64();
    for usage in &usages {
        let _ = writeln!(text, "container_cpu_usage_seconds_total{{{}}} {}", label(usage), seconds(usage.cpu));
    }
    text.push_str(
        "# HELP container_memory_working_set_bytes Current working set of the container in bytes\n\
         # TYPE container_memory_working_set_bytes gauge\n",
    );
    for usage in &usages {
        let _ = writeln!(text, "container_memory_working_set_bytes{{{}}} {}", label(usage), usage.working_set);
    }
    let memory = machine::memory();
    let _ = write!(
        text,
        "# HELP node_cpu_usage_seconds_total Cumulative cpu time consumed by the node in core-seconds\n\
         # TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {}\n\
         # HELP node_memory_working_set_bytes Current working set of the node in bytes\n\
         # TYPE node_memory_working_set_bytes gauge\nnode_memory_working_set_bytes {}\n",
        seconds(machine::cpu_nanos()),
        memory.total.saturating_sub(memory.available)
    );
    answer(StatusCode::OK, METRICS_TYPE, Bytes::from(text))
}
