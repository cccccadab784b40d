//! `clustertrustbundles` of certificates.k8s.io/v1alpha1: v1beta1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, StoredAs, describe};
use crate::kinds::certificates_v1beta1::cluster_trust_bundle as v1beta1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1alpha1",
    deprecated: Some(Deprecated::until("1.34", "1.37")),
    stored_as: Some(StoredAs::same(&v1beta1::KIND)),
    describe: describe::<k8s_openapi::api::certificates::v1alpha1::ClusterTrustBundle>,
    ..v1beta1::KIND
};
