//! `mutatingadmissionpolicies` of admissionregistration.k8s.io/v1beta1: v1 under its older name, under which objects are stored, as upstream's are.
//!
//! Never does anything of its own.

use crate::kind::{Kind, describe};
use crate::kinds::admissionregistration_v1::mutating_admission_policy as v1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta1",
    stored_as: None,
    describe: describe::<k8s_openapi::api::admissionregistration::v1beta1::MutatingAdmissionPolicy>,
    ..v1::KIND
};
