//! `deployments` of apps: replicated pods with rolling updates.
//!
//! Never does I/O; see `Hooks` for when each function runs.

use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb};
use crate::kinds::shared::parts;
use serde_json::Value;

/// The description.
pub static KIND: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[
        parts::SCALE,
        Subresource {
            name: "status",
            gvk: Gvk { group: "apps", version: "v1", kind: "Deployment" },
            verbs: Verb::PART,
            part: Part::View { merge: with_status },
        },
    ],
    generation: true,
    hooks: &Deployment,
    ..Kind::BASE
};

struct Deployment;

impl Hooks for Deployment {}

/// `deployments/status`: labels stay.
fn with_status(new: Value, old: &Value) -> Value {
    let mut deployment = parts::status_of_new(new, old);
    parts::copy(&mut deployment, old, "metadata.labels");
    deployment
}
