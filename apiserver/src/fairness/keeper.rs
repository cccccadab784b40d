//! Keeps priority and fairness at what its objects say, and the objects at what they must be: makes those that every cluster has, takes up
//! changes, says in schemas whether their level is there, and lets levels borrow of each other.
//!
//! Decides nothing about a request. Source: KEP-1040; upstream's config controller and its ensurer.

use super::bootstrap::{self, Object, revised};
use super::levels::Judged;
use super::{Fairness, Seats};
use crate::answer::{Failure, status};
use crate::cache::Cache;
use crate::registry::write::{self, Change, DeleteOptions, Options};
use crate::registry::{Target, read};
use crate::road::authorized::Permit;
use crate::server::Server;
use api::apply::{self, Manager, Operation};
use api::json::{Value, json};
use api::kind::Kind;
use api::status::Status;
use futures::future::{join_all, pending, try_join_all};
use k8s_openapi::api::flowcontrol::v1 as wire;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const VERSION: &str = "v1";
/// Who owns the fields of what is made, and of what is said of it.
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";

/// How often objects are made what they must be.
const ENSURE_EVERY: Duration = Duration::from_secs(60);
/// How often levels borrow anew.
const LEND_EVERY: Duration = Duration::from_secs(10);
/// How often the requests in progress are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often the status of one schema is written within a minute: servers that disagree must not fight without end.
const WRITES: usize = 6;

/// Makes what every cluster has, and what is not right, right. Nothing where the kinds are not served.
///
/// # Errors
/// The first write that fails, other than by a race.
pub(crate) async fn ensure(server: &Server, permit: &Permit) -> Result<(), Failure> {
    if !matches!(server.seats, Seats::Fair(_)) || cache::<wire::FlowSchema>(server).is_none() {
        return Ok(());
    }
    let (levels, schemas) = (bootstrap::suggested_levels(), bootstrap::suggested_schemas());
    let (firm_levels, firm_schemas) = (bootstrap::mandatory_levels(), bootstrap::mandatory_schemas());
    // Together, so that they share commits.
    tokio::try_join!(
        ensure_all(server, permit, &levels, false),
        ensure_all(server, permit, &schemas, false),
        ensure_all(server, permit, &firm_levels, true),
        ensure_all(server, permit, &firm_schemas, true),
    )?;
    remove_others(server, permit, &[schemas, firm_schemas].concat()).await?;
    remove_others(server, permit, &[levels, firm_levels].concat()).await
}

/// Follows the objects until the server's end.
pub(crate) fn start(server: &Arc<Server>) {
    let stop = server.ends.end.clone();
    match &server.seats {
        Seats::Fair(fairness) => {
            let lingering = Arc::clone(fairness);
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move { lingering.linger().await }));
            let (server, fairness) = (Arc::clone(server), Arc::clone(fairness));
            digest(&server, &fairness);
            tokio::spawn(stop.run_until_cancelled_owned(async move { follow(&server, &fairness).await }));
        }
        Seats::Plain(_) => {
            let server = Arc::clone(server);
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                let mut tell = interval(TELL_EVERY);
                loop {
                    tell.tick().await;
                    if let Seats::Plain(plain) = &server.seats {
                        plain.tell();
                    }
                }
            }));
        }
    }
}

async fn follow(server: &Server, fairness: &Fairness) {
    let mut levels = cache::<wire::PriorityLevelConfiguration>(server).map(|cache| cache.moves());
    let mut schemas = cache::<wire::FlowSchema>(server).map(|cache| cache.moves());
    let every = |period: Duration| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut ensured, mut lent, mut told) = (every(ENSURE_EVERY), every(LEND_EVERY), every(TELL_EVERY));
    // The start has done it.
    ensured.tick().await;
    let mut writes = Writes::default();
    let permit = Permit::without_request("priority-and-fairness");
    loop {
        let anew = tokio::select! {
            () = moved(&mut levels) => true,
            () = moved(&mut schemas) => true,
            _ = told.tick() => {
                fairness.shared.in_flight.tell();
                false
            }
            _ = lent.tick() => {
                fairness.rebalance();
                fairness.has_idle_remains()
            }
            _ = ensured.tick() => {
                if let Err(failure) = ensure(server, &permit).await {
                    let why = status(failure).message;
                    tracing::warn!(why, "flow schemas and priority levels could not be made what they must be");
                }
                // What could not be written before.
                true
            }
        };
        if anew {
            let judged = digest(server, fairness);
            tell(server, &permit, judged, &mut writes).await;
        }
    }
}

async fn moved(cache: &mut Option<watch::Receiver<u64>>) {
    let gone = match cache {
        Some(moves) => moves.changed().await.is_err(),
        None => true,
    };
    if gone {
        pending::<()>().await;
    }
}

fn kind<O: Object>() -> Option<&'static Kind> {
    api::kinds::by_resource(GROUP, VERSION, O::RESOURCE)
}

fn cache<O: Object>(server: &Server) -> Option<Arc<Cache>> {
    server.caches.of(kind::<O>()?)
}

fn all<O: Object>(server: &Server) -> Option<Vec<O>> {
    // What cannot be read is not gone.
    let snapshot = cache::<O>(server)?.any(None).ok()?;
    Some(snapshot.objects.values().filter_map(|entry| api::json::from_slice(&entry.json).ok()).collect())
}

/// What is to be said of a schema, unless it is there already.
struct Verdict {
    judged: Judged,
    condition: Value,
}

