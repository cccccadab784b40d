//! What all pod workers of one node share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cri::Cri;
use crate::downward::Facts;
use crate::events::Recorder;
use crate::images::Images;
use crate::network_files::Cluster;
use crate::objects::Objects;
use crate::resize::Ledger;
use crate::{Config, env, model};

/// Shared parts of a running kubelet.
pub struct Node {
    /// Settings.
    pub config: Config,
    /// The runtime.
    pub cri: Cri,
    /// Sender of events.
    pub events: Recorder,
    /// Provider of images.
    pub images: Images,
    /// Reader of ConfigMaps, Secrets and tokens.
    pub objects: Objects,
    /// Names and DNS of the cluster.
    pub cluster: Cluster,
    /// Services of all namespaces, by namespace and name.
    pub services: Mutex<BTreeMap<(String, String), core::Service>>,
    /// Whether the services were read once.
    pub services_known: AtomicBool,
    /// Memory of the node, bytes.
    pub memory: i64,
    /// What pods may use.
    pub allocatable: BTreeMap<String, Quantity>,
    /// What the admitted pods were granted.
    pub ledger: Mutex<Ledger>,
    /// Tells of resources that became free.
    pub freed: watch::Sender<()>,
}

impl Node {
    /// Where container logs are.
    pub fn logs(&self) -> PathBuf {
        self.config.root.join("log").join("pods")
    }

    /// Forgets what a pod was granted, so that others may have it.
    pub fn release(&self, uid: &str) {
        if self.ledger.lock().release(uid) {
            self.freed.send_replace(());
        }
    }

    /// What the pod object does not say of a pod with these addresses.
    pub fn facts(&self, pod: &core::Pod, ips: &[String]) -> Facts {
        let node_ip = self.config.node_ip.to_string();
        let pod_ips = if model::host_network(pod) { vec![node_ip.clone()] } else { ips.to_vec() };
        Facts { node_ip, pod_ips, allocatable: self.allocatable.clone() }
    }

    /// Service variables of a pod's namespace.
    pub fn service_variables(&self, pod: &core::Pod) -> BTreeMap<String, String> {
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let services: Vec<core::Service> = self.services.lock().values().cloned().collect();
        env::service_variables(&services, model::namespace(pod), links)
    }
}

/// A shared node.
pub type SharedNode = Arc<Node>;
