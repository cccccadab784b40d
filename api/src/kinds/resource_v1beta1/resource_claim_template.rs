//! `resourceclaimtemplates` of resource.k8s.io/v1beta1: v1 with another nesting.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, describe};
use crate::kinds::resource_v1::resource_claim_template as v1;
use crate::kinds::shared::device_versions;
use crate::kinds::shared::through::Through;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta1",
    deprecated: Some(Deprecated::until("1.35", "1.38")),
    stored_as: Some(device_versions::template(&v1::KIND)),
    describe: describe::<k8s_openapi::api::resource::v1beta1::ResourceClaimTemplate>,
    hooks: &Through(|| &KIND),
    ..v1::KIND
};
