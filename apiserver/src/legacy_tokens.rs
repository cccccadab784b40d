//! Legacy tokens of service accounts: since when their uses are noted, and on which day each was used last.
//!
//! Never judges a token: `authn/service_account.rs` does, and tells of uses here. Never deletes one: a controller does. Source: KEP-2799.

use crate::answer::Failure;
use crate::bootstrap;
use crate::registry::Target;
use crate::registry::write::{self, Change};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::json::{Value, json};
use api::kinds;
use api::status::Status;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The label of a token's secret with the day of its last use.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label of a token's secret that is accepted no more, with the day since when.
pub(crate) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The ConfigMap in `kube-system` that says since when uses are noted.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How often that is looked after.
const EVERY: Duration = Duration::from_secs(60);
/// Uses that wait to be noted. What does not fit is told again by the next use.
const WAITING: usize = 256;

/// A use on a day that the secret's label does not tell yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) namespace: String,
    pub(crate) secret: String,
    pub(crate) uid: String,
    /// As `2026-01-31`.
    pub(crate) day: String,
}

/// The way of uses from who sees them to who notes them.
pub(crate) fn channel() -> (mpsc::Sender<Use>, mpsc::Receiver<Use>) {
    mpsc::channel(WAITING)
}

/// The day of a Unix second, in UTC.
pub(crate) fn day(seconds: i64) -> String {
    let mut text = api::meta::time(seconds);
    text.truncate("2026-01-31".len());
    text
}

/// Whether a text is a day.
fn is_day(text: &str) -> bool {
    text.len() == "2026-01-31".len() && text.parse::<jiff::civil::Date>().is_ok()
}

/// Notes uses until `stop`, and keeps the day since when.
pub(crate) async fn follow(server: Arc<Server>, mut uses: mpsc::Receiver<Use>, stop: CancellationToken) {
    let permit = Permit::without_request("legacy-token-tracking");
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            // What every cluster has comes first.
            _ = look.tick() => match server.ready.load(Ordering::Acquire) {
                true => track(&server, &permit).await,
                false => Ok(()),
            },
            Some(one) = uses.recv() => note(&server, &permit, &one).await,
        };
        if let Err(failure) = done {
            let status = crate::answer::status(failure);
            tracing::warn!(error = status.message, "uses of legacy tokens are not noted");
        }
    }
}

