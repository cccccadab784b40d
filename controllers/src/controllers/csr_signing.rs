//! Signs approved CertificateSigningRequests of the four signers of `kubernetes.io` with the cluster's authority. It never
//! approves, and says of a request that its signer cannot take that it failed.

use api::x509::Request;
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
};
use kube::api::PostParams;

use crate::{
    certificate::{self, Authority, CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, SignError},
    controller::{Context, Controller, Error, Next, Options, Rule},
    informer::Key,
    object,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    aliases: &["csrsigning"],
    service_account: "certificate-controller",
    reporter: "certificate-controller",
    watches: &["certificates.k8s.io/v1.CertificateSigningRequest"],
    rules: &[Rule::new(&["certificates.k8s.io"], &["signers"], &["sign"]).named(&[
        CLIENT,
        KUBELET_CLIENT,
        KUBELET_SERVING,
        LEGACY_UNKNOWN,
    ])],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        if context.options.cluster_ca_key_pem.is_empty() {
            tracing::info!("no certificate is signed: the key of the cluster's authority is not at hand");
            context.stop.cancelled().await;
            return;
        }
        let requests = context.informers.of::<CertificateSigningRequest>();
        let queue = certificate::queue(&context);
        if requests.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, context.options.workers, reconcile).await;
        }
    }
    .boxed()
}

/// What the status of a request becomes.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Issued(String),
    Failed(String),
}

fn plan(request: &CertificateSigningRequest, options: &Options, now: Timestamp) -> Result<Option<Outcome>, Error> {
    let has = |type_| certificate::has(request, type_);
    let failed =
        certificate::conditions(request, "Failed").any(|failed| failed.status.is_empty() || failed.status == "True");
    if !has("Approved") || has("Denied") || failed || !certificate::issued(request).is_empty() {
        return Ok(None);
    }
    let usages = certificate::usages(request);
    let signer = request.spec.signer_name.as_str();
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN].contains(&signer) {
        return Ok(None);
    }
    let wanted = Request::read(&request.spec.request.0).map_err(Error::NotYet)?;
    let checked = match signer {
        CLIENT => certificate::check_client(&usages),
        KUBELET_CLIENT => certificate::check_kubelet_client(&wanted, &usages),
        KUBELET_SERVING => certificate::check_kubelet_serving(&wanted, &usages),
        _ => Ok(()),
    };
    if let Err(why) = checked {
        return Ok(Some(Outcome::Failed(why)));
    }
    let authority = Authority {
        certificate: match options.cluster_signing_cert_pem.as_str() {
            "" => &options.cluster_ca_pem,
            own => own,
        },
        key: &options.cluster_ca_key_pem,
        longest: i64::try_from(options.cluster_signing_duration.as_secs()).unwrap_or(i64::MAX),
    };
    match certificate::sign(authority, &wanted, &usages, request.spec.expiration_seconds.map(i64::from), now) {
        Ok(pem) => Ok(Some(Outcome::Issued(pem))),
        Err(why @ (SignError::Authority(_) | SignError::Request(_))) => Err(Error::NotYet(why.to_string())),
    }
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    let Some(request) = context.informers.of::<CertificateSigningRequest>().get(&Key::new("", &name)) else {
        return Ok(Next::Done);
    };
    let Some(outcome) = plan(&request, &context.options, context.now())? else { return Ok(Next::Done) };
    let mut request = (*request).clone();
    let status = request.status.get_or_insert_default();
    match outcome {
        Outcome::Issued(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
        Outcome::Failed(why) => status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
            type_: "Failed".to_owned(),
            status: "True".to_owned(),
            reason: Some("SignerValidationFailure".to_owned()),
            message: Some(why),
            last_update_time: Some(object::time(context.now())),
            ..CertificateSigningRequestCondition::default()
        }),
    }
    let api = context.cluster_api::<CertificateSigningRequest>();
    api.replace_status(&name, &PostParams::default(), &request).await?;
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_approved_are_signed_or_fail() {
        let ca = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let options = Options {
            cluster_ca_pem: params.self_signed(&ca).unwrap().pem(),
            cluster_ca_key_pem: ca.serialize_pem(),
            ..Options::default()
        };
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = |signer: &str, usage: &str, conditions: &[&str]| {
            let mut request = CertificateSigningRequest::default();
            request.spec.request = ByteString(pem.clone().into_bytes());
            request.spec.signer_name = signer.to_owned();
            request.spec.usages = Some(vec![usage.to_owned()]);
            let conditions = conditions.iter().map(|type_| CertificateSigningRequestCondition {
                type_: (*type_).to_owned(),
                status: "True".to_owned(),
                ..Default::default()
            });
            request.status.get_or_insert_default().conditions = Some(conditions.collect());
            request
        };
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let outcome = |request: &CertificateSigningRequest| match plan(request, &options, now).unwrap() {
            None => String::new(),
            Some(Outcome::Issued(pem)) => {
                assert_eq!(api::x509::check_certificates(pem.as_bytes()), Ok(()));
                "issued".to_owned()
            }
            Some(Outcome::Failed(why)) => why,
        };
        for (signer, usage, conditions, expected) in [
            (CLIENT, "client auth", &["Approved"][..], "issued"),
            (LEGACY_UNKNOWN, "server auth", &["Approved"], "issued"),
            (CLIENT, "client auth", &[], ""),
            (CLIENT, "client auth", &["Approved", "Denied"], ""),
            (CLIENT, "client auth", &["Approved", "Failed"], ""),
            ("example.com/x", "client auth", &["Approved"], ""),
            (CLIENT, "server auth", &["Approved"], "invalid usage for client certificate: server auth"),
            (KUBELET_CLIENT, "client auth", &["Approved"], "subject organization is not system:nodes"),
            (KUBELET_SERVING, "server auth", &["Approved"], "subject organization is not system:nodes"),
        ] {
            assert_eq!(outcome(&request(signer, usage, conditions)), expected, "{signer} {conditions:?}");
        }
        let mut issued = request(CLIENT, "client auth", &["Approved"]);
        issued.status.get_or_insert_default().certificate = Some(ByteString(vec![1]));
        assert_eq!(outcome(&issued), "");
    }
}
