//! `leasecandidates` of coordination.k8s.io/v1alpha2: v1beta1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, StoredAs, describe};
use crate::kinds::coordination_v1beta1::lease_candidate as v1beta1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1alpha2",
    deprecated: Some(Deprecated::until("1.35", "1.38")),
    stored_as: Some(StoredAs::same(&v1beta1::KIND)),
    describe: describe::<k8s_openapi::api::coordination::v1alpha2::LeaseCandidate>,
    ..v1beta1::KIND
};
