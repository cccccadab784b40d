//! `resourceclaims` of resource.k8s.io/v1beta2: v1 under its older name.
//!
//! Never does anything of its own.

use crate::kind::{Deprecated, Gvk, Kind, Part, StoredAs, Subresource, Verb, describe};
use crate::kinds::resource_v1::resource_claim as v1;

/// The description.
pub static KIND: Kind = Kind {
    version: "v1beta2",
    subresources: &[Subresource {
        name: "status",
        gvk: Gvk { group: "resource.k8s.io", version: "v1beta2", kind: "ResourceClaim" },
        verbs: Verb::PART,
        part: Part::View { merge: v1::with_status },
    }],
    deprecated: Some(Deprecated::until("1.36", "1.39")),
    stored_as: Some(StoredAs::same(&v1::KIND)),
    describe: describe::<k8s_openapi::api::resource::v1beta2::ResourceClaim>,
    ..v1::KIND
};
