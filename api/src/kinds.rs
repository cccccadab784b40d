//! THE TABLE of native kinds: one line per kind, in discovery's order of groups.
//!
//! A line declares the module `kinds/<group>/<kind>.rs` and puts its `KIND` into `ALL`. Nothing else lists kinds.

use crate::kind::Kind;

pub mod shared;

macro_rules! kinds {
    ($($group:ident { $($kind:ident,)* })*) => {
        $(
            #[allow(missing_docs)]
            pub mod $group {
                $(pub mod $kind;)*
            }
        )*

        /// Every native kind.
        pub static ALL: &[&Kind] = &[$($(&$group::$kind::KIND,)*)*];
    };
}

kinds! {
    core_v1 {
        binding,
        component_status,
        config_map,
        endpoints,
        event,
        limit_range,
        namespace,
        node,
        persistent_volume_claim,
        persistent_volume,
        pod,
        pod_template,
        replication_controller,
        resource_quota,
        secret,
        service_account,
        service,
    }
    apiregistration_v1 {
        api_service,
    }
    apps_v1 {
        controller_revision,
        daemon_set,
        deployment,
        replica_set,
        stateful_set,
    }
    events_v1 {
        event,
    }
    authentication_v1 {
        self_subject_review,
        token_review,
    }
    authorization_v1 {
        local_subject_access_review,
        self_subject_access_review,
        self_subject_rules_review,
        subject_access_review,
    }
    autoscaling_v2 {
        horizontal_pod_autoscaler,
    }
    autoscaling_v1 {
        horizontal_pod_autoscaler,
    }
    batch_v1 {
        cron_job,
        job,
    }
    certificates_v1 {
        certificate_signing_request,
    }
    certificates_v1beta1 {
        cluster_trust_bundle,
        pod_certificate_request,
    }
    certificates_v1alpha1 {
        cluster_trust_bundle,
    }
    networking_v1 {
        ingress_class,
        ingress,
        ip_address,
        network_policy,
        service_cidr,
    }
    networking_v1beta1 {
        ip_address,
        service_cidr,
    }
    policy_v1 {
        pod_disruption_budget,
    }
    rbac_v1 {
        cluster_role_binding,
        cluster_role,
        role_binding,
        role,
    }
    storage_v1 {
        csi_driver,
        csi_node,
        csi_storage_capacity,
        storage_class,
        volume_attachment,
        volume_attributes_class,
    }
    storage_v1beta1 {
        volume_attributes_class,
    }
    admissionregistration_v1 {
        mutating_admission_policy,
        mutating_admission_policy_binding,
        mutating_webhook_configuration,
        validating_admission_policy,
        validating_admission_policy_binding,
        validating_webhook_configuration,
    }
    admissionregistration_v1beta1 {
        mutating_admission_policy,
        mutating_admission_policy_binding,
    }
    admissionregistration_v1alpha1 {
        mutating_admission_policy,
        mutating_admission_policy_binding,
    }
    apiextensions_v1 {
        custom_resource_definition,
    }
    scheduling_v1 {
        priority_class,
    }
    scheduling_v1alpha2 {
        pod_group,
        workload,
    }
    coordination_v1 {
        lease,
    }
    coordination_v1beta1 {
        lease_candidate,
    }
    coordination_v1alpha2 {
        lease_candidate,
    }
    node_v1 {
        runtime_class,
    }
    discovery_v1 {
        endpoint_slice,
    }
    resource_v1 {
        device_class,
        resource_claim,
        resource_claim_template,
        resource_slice,
    }
    resource_v1beta2 {
        device_class,
        device_taint_rule,
        resource_claim,
        resource_claim_template,
        resource_slice,
    }
    resource_v1beta1 {
        device_class,
        resource_claim,
        resource_claim_template,
        resource_slice,
    }
    resource_v1alpha3 {
        device_taint_rule,
        resource_pool_status_request,
    }
    flowcontrol_v1 {
        flow_schema,
        priority_level_configuration,
    }
    apiserverinternal_v1alpha1 {
        storage_version,
    }
    storagemigration_v1beta1 {
        storage_version_migration,
    }
}

/// The kind served under this group, version and resource name.
#[must_use]
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    ALL.iter().copied().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The kind of this group, version and kind name.
#[must_use]
pub fn by_gvk(group: &str, version: &str, name: &str) -> Option<&'static Kind> {
    ALL.iter().copied().find(|kind| kind.group == group && kind.version == version && kind.kind == name)
}

#[cfg(test)]
mod tests;
