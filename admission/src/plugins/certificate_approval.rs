//! `CertificateApproval`: who approves or denies a CertificateSigningRequest may approve for its signer.
//!
//! The right is the verb `approve` on the resource `signers` of the signer's name, or on all names of its domain.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use crate::signers;
use api::json::Value;
use api::value;
use async_trait::async_trait;

/// See the file.
pub struct CertificateApproval;

pub(crate) static PLUGIN: CertificateApproval = CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["certificatesigningrequests"]
    }

    async fn validate(&self, request: &Request<'_>, _: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if !signers::concerns(request, Operation::Update, "approval") {
            return Ok(());
        }
        // The stored one: naming another signer must not help.
        let signer = value::text(request.old, "spec.signerName");
        if signers::may(request, "approve", signer, lookup).await {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}
