//! `resourceslices` of resource.k8s.io/v1beta2: v1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Kind, StoredAs, describe};
use crate::kinds::resource_v1::resource_slice as v1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta2",
    deprecated: Some(Deprecated::until("1.36", "1.39")),
    stored_as: Some(StoredAs::same(&v1::KIND)),
    describe: describe::<k8s_openapi::api::resource::v1beta2::ResourceSlice>,
    ..v1::KIND
};
