//! The fields of pods that are behind feature gates which are off by default, for pods and whatever has a template of them.
//!
//! Never knows which gates are on. Source: `pkg/api/pod/util.go` (`dropDisabledFields`).

use crate::gated::Gated;

/// Those below the path of a pod's spec.
macro_rules! gated {
    ($spec:literal $(, $more:expr)*) => {
        &[
            Gated { path: concat!($spec, "containers[].lifecycle!.stopSignal"), gate: "ContainerStopSignals" },
            Gated { path: concat!($spec, "initContainers[].lifecycle!.stopSignal"), gate: "ContainerStopSignals" },
            Gated { path: concat!($spec, "ephemeralContainers[].lifecycle!.stopSignal"), gate: "ContainerStopSignals" },
            Gated {
                path: concat!($spec, "volumes[].projected.sources[].clusterTrustBundle"),
                gate: "ClusterTrustBundleProjection",
            },
            Gated {
                path: concat!($spec, "volumes[].projected.sources[].podCertificate"),
                gate: "PodCertificateRequest",
            },
            Gated { path: concat!($spec, "schedulingGroup"), gate: "GenericWorkload" },
            $($more),*
        ]
    };
}

/// Those of a pod.
pub const POD: &[Gated] = gated!(
    "spec.",
    Gated { path: "status.nodeAllocatableResourceClaimStatuses", gate: "DRANodeAllocatableResources" },
    Gated { path: "status.containerStatuses[].volumeMounts[].volumeStatus", gate: "ImageVolumeWithDigest" },
    Gated { path: "status.initContainerStatuses[].volumeMounts[].volumeStatus", gate: "ImageVolumeWithDigest" },
    Gated { path: "status.ephemeralContainerStatuses[].volumeMounts[].volumeStatus", gate: "ImageVolumeWithDigest" }
);
/// Those of a `PodTemplate`.
pub const TEMPLATE: &[Gated] = gated!("template.spec.");
/// Those of what makes pods of a template.
pub const WORKLOAD: &[Gated] = gated!("spec.template.spec.");
/// Those of a `CronJob`.
pub const JOB_TEMPLATE: &[Gated] = gated!("spec.jobTemplate.spec.template.spec.");

#[cfg(test)]
mod tests {
    use crate::features::Gates;
    use crate::gated::drop_disabled;
    use crate::json::{Value, json};
    use crate::kinds;

    /// Every kind with a template of pods loses what a pod loses.
    #[test]
    fn fields_behind_gates_go_from_pods_and_templates() {
        let spec = || {
            json!({"schedulingGroup": {"podGroupName": "g"},
                "containers": [{"name": "a", "lifecycle": {"stopSignal": "SIGTERM", "preStop": {"sleep": {"seconds": 1}}}}],
                "volumes": [{"name": "v", "projected": {"sources": [
                    {"secret": {"name": "s"}, "clusterTrustBundle": {"path": "p"}, "podCertificate": {"keyType": "k"}}]}}]})
        };
        let left = json!({"containers": [{"name": "a", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
            "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]});
        let on = "GenericWorkload=true,ContainerStopSignals=true,ClusterTrustBundle=true,ClusterTrustBundleProjection=true,\
                  PodCertificateRequest=true";
        for (group, version, name, path) in [
            ("", "v1", "Pod", "spec"),
            ("", "v1", "PodTemplate", "template.spec"),
            ("", "v1", "ReplicationController", "spec.template.spec"),
            ("apps", "v1", "Deployment", "spec.template.spec"),
            ("apps", "v1", "ReplicaSet", "spec.template.spec"),
            ("apps", "v1", "DaemonSet", "spec.template.spec"),
            ("apps", "v1", "StatefulSet", "spec.template.spec"),
            ("batch", "v1", "Job", "spec.template.spec"),
            ("batch", "v1", "CronJob", "spec.jobTemplate.spec.template.spec"),
        ] {
            let kind = kinds::by_gvk(group, version, name).unwrap();
            let with = |gates: &str, old: Option<&Value>| {
                let mut object = Value::Null;
                crate::value::set(&mut object, path, spec());
                let gates: Vec<&str> = gates.split(',').filter(|gate| !gate.is_empty()).collect();
                drop_disabled(kind.gated, &Gates::parse(&gates).unwrap(), &mut object, old);
                crate::value::get(&object, path).cloned().unwrap()
            };
            assert_eq!(with("", None), left, "{name}");
            assert_eq!(with(on, None), spec(), "{name}");
            let mut old = Value::Null;
            crate::value::set(&mut old, path, spec());
            assert_eq!(with("", Some(&old)), spec(), "{name}: what was there stays");
        }
    }
}
