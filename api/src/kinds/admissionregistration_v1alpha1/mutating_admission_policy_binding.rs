//! `mutatingadmissionpolicybindings` of admissionregistration.k8s.io/v1alpha1: v1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, StoredAs, describe};
use crate::kinds::admissionregistration_v1::mutating_admission_policy_binding as v1;
use crate::kinds::admissionregistration_v1beta1::mutating_admission_policy_binding as v1beta1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1alpha1",
    deprecated: Some(Deprecated::until("1.35", "1.38")),
    stored_as: Some(StoredAs::same(&v1beta1::KIND)),
    describe: describe::<k8s_openapi::api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding>,
    ..v1::KIND
};
