//! Pods that wait for a node: ready ones by priority and age, refused ones until something changes, failed ones for a while.
//!
//! Pure: the time is an argument. A pod is in exactly one place, or nowhere while it is being bound.

use crate::plugins::{Event, PLUGINS};
use crate::snapshot::PodInfo;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The wait after the first failed try; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A refused pod is tried again after so long, whatever happened.
const LONGEST_REFUSAL: Duration = Duration::from_secs(300);

/// Time since any fixed moment.
pub type Moment = Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then. `eager`: a change may have helped, so that it goes ahead when nobody else waits.
    Backoff {
        until: Moment,
        eager: bool,
    },
    /// Since then, by these plugins.
    Refused {
        since: Moment,
        by: Vec<usize>,
    },
    /// It has scheduling gates.
    Gated,
    /// Somebody took it from the queue and has not said what became of it.
    Taken,
}

impl Place {
    /// When the pod is ready again by time alone.
    fn timer(&self) -> Option<Moment> {
        match self {
            Self::Backoff { until, .. } => Some(*until),
            Self::Refused { since, .. } => Some(*since + LONGEST_REFUSAL),
            Self::Active | Self::Gated | Self::Taken => None,
        }
    }

    /// Upstream's word for it; none for one that does not wait.
    fn word(&self) -> Option<&'static str> {
        match self {
            Self::Active => Some("active"),
            Self::Backoff { .. } => Some("backoff"),
            Self::Refused { .. } => Some("unschedulable"),
            Self::Gated => Some("gated"),
            Self::Taken => None,
        }
    }

    fn refused_by(&self) -> &[usize] {
        match self {
            Self::Refused { by, .. } => by,
            _ => &[],
        }
    }
}

/// The tries that a pod has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// How many.
    pub tries: u32,
    /// When the first one began.
    pub first: Moment,
    /// When the last one began.
    pub last: Moment,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    tries: u32,
    first: Moment,
    tried: Moment,
    /// Order of arrival.
    number: u64,
}

impl Entry {
    fn rank(&self, uid: &str) -> (Reverse<i32>, u64, String) {
        let priority = self.pod.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        (Reverse(priority), self.number, uid.to_owned())
    }

    fn backoff(&self) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(16);
        FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, String)>,
    /// When backoffs end and refusals grow stale.
    timers: BTreeSet<(Moment, String)>,
    /// The part of `timers` that goes ahead when nobody else waits.
    eager: BTreeSet<(Moment, String)>,
    refused: BTreeSet<String>,
    next: u64,
    /// How many wait, by place.
    waiting: BTreeMap<&'static str, usize>,
    /// How many each plugin has refused, by its place in the table.
    refusals: BTreeMap<usize, usize>,
    /// How many came to each place, and why, since somebody asked.
    incoming: BTreeMap<(&'static str, &'static str), u64>,
}

/// Whether the pod must not be looked at yet.
fn gated(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty())
}

