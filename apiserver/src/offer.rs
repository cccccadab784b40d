//! What the server offers at a moment: the kinds that it serves and the documents that describe them.
//!
//! Replaced as a whole when custom resource definitions change; never changed in place.

use crate::documents::Documents;
use api::served::Served;

/// See the file.
pub struct Offer {
    /// Native kinds, by flags, and those of established definitions.
    pub served: Served,
    /// Discovery and OpenAPI.
    pub documents: Documents,
}
