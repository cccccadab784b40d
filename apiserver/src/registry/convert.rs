//! Objects of definitions whose versions only a webhook can convert, in the version that is asked for.
//!
//! The store and the cache hold one version; what a webhook has made of an object of the cache is remembered beside it, so that a list
//! asks once for what has changed and an event is converted once for all who watch a version. What other definitions' versions are to
//! each other is said by their kinds; nothing here touches them. Never decides what a webhook may change: that is
//! `api/src/custom/conversion.rs`.

use crate::answer::Failure;
use crate::cache::{Converted, Entry};
use crate::webhook::Webhooks;
use admission::dynamic::Client;
use api::custom::conversion::{self, Conversion};
use api::json::Value;
use api::kind::Kind;
use api::status::Status;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a webhook may take; upstream's for all webhooks that say nothing else.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most objects of one question.
const MOST: usize = 1000;
/// The most bytes of one question, beside its last object.
const LARGEST: usize = 4 << 20;

/// Asks conversion webhooks.
pub struct Conversions {
    webhooks: Arc<Webhooks>,
    turns: Mutex<HashMap<usize, Arc<Turn>>>,
}

/// Who asks for many objects of a version; the others wait and find what they want beside the objects. Those who waited for a question
/// that failed are told of it, instead of asking one after the other.
#[derive(Default)]
struct Turn(tokio::sync::Mutex<Option<(Instant, String)>>);

impl Conversions {
    /// One that asks through these.
    #[must_use]
    pub fn new(webhooks: Arc<Webhooks>) -> Conversions {
        Conversions { webhooks, turns: Mutex::default() }
    }

    /// One object in the version of `kind`.
    ///
    /// # Errors
    /// 500 with upstream's sentence when the webhook cannot be asked or gives nothing good.
    pub async fn one(&self, kind: &'static Kind, entry: Arc<Entry>) -> Result<Arc<Entry>, Failure> {
        let Some(conversion) = foreign(kind, &entry) else { return Ok(entry) };
        let converted = entry.other(kind);
        let asked = || async {
            if let Some(value) = unasked(kind, &entry) {
                return Ok(Arc::new(entry.converted(kind, value)));
            }
            let mut given = self.ask(conversion, kind, &[entry.value()]).await?;
            Ok::<_, String>(Arc::new(entry.converted(kind, given.pop().unwrap_or_default())))
        };
        converted.get_or_try_init(asked).await.cloned().map_err(refuse)
    }

    /// Many objects in the version of `kind`, in place, with few questions.
    ///
    /// # Errors
    /// As for `one`.
    pub async fn all(&self, kind: &'static Kind, entries: &mut [Arc<Entry>]) -> Result<(), Failure> {
        let Some(conversion) = kind.custom.and_then(|custom| custom.conversion) else { return Ok(()) };
        if known(kind, entries).is_empty() {
            return Ok(());
        }
        let since = Instant::now();
        let turn = self.turn(kind);
        let mut failed = turn.0.lock().await;
        if let Some((_, why)) = failed.as_ref().filter(|(at, _)| *at > since) {
            return Err(refuse(why.clone()));
        }
        // Whoever had the turn may have brought them.
        let wanted = known(kind, entries);
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at_checked(batch(rest, entries)).unwrap_or((rest, &[]));
            let objects: Vec<Value> =
                now.iter().filter_map(|(at, _)| entries.get(*at)).map(|entry| entry.value()).collect();
            let given = match self.ask(conversion, kind, &objects).await {
                Ok(given) => given,
                Err(why) => {
                    *failed = Some((Instant::now(), why.clone()));
                    return Err(refuse(why));
                }
            };
            for ((at, cell), value) in now.iter().zip(given) {
                let Some(entry) = entries.get_mut(*at) else { continue };
                let new = Arc::new(entry.converted(kind, value));
                // Somebody who asked for it alone may have been faster; then both have it.
                drop(cell.set(Arc::clone(&new)));
                *entry = new;
            }
            rest = later;
        }
        Ok(())
    }

    /// An object that is about to be stored, in the version of `kind`.
    ///
    /// # Errors
    /// As for `one`.
    pub async fn value(&self, kind: &'static Kind, object: Value) -> Result<Value, Failure> {
        let conversion = kind.custom.and_then(|custom| custom.conversion);
        let same = api::value::text(&object, "apiVersion") == kind.api_version();
        let Some(conversion) = conversion.filter(|_| !same) else { return Ok(object) };
        let mut given = self.ask(conversion, kind, &[object]).await.map_err(refuse)?;
        let mut object = given.pop().unwrap_or_default();
        kind.restore(&mut object);
        Ok(object)
    }

    /// An object in the version of `kind` as the webhook gives it: what its schema does not know is there still.
    pub(super) async fn raw(&self, kind: &'static Kind, object: Value) -> Result<Value, String> {
        let Some(conversion) = kind.custom.and_then(|custom| custom.conversion) else { return Ok(object) };
        Ok(self.ask(conversion, kind, &[object]).await?.pop().unwrap_or_default())
    }

    async fn ask(&self, conversion: &Conversion, to: &'static Kind, objects: &[Value]) -> Result<Vec<Value>, String> {
        let (uid, desired) = (uuid::Uuid::new_v4().to_string(), to.api_version());
        let question = conversion.question(objects, &desired, &uid)?;
        let client = Client::read(&conversion.client);
        let answer = self.webhooks.post(&client, question.to_string().into_bytes(), TIMEOUT).await;
        conversion.answer(objects, &desired, &uid, &answer.map_err(|why| conversion::failed(objects, &why))?)
    }

    fn turn(&self, kind: &'static Kind) -> Arc<Turn> {
        let mut turns = self.turns.lock();
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(std::ptr::from_ref(kind).addr()).or_default())
    }
}

/// The conversion that an object needs before it is of this kind.
fn foreign(kind: &'static Kind, entry: &Entry) -> Option<&'static Conversion> {
    kind.custom.and_then(|custom| custom.conversion).filter(|_| !entry.is_of(kind))
}

/// The object where it was stored in the version that is asked for, though another is stored now: nobody has to be asked.
fn unasked(kind: &'static Kind, entry: &Entry) -> Option<Value> {
    if entry.kind.is_some() {
        return None;
    }
    Some(entry.value()).filter(|value| api::value::text(value, "apiVersion") == kind.api_version())
}

/// Puts what is known already in its place; gives the others.
fn known(kind: &'static Kind, entries: &mut [Arc<Entry>]) -> Vec<(usize, Converted)> {
    let mut wanted = Vec::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        if foreign(kind, entry).is_none() {
            continue;
        }
        let cell = entry.other(kind);
        if let Some(done) = cell.get() {
            *entry = Arc::clone(done);
        } else if let Some(value) = unasked(kind, entry) {
            let new = Arc::new(entry.converted(kind, value));
            drop(cell.set(Arc::clone(&new)));
            *entry = new;
        } else {
            wanted.push((at, cell));
        }
    }
    wanted
}

/// How many of these go into one question.
fn batch(wanted: &[(usize, Converted)], entries: &[Arc<Entry>]) -> usize {
    let mut bytes = 0;
    let sizes = wanted.iter().map(|(at, _)| entries.get(*at).map_or(0, |entry| entry.json.len()));
    let fits = sizes.take(MOST).take_while(|size| {
        let fits = bytes < LARGEST;
        bytes += size;
        fits
    });
    fits.count().max(1)
}

/// The status of an object that cannot be had in the version asked for: upstream's has no reason.
fn refuse(why: String) -> Failure {
    Status::foreign(500, "", why).into()
}