impl Queue {
    /// A pod without a node came or changed. What only changed in its status stays where it is.
    pub fn offer(&mut self, pod: Arc<PodInfo>) {
        let uid = pod.uid().to_owned();
        let gate = gated(&pod.pod);
        let Some(entry) = self.entries.get_mut(&uid) else {
            self.next += 1;
            let entry = Entry {
                pod,
                place: Place::Taken,
                tries: 0,
                first: Moment::ZERO,
                tried: Moment::ZERO,
                number: self.next,
            };
            self.entries.insert(uid.clone(), entry);
            self.put(&uid, if gate { Place::Gated } else { Place::Active }, "PodAdd");
            return;
        };
        let changed = entry.pod.pod.spec != pod.pod.spec || entry.pod.pod.metadata.labels != pod.pod.metadata.labels;
        let to = match &entry.place {
            Place::Active | Place::Refused { .. } if gate => Place::Gated,
            Place::Gated if !gate => Place::Active,
            Place::Refused { .. } if changed => Place::Active,
            same => same.clone(),
        };
        // Out of its old place by its old rank.
        let why = if entry.place == to { "" } else { "PodUpdate" };
        self.put(&uid, Place::Taken, "");
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.pod = pod;
        }
        self.put(&uid, to, why);
    }

    /// Moves an entry, for this reason (empty: it only comes back to where it was); keeps every set in step.
    fn put(&mut self, uid: &str, place: Place, why: &'static str) {
        let Some(entry) = self.entries.get_mut(uid) else { return };
        let old = std::mem::replace(&mut entry.place, place);
        if let Some(count) = old.word().and_then(|word| self.waiting.get_mut(word)) {
            *count = count.saturating_sub(1);
        }
        if let Some(word) = entry.place.word() {
            *self.waiting.entry(word).or_default() += 1;
            if !why.is_empty() {
                *self.incoming.entry((why, word)).or_default() += 1;
            }
        }
        for index in old.refused_by() {
            if let Some(count) = self.refusals.get_mut(index) {
                *count = count.saturating_sub(1);
            }
        }
        for index in entry.place.refused_by() {
            *self.refusals.entry(*index).or_default() += 1;
        }
        if let Some(at) = old.timer() {
            self.timers.remove(&(at, uid.to_owned()));
            self.eager.remove(&(at, uid.to_owned()));
        }
        self.refused.remove(uid);
        self.active.remove(&entry.rank(uid));
        if let Some(at) = entry.place.timer() {
            self.timers.insert((at, uid.to_owned()));
        }
        match entry.place {
            Place::Active => {
                self.active.insert(entry.rank(uid));
            }
            Place::Backoff { until, eager: true } => {
                self.eager.insert((until, uid.to_owned()));
            }
            Place::Refused { .. } => {
                self.refused.insert(uid.to_owned());
            }
            Place::Backoff { .. } | Place::Gated | Place::Taken => {}
        }
    }

    /// The pod is gone or has its node.
    pub fn remove(&mut self, uid: &str) {
        self.put(uid, Place::Taken, "");
        self.entries.remove(uid);
    }

    /// Whether the pod waits or is being bound.
    #[must_use]
    pub fn contains(&self, uid: &str) -> bool {
        self.entries.contains_key(uid)
    }

    /// The uids of all pods.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Takes the next pod to look at. When nothing is ready, one that waits although a change may have helped goes ahead.
    pub fn take(&mut self, now: Moment) -> Option<Arc<PodInfo>> {
        while let Some((_, uid)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            self.put(&uid, Place::Active, "BackoffComplete");
        }
        let ready = self.active.first().map(|(_, _, uid)| uid);
        let uid = ready.or_else(|| self.eager.first().map(|(_, uid)| uid))?.clone();
        self.put(&uid, Place::Taken, "");
        let entry = self.entries.get_mut(&uid)?;
        if entry.tries == 0 {
            entry.first = now;
        }
        entry.tries = entry.tries.saturating_add(1);
        entry.tried = now;
        Some(Arc::clone(&entry.pod))
    }

    /// No node will do, for these plugins (none: whatever changes may help).
    pub fn refuse(&mut self, uid: &str, by: Vec<usize>, now: Moment) {
        self.put(uid, Place::Refused { since: now, by }, "ScheduleAttemptFailure");
    }

    /// The try failed for a reason that time may heal.
    pub fn retry(&mut self, uid: &str, now: Moment) {
        if let Some(entry) = self.entries.get(uid) {
            let until = now + entry.backoff();
            self.put(uid, Place::Backoff { until, eager: false }, "ScheduleAttemptFailure");
        }
    }

    /// Something changed in the cluster: refused pods that it may help come back, at the earliest when their backoff ends.
    pub fn happened(&mut self, event: &Event<'_>, now: Moment) {
        let mut back = Vec::new();
        for (uid, entry) in self.refused.iter().filter_map(|uid| Some((uid, self.entries.get(uid)?))) {
            let Place::Refused { by, .. } = &entry.place else { continue };
            let mut plugins = by.iter().filter_map(|index| PLUGINS.get(*index));
            if by.is_empty() || plugins.any(|plugin| plugin.helps(&entry.pod, event)) {
                back.push((uid.clone(), entry.tried + entry.backoff()));
            }
        }
        for (uid, until) in back {
            let place = if until <= now { Place::Active } else { Place::Backoff { until, eager: true } };
            self.put(&uid, place, event.word());
        }
    }

    /// The tries that a pod has had, as long as it is here.
    #[must_use]
    pub fn tried(&self, uid: &str) -> Option<Tried> {
        let entry = self.entries.get(uid)?;
        Some(Tried { tries: entry.tries, first: entry.first, last: entry.tried })
    }

    /// How many pods wait, by place.
    pub fn waiting(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.waiting.iter().map(|(place, pods)| (*place, *pods))
    }

    /// How many waiting pods each plugin has refused.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.refusals.iter().filter_map(|(index, pods)| Some((PLUGINS.get(*index)?.name(), *pods)))
    }

    /// How many pods came to each place, and why (event, place), since the last call.
    pub fn take_incoming(&mut self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut self.incoming)
    }

    /// When [`Queue::take`] may have something although nothing happens until then.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
