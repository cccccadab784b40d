//! Approves CertificateSigningRequests of kubelets for client certificates, where whoever asks may have them without a
//! person's word. It never denies one and never signs.

use api::x509::Request;
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
};
use kube::api::PostParams;

use crate::{
    certificate::{self, KUBELET_CLIENT},
    controller::{Context, Controller, EVENTS, Error, Next, Rule},
    informer::Key,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-approving-controller",
    aliases: &["csrapproving"],
    service_account: "certificate-controller",
    reporter: "certificate-controller",
    watches: &["certificates.k8s.io/v1.CertificateSigningRequest"],
    rules: &[
        Rule::new(&["certificates.k8s.io"], &["certificatesigningrequests"], &["delete", "get", "list", "watch"]),
        Rule::new(
            &["certificates.k8s.io"],
            &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
            &["update"],
        ),
        Rule::new(&["certificates.k8s.io"], &["signers"], &["approve"]).named(&[KUBELET_CLIENT]),
        Rule::new(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        EVENTS,
    ],
    start,
};

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        let requests = context.informers.of::<CertificateSigningRequest>();
        let queue = certificate::queue(&context);
        if requests.synced(&context.stop).await {
            context.work(CONTROLLER.name, queue, 1, reconcile).await;
        }
    }
    .boxed()
}

/// The rights that would have a request approved, each with what is said then, in the order in which they are asked for.
fn plan(request: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    let decided = certificate::has(request, "Approved") || certificate::has(request, "Denied");
    if decided || !certificate::issued(request).is_empty() || request.spec.signer_name != KUBELET_CLIENT {
        return Vec::new();
    }
    let Ok(wanted) = Request::read(&request.spec.request.0) else { return Vec::new() };
    if certificate::check_kubelet_client(&wanted, &certificate::usages(request)).is_err() {
        return Vec::new();
    }
    let own = request.spec.username.as_deref() == Some(wanted.common_name());
    let of_self = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    let of_other = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    if own { vec![of_self, of_other] } else { vec![of_other] }
}

/// The question whether the user who asks may `create` this subresource of requests.
fn question(request: &CertificateSigningRequest, subresource: &str) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

async fn reconcile(context: Context, name: String) -> Result<Next, Error> {
    let Some(request) = context.informers.of::<CertificateSigningRequest>().get(&Key::new("", &name)) else {
        return Ok(Next::Done);
    };
    let rights = plan(&request);
    let recognised = !rights.is_empty();
    for (right, message) in rights {
        let review = context.cluster_api::<SubjectAccessReview>();
        let answer = review.create(&PostParams::default(), &question(&request, right)).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            let mut approved = (*request).clone();
            let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
            conditions.push(CertificateSigningRequestCondition {
                type_: "Approved".to_owned(),
                status: "True".to_owned(),
                reason: Some("AutoApproved".to_owned()),
                message: Some(message.to_owned()),
                ..CertificateSigningRequestCondition::default()
            });
            let api = context.cluster_api::<CertificateSigningRequest>();
            api.replace_subresource("approval", &name, &PostParams::default(), &approved).await?;
            return Ok(Next::Done);
        }
    }
    if recognised {
        // Rights may come later.
        return Err(Error::NotYet(format!("{name} is a kubelet's request, and its user may not have it unasked")));
    }
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn only_what_kubelets_ask_for_themselves_is_recognised() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let mut request = CertificateSigningRequest::default();
        request.spec.request = ByteString(pem.into_bytes());
        request.spec.signer_name = KUBELET_CLIENT.to_owned();
        request.spec.usages = Some(vec!["client auth".to_owned(), "digital signature".to_owned()]);
        request.spec.username = Some("system:bootstrap:abcdef".to_owned());
        let rights =
            |request: &CertificateSigningRequest| plan(request).into_iter().map(|(right, _)| right).collect::<Vec<_>>();
        assert_eq!(rights(&request), ["nodeclient"]);
        request.spec.username = Some("system:node:a".to_owned());
        assert_eq!(rights(&request), ["selfnodeclient", "nodeclient"]);
        let review = question(&request, "selfnodeclient").spec;
        assert_eq!(review.user.as_deref(), Some("system:node:a"));
        for change in [
            |request: &mut CertificateSigningRequest| request.spec.signer_name = "example.com/x".to_owned(),
            |request: &mut CertificateSigningRequest| request.spec.usages = Some(vec!["server auth".to_owned()]),
            |request: &mut CertificateSigningRequest| request.spec.request = ByteString(Vec::new()),
            |request: &mut CertificateSigningRequest| {
                let denied = CertificateSigningRequestCondition { type_: "Denied".to_owned(), ..Default::default() };
                request.status.get_or_insert_default().conditions = Some(vec![denied]);
            },
        ] {
            let mut other = request.clone();
            change(&mut other);
            assert_eq!(rights(&other), [""; 0]);
        }
    }
}
