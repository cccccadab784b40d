//! The table of controllers: one line each, one file each beside it. It decides nothing.

use crate::controller::{COMPONENT, Controller};

/// The service accounts of all that have one of their own.
pub fn accounts() -> impl Iterator<Item = &'static str> {
    CONTROLLERS.iter().map(|one| one.service_account).filter(|account| *account != COMPONENT)
}

macro_rules! controllers {
    ($($name:ident),+; on request: $($asked:ident),+; with a gate: $($gated:ident = $gate:literal),+ $(,)?) => {
        $(pub(crate) mod $name;)+
        $(pub(crate) mod $asked;)+
        $(pub(crate) mod $gated;)+
        /// All controllers, in the order in which they start.
        pub static CONTROLLERS: &[&Controller] = &[
            $(&$name::CONTROLLER,)+ $(&$asked::CONTROLLER,)+ $(&$gated::CONTROLLER),+
        ];
        /// Those that run only where `--controllers` names them, as upstream.
        pub(crate) static ON_REQUEST: &[&Controller] = &[$(&$asked::CONTROLLER),+];
        /// Those that are there with a feature gate alone, each with its gate, and so are their roles.
        pub static GATED: &[(&Controller, &str)] = &[$((&$gated::CONTROLLER, $gate)),+];
    };
}

controllers! {
    namespace,
    service_account_token,
    service_account,
    root_ca_publisher,
    deployment,
    replica_set,
    replication_controller,
    daemon_set,
    stateful_set,
    job,
    ttl_after_finished,
    persistent_volume_binder,
    persistent_volume_claim_protection,
    persistent_volume_protection,
    volume_attributes_class_protection,
    cron_job,
    disruption,
    resource_quota,
    endpoint_slice,
    endpoints,
    endpoint_slice_mirroring,
    garbage_collector,
    node_lifecycle,
    node_ipam,
    taint_eviction,
    pod_gc,
    csr_approving,
    csr_signing,
    csr_cleaner,
    admission_policy_status,
    legacy_token_cleaner,
    service_cidr;
    on request:
    bootstrap_signer,
    token_cleaner;
    with a gate:
    pod_group_protection = "GenericWorkload",
}
