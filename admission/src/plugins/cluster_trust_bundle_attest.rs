//! `ClusterTrustBundleAttest`: who writes what a signer is trusted by may attest for the signer.
//!
//! The right is the verb `attest` on the resource `signers` of the signer's name, or on all names of its domain.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use crate::signers;
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct ClusterTrustBundleAttest;

pub(crate) static PLUGIN: ClusterTrustBundleAttest = ClusterTrustBundleAttest;

const PLURAL: &str = "clustertrustbundles";

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["clustertrustbundles"]
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        let concerns = |operation| signers::concerns_other(request, PLURAL, operation, "");
        let updated = concerns(Operation::Update);
        let signer = value::text(object, "spec.signerName");
        // A change of signer is refused by validation: the new name is as good as the old one.
        if !(updated || concerns(Operation::Create)) || signer.is_empty() {
            return Ok(());
        }
        if updated && essence(object) == essence(request.old) || signers::may(request, "attest", signer, lookup).await {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// The object without what garbage collection writes.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    for name in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"] {
        value::remove(&mut object, &format!("metadata.{name}"));
    }
    object
}