/// Takes up the objects; says which schemas do not tell the truth about their level.
fn digest(server: &Server, fairness: &Fairness) -> Vec<Verdict> {
    let (Some(levels), Some(schemas)) = (all(server), all::<wire::FlowSchema>(server)) else { return Vec::new() };
    let judged = fairness.digest(&levels, &schemas);
    let verdicts = judged.into_iter().zip(&schemas).filter_map(|(judged, schema)| {
        let (status, reason, end) = if judged.dangling {
            ("True", "NotFound", "but there is no such object")
        } else {
            ("False", "Found", "and it exists")
        };
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {:?} {end}", judged.level);
        let conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let told = conditions.filter(|condition| condition.type_.as_deref() == Some("Dangling")).any(|condition| {
            condition.status.as_deref() == Some(status)
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(&message)
        });
        let condition = json!({"type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": server.now_text()});
        (!told).then_some(Verdict { judged, condition })
    });
    verdicts.collect()
}

/// When the status of each schema was written in the last minute.
#[derive(Default)]
struct Writes(HashMap<String, VecDeque<Instant>>);

impl Writes {
    fn may(&mut self, schema: &str) -> bool {
        let now = Instant::now();
        self.0.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < Duration::from_secs(60));
            !times.is_empty()
        });
        let times = self.0.entry(schema.to_owned()).or_default();
        let may = times.len() < WRITES;
        if may {
            times.push_back(now);
        }
        may
    }
}

async fn tell(server: &Server, permit: &Permit, verdicts: Vec<Verdict>, writes: &mut Writes) {
    let allowed = verdicts.into_iter().filter(|verdict| writes.may(&verdict.judged.schema));
    let written = join_all(allowed.map(|verdict| async move {
        let outcome = say(server, permit, &verdict).await;
        (verdict.judged.schema, outcome)
    }));
    for (schema, outcome) in written.await {
        match outcome.map_err(status) {
            // It has gone meanwhile.
            Err(status) if status.code == 404 => {}
            Err(status) => {
                tracing::warn!(schema, why = status.message, "the status of a flow schema could not be written");
            }
            Ok(()) => {}
        }
    }
}

/// Applies the condition of a schema.
async fn say(server: &Server, permit: &Permit, verdict: &Verdict) -> Result<(), Failure> {
    let target = target::<wire::FlowSchema>(&verdict.judged.schema)?;
    let kind = target.kind;
    let applied = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": target.name},
        "status": {"conditions": [verdict.condition]}});
    let options = Options { manager: CONSUMER.to_owned(), subresource: "status".to_owned(), ..Options::default() };
    let (time, version) = (server.now_text(), kind.api_version());
    let who = Manager {
        manager: CONSUMER,
        operation: Operation::Apply,
        api_version: &version,
        time: &time,
        subresource: "status",
        versions: Some(kind),
    };
    write::update(server, permit, &target, &options, |old| {
        let Some(old) = old else { return Err(Status::not_found(target.resource(), &target.name).into()) };
        let reset = write::reset_fields(kind, "status");
        let object = apply::apply_resetting(Some(old), &applied, kind.schema(), &who, true, &reset);
        object
            .map(|object| Change { object, applied: true, rebased: true })
            .map_err(|error| Status::internal(format!("{error:?}")).into())
    })
    .await
    .map(drop)
}

fn target<O: Object>(name: &str) -> Result<Target, Failure> {
    let kind = kind::<O>().ok_or_else(|| Status::internal(format!("no kind for {}", O::RESOURCE)))?;
    Ok(Target { kind, namespace: String::new(), name: name.to_owned() })
}

async fn ensure_all<O: Object>(server: &Server, permit: &Permit, wanted: &[O], mandatory: bool) -> Result<(), Failure> {
    try_join_all(wanted.iter().map(|wanted| ensure_one(server, permit, wanted, mandatory))).await.map(drop)
}

async fn ensure_one<O: Object>(server: &Server, permit: &Permit, wanted: &O, mandatory: bool) -> Result<(), Failure> {
    let target = target::<O>(wanted.name())?;
    let options = Options { manager: PRODUCER.to_owned(), ..Options::default() };
    let value = |object: &O| api::json::to_value(object).map_err(|error| Failure::from(Status::internal(error)));
    let Some(entry) = read::find(server, permit, &target).await? else {
        let made = write::create(server, permit, &target.named(""), value(wanted)?, &options, false).await;
        return settled(made.map(drop), "AlreadyExists");
    };
    let current: O = api::json::from_slice(&entry.json).map_err(Status::internal)?;
    let Some(revised) = revised(&current, wanted, mandatory) else { return Ok(()) };
    let revised = value(&revised)?;
    let change = |_: Option<&Value>| Ok(Change { object: revised.clone(), applied: false, rebased: false });
    // Who was faster is looked at the next time.
    settled(write::update(server, permit, &target, &options, change).await.map(drop), "Conflict")
}

fn settled(outcome: Result<(), Failure>, fine: &str) -> Result<(), Failure> {
    match outcome {
        Err(Failure::Status(status)) if status.reason == fine => Ok(()),
        outcome => outcome,
    }
}

/// Removes objects that a server has made once and none makes any more.
async fn remove_others<O: Object>(server: &Server, permit: &Permit, wanted: &[O]) -> Result<(), Failure> {
    let named = |object: &O| wanted.iter().any(|wanted| wanted.name() == object.name());
    for object in all::<O>(server).unwrap_or_default() {
        if object.auto_update() == Some(true) && !named(&object) {
            let gone = write::delete(server, permit, &target::<O>(object.name())?, &DeleteOptions::default()).await;
            settled(gone.map(drop), "NotFound")?;
        }
    }
    Ok(())
}
