//! THE TABLE of admission plugins, in upstream's order, because the order has meaning.
//!
//! One line per plugin: the module `plugins/<name>.rs` and its `PLUGIN`.

use crate::plugin::Plugin;

macro_rules! plugins {
    ($($name:ident,)*) => {
        $(#[allow(missing_docs)] pub mod $name;)*

        /// Every plugin, in order.
        pub static ALL: &[&dyn Plugin] = &[$(&$name::PLUGIN,)*];
    };
}

plugins! {
    always_admit,
    namespace_auto_provision,
    namespace_lifecycle,
    namespace_exists,
    limit_pod_hard_anti_affinity_topology,
    limit_ranger,
    service_account,
    node_restriction,
    taint_nodes_by_condition,
    always_pull_images,
    image_policy_webhook,
    pod_security,
    pod_node_selector,
    priority,
    default_toleration_seconds,
    pod_toleration_restriction,
    event_rate_limit,
    extended_resource_toleration,
    default_storage_class,
    storage_object_in_use_protection,
    pod_group_protection,
    owner_references_permission_enforcement,
    persistent_volume_claim_resize,
    runtime_class,
    certificate_approval,
    certificate_signing,
    cluster_trust_bundle_attest,
    certificate_subject_restriction,
    default_ingress_class,
    deny_service_external_ips,
    pod_topology_labels,
    pod_group_workload_exists,
    node_declared_feature_validator,
    job_validation,
    pod_resize_validator,
    mutating_admission_policy,
    mutating_admission_webhook,
    validating_admission_policy,
    validating_admission_webhook,
    resource_quota,
    always_deny,
}
