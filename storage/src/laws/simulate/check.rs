//! Judges a recorded history: is there one order of all commits, told by their revisions, that explains every answer?
//!
//! The order is given by the log as it was at the end of the run, or as it was before each compaction. So every call has one place to be
//! checked against, and one pass over the moments does it: `known` is the revision up to which some client has already heard, and what is
//! invoked later must see at least that. Each read takes the earliest place that explains it, which binds later calls the least; if that
//! does not work, nothing does. Never asks the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::history::{Answer, Call, Moment, Record, Request, object, text};
use crate::store::{
    Claim, Commit, Event, EventKind, Expect, Key, Op, Page, Retention, Revision, StoreError, Versioned,
};

/// The author of what expiry deletes.
const EXPIRY: &str = "expiry";

/// A law that a history breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// The keys concerned.
    pub keys: Vec<Key>,
    /// The calls concerned.
    pub calls: Vec<usize>,
}

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Self { what, keys: Vec::new(), calls: Vec::new() }
    }
}

type Verdict<T = ()> = Result<T, Violation>;

fn wrong<T>(what: impl Into<String>, keys: impl IntoIterator<Item = Key>) -> Verdict<T> {
    Err(Violation { what: what.into(), keys: keys.into_iter().collect(), calls: Vec::new() })
}

/// The states of a key, each from its revision on. Before the first one there is none.
type States = Vec<(Revision, Option<Bytes>)>;

/// What happened, in order.
struct Truth<'a> {
    states: BTreeMap<Key, States>,
    /// The events of a resource.
    logs: HashMap<Arc<str>, Vec<&'a Event>>,
    /// The revision and events of each commit that happened.
    commits: HashMap<&'a str, (Revision, Vec<&'a Event>)>,
    /// The owners of each item, each from its revision on.
    owners: BTreeMap<Arc<str>, Vec<(Revision, Option<Key>)>>,
}

/// Checks `record` against the log `events` of all resources.
///
/// # Errors
/// The first law that is broken.
pub fn check(record: &Record, events: &[Event]) -> Verdict {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|e| e.revision);
    let truth = Truth::new(record, &ordered)?;
    let mut judge = Judge { truth: &truth, known: Revision(0), compactions: Vec::new(), tails: HashMap::new() };
    let mut bounds = HashMap::new();
    let blame = |call: usize| move |v: Violation| Violation { calls: v.calls.into_iter().chain([call]).collect(), ..v };
    for (_, moment) in &record.moments {
        match moment {
            Moment::Invoked(index) => {
                bounds.insert(*index, judge.known);
                judge.invoked(*index, &record.calls[*index]).map_err(blame(*index))?;
            }
            Moment::Answered(index, millis) => {
                let call = &record.calls[*index];
                let bound = bounds.get(index).copied().unwrap_or_default();
                let seen = judge.answered(call, bound, *millis).map_err(blame(*index))?;
                judge.known = judge.known.max(seen);
            }
            Moment::Note(_) => {}
        }
    }
    Ok(())
}

fn at(states: &States, revision: Revision) -> Option<Versioned> {
    let next = states.partition_point(|(from, _)| *from <= revision);
    let (from, bytes) = states.get(next.checked_sub(1)?)?;
    bytes.clone().map(|bytes| Versioned { revision: *from, bytes })
}

fn before(states: &States, revision: Revision) -> Option<Versioned> {
    at(states, Revision(revision.0.saturating_sub(1)))
}

fn holds(expect: Expect, found: Option<&Versioned>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Present => found.is_some(),
        Expect::Absent => found.is_none(),
        Expect::At(revision) => found.is_some_and(|f| f.revision == revision),
    }
}

/// The first revision from `from` on at which `states` are as wanted.
fn first<T>(states: &[(Revision, T)], from: Revision, wanted: impl Fn(Option<&T>) -> bool) -> Option<Revision> {
    let next = states.partition_point(|(begins, _)| *begins <= from);
    if wanted(next.checked_sub(1).and_then(|i| states.get(i)).map(|(_, state)| state)) {
        return Some(from);
    }
    states.iter().skip(next).find(|(_, state)| wanted(Some(state))).map(|(begins, _)| *begins)
}

