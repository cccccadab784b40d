//! `CertificateSigning`: who issues a certificate, or says of a request why not, may sign for its signer.
//!
//! The right is the verb `sign` on the resource `signers` of the signer's name, or on all names of its domain. It is asked for the
//! status of a PodCertificateRequest too, where upstream asks outside of admission.

use crate::plugin::{Lookup, Operation, Plugin, Refusal, Request};
use crate::signers;
use api::field_path::{FieldError, Path};
use api::json::Value;
use api::status::Status;
use api::{meta, value};
use async_trait::async_trait;

/// See the file.
pub struct CertificateSigning;

pub(crate) static PLUGIN: CertificateSigning = CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["certificatesigningrequests", "podcertificaterequests"]
    }

    async fn validate(&self, request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
        if signers::concerns_other(request, "podcertificaterequests", Operation::Update, "status") {
            return of_a_pod(request, object, lookup).await;
        }
        if !signers::concerns(request, Operation::Update, "status") {
            return Ok(());
        }
        let same = value::text(object, "status.certificate") == value::text(request.old, "status.certificate")
            && value::items(object, "status.conditions") == value::items(request.old, "status.conditions");
        let signer = value::text(request.old, "spec.signerName");
        if same || signers::may(request, "sign", signer, lookup).await {
            return Ok(());
        }
        Err(request.forbidden(&format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// The same of a PodCertificateRequest, whose refusal is one of a field.
async fn of_a_pod(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
    let signer = value::text(request.old, "spec.signerName");
    if object.get("status") == request.old.get("status") || signers::may(request, "sign", signer, lookup).await {
        return Ok(());
    }
    let detail = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", request.user);
    let errors = vec![FieldError::forbidden(&Path::new("spec.signerName"), detail)];
    Err(Refusal(Status::invalid(request.kind.group, request.kind.kind, meta::name(object), &errors)))
}
