//! `CertificateSubjectRestriction`: nobody asks the API server's own signer for a client of `system:masters`.
//!
//! Other signers decide for themselves what they sign.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use crate::signers;
use api::json::Value;
use api::kinds::certificates_v1::certificate_signing_request;
use api::{value, x509};
use async_trait::async_trait;

/// See the file.
pub struct CertificateSubjectRestriction;

pub(crate) static PLUGIN: CertificateSubjectRestriction = CertificateSubjectRestriction;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["certificatesigningrequests"]
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if !signers::concerns(request, Operation::Create, "") || value::text(object, "spec.signerName") != SIGNER {
            return Ok(());
        }
        let wanted = certificate_signing_request::request(object)
            .map_err(|why| request.forbidden(&format!("failed to parse CSR: {why}")))?;
        if wanted.attributes(x509::ORGANIZATION).any(|group| group == MASTERS) {
            return Err(request.forbidden(&format!("use of {SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}
