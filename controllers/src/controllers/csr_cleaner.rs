//! Deletes CertificateSigningRequests that are of no use any more: answered an hour ago, unanswered for a day, or for a
//! certificate that has ended. It never answers one.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{api::certificates::v1::CertificateSigningRequest, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    certificate,
    controller::{self, Context, Controller, Error, Next, Rule},
    object,
    queue::Queue,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    aliases: &["csrcleaner"],
    service_account: "certificate-controller",
    reporter: "certificate-controller",
    watches: &["certificates.k8s.io/v1.CertificateSigningRequest"],
    rules: &[Rule::new(&["certificates.k8s.io"], &["certificatesigningrequests"], &["delete", "get", "list", "watch"])],
    start,
};

/// Time between sweeps.
const PERIOD: Duration = Duration::from_secs(3600);
/// What is answered stays this long, seconds.
const ANSWERED: i64 = 3600;
/// What is not stays this long, seconds.
const PENDING: i64 = 24 * 3600;

fn start(context: Context) -> BoxFuture<'static, ()> {
    async move {
        if !context.informers.of::<CertificateSigningRequest>().synced(&context.stop).await {
            return;
        }
        let queue: Arc<Queue<()>> = Arc::default();
        queue.add(());
        context.work(CONTROLLER.name, queue, 1, |context, ()| sweep(context)).await;
    }
    .boxed()
}

fn is_past(request: &CertificateSigningRequest, now: Timestamp) -> bool {
    let older = |time: Option<&Time>, limit| time.is_some_and(|time| object::seconds_between(time.0, now) > limit);
    let since = |type_, limit| {
        certificate::conditions(request, type_).any(|condition| older(condition.last_update_time.as_ref(), limit))
    };
    let issued = certificate::issued(request);
    let ended = || api::x509::expiry(issued).is_some_and(|end| now.as_second() > end);
    let unanswered = request.status.as_ref().and_then(|status| status.conditions.as_ref()).is_none_or(Vec::is_empty);
    let approved = if issued.is_empty() {
        since("Approved", PENDING)
    } else {
        since("Approved", ANSWERED) || certificate::has(request, "Approved") && ended()
    };
    approved
        || since("Denied", ANSWERED)
        || since("Failed", ANSWERED)
        || unanswered && older(request.metadata.creation_timestamp.as_ref(), PENDING)
}

async fn sweep(context: Context) -> Result<Next, Error> {
    let api = context.cluster_api::<CertificateSigningRequest>();
    for request in context.informers.of::<CertificateSigningRequest>().all() {
        if is_past(&request, context.now()) {
            controller::delete(&api, object::name(&request.metadata), request.metadata.uid.as_deref()).await?;
        }
    }
    Ok(Next::After(PERIOD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequestCondition};

    #[test]
    fn answers_are_kept_for_an_hour_and_questions_for_a_day() {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        let ago = |seconds: i64| object::time(Timestamp::from_second(now.as_second() - seconds).unwrap());
        let request = |condition: Option<(&str, i64)>, certificate: &str| {
            let mut request = CertificateSigningRequest::default();
            request.metadata.creation_timestamp = Some(ago(PENDING + 1));
            let status = request.status.get_or_insert_default();
            status.conditions = condition.map(|(type_, seconds)| {
                let last_update_time = Some(ago(seconds));
                vec![CertificateSigningRequestCondition {
                    type_: type_.to_owned(),
                    last_update_time,
                    ..Default::default()
                }]
            });
            status.certificate = (!certificate.is_empty()).then(|| ByteString(certificate.as_bytes().to_vec()));
            request
        };
        let mut ended = rcgen::CertificateParams::default();
        ended.not_after = rcgen::date_time_ymd(2025, 1, 1);
        let ended = ended.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        for (condition, certificate, past) in [
            (None, "", true),
            (Some(("Other", 0)), "", false),
            (Some(("Approved", ANSWERED + 1)), "x", true),
            (Some(("Approved", ANSWERED)), "x", false),
            (Some(("Approved", ANSWERED)), ended.as_str(), true),
            (Some(("Approved", PENDING)), "", false),
            (Some(("Approved", PENDING + 1)), "", true),
            (Some(("Denied", ANSWERED + 1)), "", true),
            (Some(("Failed", ANSWERED)), "", false),
            (Some(("Failed", ANSWERED + 1)), "", true),
        ] {
            assert_eq!(is_past(&request(condition, certificate), now), past, "{condition:?}");
        }
        let mut young = request(None, "");
        young.metadata.creation_timestamp = Some(ago(PENDING));
        assert!(!is_past(&young, now));
    }
}
