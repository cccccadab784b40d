//! `servicecidrs` of networking.k8s.io/v1beta1: v1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, StoredAs, describe};
use crate::kinds::networking_v1::service_cidr as v1;
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta1",
    subresources: &[parts::status_only("networking.k8s.io", "v1beta1", "ServiceCIDR")],
    deprecated: Some(Deprecated::until("1.34", "1.37")),
    stored_as: Some(StoredAs::same(&v1::KIND)),
    describe: describe::<k8s_openapi::api::networking::v1beta1::ServiceCIDR>,
    ..v1::KIND
};