impl<'a> Truth<'a> {
    fn new(record: &'a Record, events: &[&'a Event]) -> Verdict<Self> {
        let mut truth =
            Self { states: BTreeMap::new(), logs: HashMap::new(), commits: HashMap::new(), owners: BTreeMap::new() };
        for event in events {
            truth.follow(event)?;
        }
        let calls = record.calls.iter().filter_map(|call| match &call.request {
            Request::Commit(commit) => Some((commit.who.as_ref(), commit)),
            _ => None,
        });
        let calls: HashMap<&str, &Commit> = calls.collect();
        let mut happened: Vec<(Revision, &str)> = truth.commits.iter().map(|(who, (r, _))| (*r, *who)).collect();
        happened.sort();
        for pair in happened.windows(2) {
            if pair[0].0 == pair[1].0 {
                return wrong(format!("{} and {} share revision {}", pair[0].1, pair[1].1, pair[0].0), []);
            }
        }
        for (revision, who) in happened {
            match calls.get(who) {
                Some(commit) => truth.place(commit, revision)?,
                None => return wrong(format!("nobody asked for the commit of {who} at {revision}"), []),
            }
        }
        truth.expiries(&calls)?;
        Ok(truth)
    }

    /// One more event: it continues what its key was.
    fn follow(&mut self, event: &'a Event) -> Verdict {
        let states = self.states.entry(event.key.clone()).or_default();
        let previous = states.last().and_then(|(_, bytes)| bytes.clone());
        let fits = match event.op {
            EventKind::Created => previous.is_none(),
            EventKind::Updated | EventKind::Deleted => previous.is_some(),
        };
        if !fits || event.previous != previous || states.last().is_some_and(|(last, _)| *last >= event.revision) {
            let (was, says) = (previous.as_ref().map(text), event.previous.as_ref().map(text));
            let what = format!("{:?} at {} follows {was:?} and says {says:?}", event.op, event.revision);
            return wrong(what, [event.key.clone()]);
        }
        states.push((event.revision, (event.op != EventKind::Deleted).then(|| event.bytes.clone())));
        self.logs.entry(event.key.resource.clone()).or_default().push(event);
        if event.who.as_ref() != EXPIRY {
            let (revision, events) =
                self.commits.entry(event.who.as_ref()).or_insert_with(|| (event.revision, Vec::new()));
            if *revision != event.revision {
                let what = format!("commit {} happened twice, at {revision} and {}", event.who, event.revision);
                return wrong(what, [event.key.clone()]);
            }
            events.push(event);
        }
        Ok(())
    }

    fn before(&self, key: &Key, revision: Revision) -> Option<Versioned> {
        self.states.get(key).and_then(|states| before(states, revision))
    }

    fn at(&self, key: &Key, revision: Revision) -> Option<Versioned> {
        self.states.get(key).and_then(|states| at(states, revision))
    }

    /// A commit that happened did what was asked, all of it, when everything it expected was so.
    fn place(&mut self, commit: &Commit, revision: Revision) -> Verdict {
        let keys = || commit.ops.iter().map(|op| op.key().clone());
        let events = self.commits.get(commit.who.as_ref()).map(|(_, events)| events.as_slice()).unwrap_or_default();
        let mut effects = 0;
        for op in &commit.ops {
            let found = self.before(op.key(), revision);
            if !holds(op.expect(), found.as_ref()) {
                let what = format!("commit {} happened at {revision} upon {}", commit.who, object(found.as_ref()));
                return wrong(what, [op.key().clone()]);
            }
            let deletes = !matches!(op, Op::Put { .. });
            if deletes && found.is_none() {
                continue;
            }
            effects += 1;
            // What is discarded ends as it was.
            let bytes = op.object().or(found.as_ref().map(|found| &found.bytes));
            let fits =
                |e: &&&Event| e.key == *op.key() && Some(&e.bytes) == bytes && (e.op == EventKind::Deleted) == deletes;
            if !events.iter().any(|e| fits(&e)) {
                let what = format!("commit {} at {revision} lacks its write of {}", commit.who, op.key());
                return wrong(what, keys());
            }
        }
        if effects != events.len() {
            return wrong(format!("commit {} at {revision} wrote more than was asked", commit.who), keys());
        }
        for check in &commit.checks {
            let found = self.before(&check.key, revision);
            if !holds(check.expect, found.as_ref()) {
                let what = format!("commit {} happened at {revision} though its check fails", commit.who);
                return wrong(what, keys().chain([check.key.clone()]));
            }
        }
        for claim in &commit.claims {
            let (Claim::Take { item, owner, .. } | Claim::Release { item, owner, .. }) = claim;
            let owners = self.owners.entry(item.clone()).or_default();
            let has = owners.last().and_then(|(_, owner)| owner.clone());
            match claim {
                Claim::Take { .. } if has.as_ref().is_some_and(|has| has != owner) => {
                    let what = format!("commit {} took {item} at {revision}, which another had", commit.who);
                    return wrong(what, has.into_iter().chain([owner.clone()]));
                }
                Claim::Take { .. } if has.is_none() => owners.push((revision, Some(owner.clone()))),
                Claim::Release { .. } if has.as_ref() == Some(owner) => owners.push((revision, None)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What expired was due.
    fn expiries(&self, calls: &HashMap<&str, &Commit>) -> Verdict {
        let mut due: HashMap<&Key, Option<u64>> = HashMap::new();
        let mut all: Vec<&&Event> = self.logs.values().flatten().collect();
        all.sort_by_key(|e| e.revision);
        for event in all {
            if event.who.as_ref() == EXPIRY {
                let due = due.get(&event.key).copied().flatten();
                if due.is_none_or(|due| due > event.at / 1000) {
                    let what = format!("{} expired at {}, {} ms, due {due:?} s", event.key, event.revision, event.at);
                    return wrong(what, [event.key.clone()]);
                }
            }
            let ops = calls.get(event.who.as_ref()).map(|commit| commit.ops.iter()).into_iter().flatten();
            for op in ops {
                if let Op::Put { key, expires, .. } = op
                    && *key == event.key
                {
                    due.insert(&event.key, *expires);
                }
            }
        }
        Ok(())
    }

    /// The events of a resource with `after < revision <= until`.
    fn log(&self, resource: &str, after: Revision, until: Revision) -> &[&'a Event] {
        let Some(log) = self.logs.get(resource) else { return &[] };
        let begin = log.partition_point(|e| e.revision <= after);
        let end = log.partition_point(|e| e.revision <= until).max(begin);
        &log[begin..end]
    }
}

/// Goes through the moments.
struct Judge<'a, 'b> {
    truth: &'a Truth<'b>,
    /// Somebody has heard of this revision.
    known: Revision,
    /// Compactions asked for so far.
    compactions: Vec<(&'static str, Retention)>,
    /// Where each tail stood.
    tails: HashMap<usize, Revision>,
}

impl Judge<'_, '_> {
    fn invoked(&mut self, index: usize, call: &Call) -> Verdict {
        match &call.request {
            Request::Compact(resource, keep) => self.compactions.push((resource, *keep)),
            Request::Commit(commit) => {
                // Whether or not anybody was told.
                if let Some((revision, _)) = self.truth.commits.get(commit.who.as_ref())
                    && *revision <= self.known
                {
                    let what = format!(
                        "call #{index} was made when {} was known, and happened at {revision}, before it",
                        self.known
                    );
                    return wrong(what, commit.ops.iter().map(|op| op.key().clone()));
                }
            }
            Request::Tail(tail, resource, from) => {
                let stood = self.tails.insert(*tail, *from).unwrap_or(*from);
                let missed = self.truth.log(resource, stood, *from);
                if stood > *from || !missed.is_empty() {
                    let keys = missed.iter().map(|e| e.key.clone());
                    return wrong(format!("tail {tail} went from {stood} to {from} in silence"), keys);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Holds an answer against the truth; returns the revision that it shows to have been reached. `bound` was known when the call was made.
    fn answered(&mut self, call: &Call, bound: Revision, millis: u64) -> Verdict<Revision> {
        let Some(answer) = &call.answer else { return Ok(bound) };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(&call.request, error, bound, millis),
        };
        let not_behind = |revision: Revision, keys: Vec<Key>| {
            if revision < bound {
                return wrong(format!("answers as of {revision} though {bound} was known"), keys);
            }
            Ok(revision)
        };
        match (&call.request, answer) {
            (Request::Commit(commit), Answer::Revision(revision)) => {
                self.acknowledged(commit, *revision)?;
                not_behind(*revision, commit.ops.iter().map(|op| op.key().clone()).collect())
            }
            (Request::Get(key), Answer::Object(found)) => self.seen(key, found.as_ref(), bound),
            (Request::GetAt(key, at), Answer::Object(found)) => {
                let was = self.truth.at(key, *at);
                if was != *found {
                    let (was, found) = (object(was.as_ref()), object(found.as_ref()));
                    return wrong(format!("{key} was {was} at {at}, and {found} is answered"), [key.clone()]);
                }
                Ok(bound.max(*at))
            }
            (Request::List(resource, namespace, after, limit), Answer::Page(page)) => {
                self.page(resource, *namespace, after.as_ref(), *limit, page)?;
                not_behind(page.revision, page.items.iter().map(|(k, _)| k.clone()).collect())
            }
            (Request::ReadRevision, Answer::Revision(revision)) => not_behind(*revision, vec![]),
            (Request::LastChange(resource), Answer::LastChange(change)) => {
                let last = self.truth.log(resource, Revision(0), change.read).last();
                let last = last.map_or(Revision(0), |e| e.revision);
                if last != change.changed {
                    let what = format!("{resource} changed last at {last}, and {} is answered", change.changed);
                    return wrong(what, []);
                }
                not_behind(change.read, vec![])
            }
            (Request::History(key), Answer::History(events)) => self.past(key, events, bound, millis),
            (Request::Claims(_), Answer::Claims(claims)) => self.claims(claims, bound),
            (Request::Tail(tail, resource, from), Answer::Tail(events, position)) => {
                let log = self.truth.log(resource, *from, *position);
                if !log.iter().copied().eq(events.iter()) {
                    let keys: BTreeSet<Key> = log.iter().map(|e| e.key.clone()).collect();
                    let what = format!("the events after {from} up to {position} are {}, not those", log.len());
                    return wrong(what, keys);
                }
                self.tails.insert(*tail, *position);
                // Some whole revisions are enough; none means that there is none up to what is known.
                if events.is_empty() { not_behind(*position, vec![]) } else { Ok(*position) }
            }
            (Request::Compact(resource, _), Answer::Revision(floor)) => {
                if *floor != Revision(0) {
                    self.excused(resource, *floor, millis)?;
                }
                Ok(*floor)
            }
            (Request::Expire, Answer::Expired(_)) => Ok(bound),
            (request, answer) => wrong(format!("{request} is answered with {answer}"), []),
        }
    }

    fn acknowledged(&self, commit: &Commit, revision: Revision) -> Verdict {
        let keys = || commit.ops.iter().map(|op| op.key().clone());
        match self.truth.commits.get(commit.who.as_ref()) {
            Some((happened, _)) if *happened == revision => Ok(()),
            Some((happened, _)) => {
                wrong(format!("commit {} happened at {happened} and was told {revision}", commit.who), keys())
            }
            None => {
                for op in &commit.ops {
                    let found = self.truth.at(op.key(), revision);
                    if matches!(op, Op::Put { .. }) || op.expect() != Expect::Any || found.is_some() {
                        return wrong(format!("the acknowledged commit {} is lost", commit.who), keys());
                    }
                }
                match commit.checks.iter().find(|c| !holds(c.expect, self.truth.at(&c.key, revision).as_ref())) {
                    Some(check) => wrong(format!("a check of {} failed", commit.who), [check.key.clone()]),
                    None => Ok(()),
                }
            }
        }
    }

    fn seen(&self, key: &Key, found: Option<&Versioned>, bound: Revision) -> Verdict<Revision> {
        let states = self.truth.states.get(key).map(Vec::as_slice).unwrap_or_default();
        let place = match found {
            None => first(states, bound, |state| state.is_none_or(Option::is_none)),
            Some(found) => {
                let i = states.partition_point(|(from, _)| *from < found.revision);
                let lasts = states.get(i + 1).is_none_or(|(until, _)| *until > bound);
                let same = states.get(i) == Some(&(found.revision, Some(found.bytes.clone())));
                (same && lasts).then(|| bound.max(found.revision))
            }
        };
        match place {
            Some(place) => Ok(place),
            None => {
                let now = self.truth.at(key, bound);
                let (found, now) = (object(found), object(now.as_ref()));
                wrong(format!("{key} holds {found}, though {bound} was known, when it held {now}"), [key.clone()])
            }
        }
    }

    fn page(&self, resource: &str, namespace: Option<&str>, after: Option<&Key>, limit: usize, page: &Page) -> Verdict {
        let within = |key: &&Key| {
            key.resource.as_ref() == resource
                && namespace.is_none_or(|n| key.namespace.as_ref() == n)
                && after.is_none_or(|after| *key > after)
        };
        let keys = self.truth.states.keys().filter(within);
        let mut there = keys.filter_map(|key| Some((key, self.truth.at(key, page.revision)?)));
        for (key, found) in &page.items {
            match there.next() {
                Some((is, object)) if is == key && object == *found => {}
                is => {
                    let is = is.map(|(key, v)| format!("{key} {}", object(Some(&v))));
                    let what =
                        format!("a list at {} shows {key} {} where {is:?} was", page.revision, object(Some(found)));
                    return wrong(what, [key.clone()]);
                }
            }
        }
        let rest = there.next();
        let short = limit == 0 || page.items.len() < limit;
        if page.more != rest.is_some() || (short && rest.is_some()) || (limit != 0 && page.items.len() > limit) {
            let what = format!("a list at {} ends too early or too late", page.revision);
            return wrong(what, rest.map(|(key, _)| key.clone()));
        }
        Ok(())
    }

    /// The retained changes of a key: all up to what is known but those that a compaction cut off.
    fn past(&self, key: &Key, events: &[Event], bound: Revision, millis: u64) -> Verdict<Revision> {
        let log: Vec<&Event> = self
            .truth
            .log(&key.resource, Revision(0), Revision(u64::MAX))
            .iter()
            .filter(|e| e.key == *key)
            .copied()
            .collect();
        let needed = log.partition_point(|e| e.revision <= bound);
        let begin = match events.first() {
            Some(first) => log.partition_point(|e| e.revision < first.revision),
            None => needed,
        };
        let end = begin + events.len();
        if end < needed || !log.iter().skip(begin).take(events.len()).copied().eq(events.iter()) {
            return wrong(format!("the history of {key} has gaps or more than happened"), [key.clone()]);
        }
        if let Some(cut) = begin.checked_sub(1).and_then(|i| log.get(i)) {
            self.excused(&key.resource, cut.revision, millis)?;
        }
        Ok(events.last().map_or(bound, |e| bound.max(e.revision)))
    }

    fn claims(&self, claims: &[(Arc<str>, Key)], bound: Revision) -> Verdict<Revision> {
        let changes = self.truth.owners.values().flatten().map(|(from, _)| *from).filter(|from| *from > bound);
        let places: BTreeSet<Revision> = changes.chain([bound]).collect();
        let fits = |place: &Revision| {
            let mut owned = self.truth.owners.iter().filter_map(|(item, owners)| {
                let next = owners.partition_point(|(from, _)| from <= place);
                Some((item, owners.get(next.checked_sub(1)?)?.1.as_ref()?))
            });
            claims.iter().all(|(item, owner)| owned.next() == Some((item, owner))) && owned.next().is_none()
        };
        let fitting = places.into_iter().find(fits);
        fitting.map_or_else(|| wrong("no revision has these owners", claims.iter().map(|(_, k)| k.clone())), Ok)
    }

    /// Some compaction asked for so far may cut the log up to `floor`: its last entry was old enough or followed by enough others.
    fn excused(&self, resource: &str, floor: Revision, millis: u64) -> Verdict {
        let Some(last) = self.truth.log(resource, Revision(0), floor).last() else {
            return wrong(format!("the log of {resource} was cut at {floor}, where nothing was"), []);
        };
        let newer = self.truth.log(resource, floor, Revision(u64::MAX)).len() as u64;
        let may_go = |keep: &Retention| {
            keep.max_entries.is_some_and(|max| newer >= max)
                || keep.max_age.is_some_and(|age| u128::from(millis.saturating_sub(last.at)) >= age.as_millis())
        };
        if self.compactions.iter().any(|(of, keep)| *of == resource && may_go(keep)) {
            return Ok(());
        }
        wrong(
            format!("the log of {resource} is gone up to {floor}, and no compaction asked for that"),
            [last.key.clone()],
        )
    }

    fn failed(&self, request: &Request, error: &StoreError, bound: Revision, millis: u64) -> Verdict<Revision> {
        if let Request::Commit(commit) = request
            && !matches!(error, StoreError::MaybeCommitted(_))
            && let Some((revision, _)) = self.truth.commits.get(commit.who.as_ref())
        {
            let keys = commit.ops.iter().map(|op| op.key().clone());
            return wrong(format!("commit {} happened at {revision} and was refused: {error}", commit.who), keys);
        }
        match (request, error) {
            (_, StoreError::Unavailable(_)) => Ok(bound),
            (Request::Commit(_) | Request::Compact(..) | Request::Expire, StoreError::MaybeCommitted(_)) => Ok(bound),
            (Request::Commit(commit), StoreError::Expectation { key, found }) => {
                let ops = commit.ops.iter().filter(|op| op.key() == key).map(Op::expect);
                let checks = commit.checks.iter().filter(|check| check.key == *key).map(|check| check.expect);
                if ops.chain(checks).all(|expect| holds(expect, found.as_ref())) {
                    return wrong(format!("commit {} was refused for what it expected", commit.who), [key.clone()]);
                }
                self.seen(key, found.as_ref(), bound)
            }
            (Request::Commit(commit), StoreError::Claimed { item, owner, .. }) => {
                let wants =
                    |claim: &Claim| matches!(claim, Claim::Take { item: i, owner: o, .. } if i == item && o != owner);
                let owners = self.truth.owners.get(item).map(Vec::as_slice).unwrap_or_default();
                match first(owners, bound, |has| has.and_then(Option::as_ref) == Some(owner)) {
                    Some(place) if commit.claims.iter().any(wants) => Ok(place),
                    _ => wrong(format!("{item} never belonged to {owner} then"), [owner.clone()]),
                }
            }
            (Request::GetAt(key, at), StoreError::Compacted { oldest }) if at < oldest => {
                self.excused(&key.resource, *oldest, millis).map(|()| bound.max(*oldest))
            }
            (Request::Tail(_, resource, from), StoreError::Compacted { oldest }) if from < oldest => {
                self.excused(resource, *oldest, millis).map(|()| bound.max(*oldest))
            }
            (Request::GetAt(_, at), StoreError::Future { latest, .. }) if at > latest && *latest >= bound => {
                Ok(*latest)
            }
            _ => wrong(format!("{request} must not fail with: {error}"), []),
        }
    }
}

/// After everything that is due has expired, no object of `page` has a time to expire.
pub(super) fn nothing_is_overdue(record: &Record, page: &Page) -> Verdict {
    let mut due: HashMap<(&Key, &Bytes), u64> = HashMap::new();
    for call in &record.calls {
        if let Request::Commit(commit) = &call.request {
            for op in &commit.ops {
                if let Op::Put { key, bytes, expires: Some(at), .. } = op {
                    due.insert((key, bytes), *at);
                }
            }
        }
    }
    match page.items.iter().find(|(key, object)| due.contains_key(&(key, &object.bytes))) {
        Some((key, _)) => wrong(format!("{key} is long due and still there"), [key.clone()]),
        None => Ok(()),
    }
}