fn target(kind: &str, namespace: &str, name: &str) -> Result<Target, Failure> {
    let kind = kinds::by_gvk("", "v1", kind).ok_or_else(|| Status::internal(format!("no kind {kind}")))?;
    Ok(Target { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Says since when uses are noted, where that is not said or is no day.
pub(crate) async fn track(server: &Server, permit: &Permit) -> Result<(), Failure> {
    let today = day(server.now());
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": TRACKING, "namespace": "kube-system"}, "data": {"since": today}});
    bootstrap::ensure(server, permit, object).await?;
    let target = target("ConfigMap", "kube-system", TRACKING)?;
    write::update(server, permit, &target, &bootstrap::options(), |old| {
        let mut object = old.cloned().ok_or_else(|| Status::not_found(target.resource(), TRACKING))?;
        if !is_day(api::value::text(&object, "data.since")) {
            api::value::set(&mut object, "data.since", today.clone());
        }
        Ok(Change { object, applied: false, rebased: true })
    })
    .await
    .map(drop)
}

/// Labels the secret, if it is still the one whose token was used.
async fn note(server: &Server, permit: &Permit, one: &Use) -> Result<(), Failure> {
    let target = target("Secret", &one.namespace, &one.secret)?;
    let options = bootstrap::options();
    let noted = write::update(server, permit, &target, &options, |old| {
        let gone = || Status::not_found(target.resource(), &one.secret);
        let mut object = old.filter(|old| api::meta::uid(old) == one.uid).cloned().ok_or_else(gone)?;
        if let Some(meta) = object.get_mut("metadata") {
            let mut labels = meta.get("labels").cloned().filter(Value::is_object).unwrap_or(json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.insert(LAST_USED.to_owned(), one.day.as_str().into());
            }
            api::value::set(meta, "labels", labels);
        }
        Ok(Change { object, applied: false, rebased: true })
    });
    match noted.await {
        Err(Failure::Status(status)) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;

    #[test]
    fn days() {
        assert_eq!(day(1_767_225_599), "2025-12-31");
        assert_eq!(day(1_767_225_600), "2026-01-01");
        for (text, want) in
            [("2026-01-31", true), ("2026-02-30", false), ("2026-1-31", false), ("", false), ("2026-01-31x", false)]
        {
            assert_eq!(is_day(text), want, "{text}");
        }
    }

    #[tokio::test]
    async fn uses_are_noted_on_the_secret_that_was_used() {
        let world = World::start(|_| {}).await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let get = async |path: &str| world.ask(&root, "GET", path, &Value::Null).await.1;
        let put = async |path: &str, body: Value| {
            let (code, answer) = world.ask(&root, "POST", path, &body).await;
            assert_eq!(code, 201, "{answer}");
            answer
        };
        let server = Arc::clone(world.running.server());
        let permit = Permit::without_request("test");
        track(&server, &permit).await.unwrap();
        let tracking = format!("/api/v1/namespaces/kube-system/configmaps/{TRACKING}");
        let since = get(&tracking).await;
        assert!(is_day(since["data"]["since"].as_str().unwrap()), "{since}");
        // What is no day is mended, a day stays.
        for (said, stays) in [("2020-02-02", true), ("yesterday", false)] {
            let body = json!({"data": {"since": said}});
            assert_eq!(world.ask(&root, "PATCH", &tracking, &body).await.0, 200);
            track(&server, &permit).await.unwrap();
            let since = get(&tracking).await;
            assert_eq!(since["data"]["since"] == said, stays, "{since}");
        }

        let accounts = "/api/v1/namespaces/default/serviceaccounts";
        let account = put(accounts, json!({"metadata": {"name": "till"}})).await;
        let uid = account["metadata"]["uid"].as_str().unwrap();
        let claims = crate::authn::tokens::Claims {
            iss: "kubernetes/serviceaccount".to_owned(),
            sub: "system:serviceaccount:default:till".to_owned(),
            legacy_namespace: "default".to_owned(),
            legacy_secret: "till-token".to_owned(),
            legacy_name: "till".to_owned(),
            legacy_uid: uid.to_owned(),
            ..crate::authn::tokens::Claims::default()
        };
        let token = server.signer.sign(&claims).unwrap();
        let annotations =
            json!({"kubernetes.io/service-account.name": "till", "kubernetes.io/service-account.uid": uid});
        let secret = json!({"metadata": {"name": "till-token", "annotations": annotations},
            "type": "kubernetes.io/service-account-token", "stringData": {"token": token}});
        put("/api/v1/namespaces/default/secrets", secret).await;
        let path = "/api/v1/namespaces/default/secrets/till-token";
        let review = async || {
            let body = json!({"spec": {"token": token}});
            world.ask(&root, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", &body).await.1
        };
        // Caches lag behind.
        let mut seen = Value::Null;
        for _ in 0..500 {
            let answer = review().await;
            seen = get(path).await["metadata"]["labels"][LAST_USED].clone();
            if answer["status"]["authenticated"] == json!(true) && seen != Value::Null {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(seen.as_str().is_some_and(is_day), "{seen}");
        // Another secret of the same name has not been used.
        let other = Use {
            namespace: "default".to_owned(),
            secret: "till-token".to_owned(),
            uid: "other".to_owned(),
            day: "2020-02-02".to_owned(),
        };
        note(&server, &permit, &other).await.unwrap();
        assert_eq!(get(path).await["metadata"]["labels"][LAST_USED], seen);
        // One that is invalid is refused, however often it is used.
        let body = json!({"metadata": {"labels": {INVALID_SINCE: "2026-01-01"}}});
        assert_eq!(world.ask(&root, "PATCH", path, &body).await.0, 200);
        let mut answer = Value::Null;
        for _ in 0..500 {
            answer = review().await;
            if answer["status"]["authenticated"] != json!(true) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let why = answer["status"]["error"].as_str().unwrap();
        assert!(
            why.contains(
                "the token in secret default/till-token for service account default/till has been marked invalid."
            ),
            "{answer}"
        );
        let text = server.metrics.text();
        for line in
            ["serviceaccount_legacy_manual_token_uses_total ", "serviceaccount_invalid_legacy_auto_token_uses_total "]
        {
            let count = text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or_else(|| panic!("{text}"));
            assert!(count.parse::<u64>().unwrap() > 0, "{line}{count}");
        }
    }
}
