//! Leader election by a Lease: of several schedulers one acts. Its token is cancelled before its lease can be another's.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Others may take a lease so long after they saw it renewed last.
const DURATION: Duration = Duration::from_secs(15);
/// The holder steps down when it could not renew for so long.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between tries.
const RETRY: Duration = Duration::from_secs(2);

/// A candidate's view of the lease. Foreign clocks are not trusted: what counts is when the record was last seen to change.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    namespace: String,
    identity: String,
    seen: Option<(Option<LeaseSpec>, Instant)>,
}

/// The record to write, or `None` while another holds the lease. `since`: when the record was seen to change.
fn wanted(
    identity: &str,
    record: Option<&LeaseSpec>,
    since: Instant,
    now: Instant,
    wall: Timestamp,
) -> Option<LeaseSpec> {
    let held = record.cloned().unwrap_or_default();
    let holder = held.holder_identity.clone().unwrap_or_default();
    let term = held.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let mine = holder == identity;
    if !mine && !holder.is_empty() && now < since + term.unwrap_or(DURATION) {
        return None;
    }
    let transitions = held.lease_transitions.unwrap_or_default();
    Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if mine { held.acquire_time.clone() } else { Some(MicroTime(wall)) },
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(if mine || holder.is_empty() { transitions } else { transitions.saturating_add(1) }),
        ..held
    })
}

impl Candidate {
    /// A candidate for the lease `namespace/name`.
    #[must_use]
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// One try; whether the lease is held afterwards.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let live = self.api.get_opt(&self.name).await?;
        let record = live.as_ref().and_then(|lease| lease.spec.clone());
        let now = Instant::now();
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        let Some(spec) = wanted(&self.identity, record.as_ref(), since, now, Timestamp::now()) else {
            return Ok(false);
        };
        match live {
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await?;
            }
        }
        Ok(true)
    }

    /// Waits until the lease is held; `false` when stopped before.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "no lease yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Renews until `stop`, then gives the lease back; returns earlier when it is lost.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(Duration::from_secs(1), self.release()).await;
                    return;
                }
                () = tokio::time::sleep(RETRY) => {}
            }
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the lease is not renewed"),
                Err(_) => {}
            }
            if Instant::now() >= renewed + RENEW_DEADLINE {
                return;
            }
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_after_it_stood_still() {
        let start = Instant::now();
        let wall: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let record = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        let check = |holder: Option<&str>, seconds: u64, want: Option<i32>| {
            let now = start + Duration::from_secs(seconds);
            let got = wanted("me", holder.map(record).as_ref(), start, now, wall);
            assert_eq!(got.map(|spec| spec.lease_transitions.unwrap()), want, "{holder:?} {seconds}");
        };
        check(None, 0, Some(0));
        check(Some("other"), 14, None);
        check(Some("other"), 15, Some(4));
        check(Some("me"), 0, Some(3));
        check(Some(""), 0, Some(3));
    }
}
