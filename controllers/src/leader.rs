//! Leader election by a Lease: one process of several acts, the others wait. It never acts after its lease ran out:
//! the token it hands out is cancelled first.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::controller::Clock;

/// How a Lease is held; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who asks; unique among the candidates.
    pub identity: String,
    /// Others may take the lease so long after they last saw it renewed.
    pub duration: Duration,
    /// The holder steps down when it could not renew for so long.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry: Duration,
}

impl Election {
    /// An election with upstream's times: 15 s, 10 s, 2 s.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a candidate does about the Lease it sees.
#[derive(Debug, PartialEq)]
enum Step {
    Write(LeaseSpec),
    Wait,
}

/// The holder's record as last seen and the local moment of that; foreign clocks are not trusted.
#[derive(Debug, Default)]
struct Observed {
    spec: Option<LeaseSpec>,
    at: Option<Instant>,
}

impl Observed {
    fn see(&mut self, spec: Option<&LeaseSpec>, now: Instant) {
        if self.at.is_none() || self.spec.as_ref() != spec {
            self.spec = spec.cloned();
            self.at = Some(now);
        }
    }
}

fn plan(election: &Election, observed: &Observed, now: Instant, wall: Timestamp) -> Step {
    let held = observed.spec.clone().unwrap_or_default();
    let holder = held.holder_identity.clone().unwrap_or_default();
    let mine = holder == election.identity;
    let term = held
        .lease_duration_seconds
        .map_or(election.duration, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    let expired = observed.at.is_none_or(|at| at + term < now);
    if !mine && !holder.is_empty() && !expired {
        return Step::Wait;
    }
    let transitions = held.lease_transitions.unwrap_or(0);
    Step::Write(LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.duration.as_secs()).ok(),
        acquire_time: if mine { held.acquire_time } else { Some(MicroTime(wall)) },
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(if mine || holder.is_empty() { transitions } else { transitions.saturating_add(1) }),
        ..held
    })
}

async fn attempt(
    api: &Api<Lease>,
    election: &Election,
    observed: &mut Observed,
    clock: &Clock,
) -> Result<bool, kube::Error> {
    let live = api.get_opt(&election.name).await?;
    observed.see(live.as_ref().and_then(|lease| lease.spec.as_ref()), Instant::now());
    let Step::Write(spec) = plan(election, observed, Instant::now(), clock.now()) else { return Ok(false) };
    let written = match live {
        Some(mut lease) => {
            lease.spec = Some(spec);
            api.replace(&election.name, &PostParams::default(), &lease).await?
        }
        None => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(election.name.clone()),
                    namespace: Some(election.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
            };
            api.create(&PostParams::default(), &lease).await?
        }
    };
    observed.see(written.spec.as_ref(), Instant::now());
    Ok(true)
}

/// Waits until this candidate leads. The token returned is cancelled when leadership is lost or `stop` is; on `stop`
/// the lease is given back, so that a successor need not wait; the task returned ends after that. `None` if stopped before.
pub async fn acquire(
    client: Client,
    election: Election,
    clock: Clock,
    stop: CancellationToken,
) -> Option<(CancellationToken, JoinHandle<()>)> {
    let api: Api<Lease> = Api::namespaced(client, &election.namespace);
    let mut observed = Observed::default();
    loop {
        match attempt(&api, &election, &mut observed, &clock).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, lease = election.name, "no lease yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(election.retry) => {}
        }
    }
    tracing::info!(lease = election.name, identity = election.identity, "leading");
    let leading = stop.child_token();
    let handed = leading.clone();
    let keeper = tokio::spawn(async move {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(election.retry) => {}
            }
            let deadline = renewed + election.renew_deadline;
            let tried = tokio::time::timeout_at(deadline, attempt(&api, &election, &mut observed, &clock)).await;
            match tried {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => break,
                Ok(Err(error)) => tracing::debug!(%error, lease = election.name, "not renewed"),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        leading.cancel();
        if stop.is_cancelled() {
            let _ = tokio::time::timeout(Duration::from_secs(1), release(&api, &election)).await;
        } else {
            tracing::warn!(lease = election.name, "leadership lost");
        }
    });
    Some((handed, keeper))
}

async fn release(api: &Api<Lease>, election: &Election) -> Result<(), kube::Error> {
    let mut lease = api.get(&election.name).await?;
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(&election.identity) {
        return Ok(());
    }
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    api.replace(&election.name, &PostParams::default(), &lease).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_only_after_it_stood_still() {
        let election = Election::new("kube-system", "x", "me".to_owned());
        let wall: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start = Instant::now();
        let mut observed = Observed::default();
        let fresh = plan(&election, &observed, start, wall);
        assert!(matches!(fresh, Step::Write(spec) if spec.lease_transitions == Some(0)));

        observed.see(Some(&record("other", 3)), start);
        assert_eq!(plan(&election, &observed, start + Duration::from_secs(15), wall), Step::Wait);
        let later = start + Duration::from_secs(16);
        assert!(
            matches!(plan(&election, &observed, later, wall), Step::Write(spec) if spec.lease_transitions == Some(4))
        );
        observed.see(Some(&LeaseSpec { renew_time: Some(MicroTime(wall)), ..record("other", 3) }), later);
        assert_eq!(plan(&election, &observed, later + Duration::from_secs(10), wall), Step::Wait, "it was renewed");
        observed.see(Some(&record("me", 4)), later);
        assert!(
            matches!(plan(&election, &observed, later, wall), Step::Write(spec) if spec.lease_transitions == Some(4))
        );
        observed.see(Some(&record("", 4)), later);
        assert!(matches!(plan(&election, &observed, later, wall), Step::Write(_)), "it was given back");
    }
}
