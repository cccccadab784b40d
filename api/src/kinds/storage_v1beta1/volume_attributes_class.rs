//! `volumeattributesclasses` of storage.k8s.io/v1beta1: v1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Gvk, Kind, StoredAs, describe};
use crate::kinds::storage_v1::volume_attributes_class as v1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta1",
    deprecated: Some(Deprecated {
        since: "1.34",
        removed: Some("1.37"),
        instead: Some(Gvk { group: "storage.k8s.io", version: "v1", kind: "VolumeAttributesClass" }),
        said: None,
    }),
    stored_as: Some(StoredAs::same(&v1::KIND)),
    describe: describe::<k8s_openapi::api::storage::v1beta1::VolumeAttributesClass>,
    ..v1::KIND
};
