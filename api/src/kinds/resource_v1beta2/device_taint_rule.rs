//! `devicetaintrules` of resource.k8s.io/v1beta2: what is stored as v1alpha3.
//!
//! Never does anything of its own.

use crate::kind::{Kind, StoredAs, describe};
use crate::kinds::resource_v1alpha3::device_taint_rule as v1alpha3;
use crate::kinds::shared::parts;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta2",
    subresources: &[parts::status_only("resource.k8s.io", "v1beta2", "DeviceTaintRule")],
    deprecated: None,
    stored_as: Some(StoredAs::same(&v1alpha3::KIND)),
    describe: describe::<k8s_openapi::api::resource::v1beta2::DeviceTaintRule>,
    ..v1alpha3::KIND
};
