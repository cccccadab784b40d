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
    namespace_lifecycle,
    limit_ranger,
    taint_nodes_by_condition,
    service_account,
    node_restriction,
    priority,
    default_toleration_seconds,
    runtime_class,
    certificate_approval,
    certificate_signing,
    cluster_trust_bundle_attest,
    certificate_subject_restriction,
    mutating_admission_policy,
    mutating_admission_webhook,
    validating_admission_policy,
    validating_admission_webhook,
    resource_quota,
}
