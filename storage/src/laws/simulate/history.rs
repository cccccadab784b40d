//! The record of a run: every call on a store with the moments of its invocation and of its answer.
//!
//! Never judges; `check` does.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::store::{
    Check, Claim, Commit, Event, Expect, Key, LastChange, Op, Page, Retention, Revision, Store, StoreError, Versioned,
};

/// What was asked.
#[derive(Debug, Clone)]
pub enum Request {
    /// [`Store::commit`]. Its `who` names it in the whole history.
    Commit(Commit),
    /// [`Store::get`].
    Get(Key),
    /// [`Store::get_at`].
    GetAt(Key, Revision),
    /// [`Store::list`] of a resource or a namespace of it, after a key, up to a limit.
    List(&'static str, Option<&'static str>, Option<Key>, usize),
    /// [`Store::read_revision`].
    ReadRevision,
    /// [`Store::last_change`].
    LastChange(&'static str),
    /// [`Store::history`].
    History(Key),
    /// [`Store::claims`].
    Claims(&'static str),
    /// [`crate::store::Tail::next`] or `catch_up` of the tail with this number, which stood at this position.
    Tail(usize, &'static str, Revision),
    /// [`Store::compact`].
    Compact(&'static str, Retention),
    /// [`Store::expire`].
    Expire,
}

/// What was answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The revision of a commit or of a reader, the floor of a compaction.
    Revision(Revision),
    /// An object or none.
    Object(Option<Versioned>),
    /// A list.
    Page(Page),
    /// The last change of a resource.
    LastChange(LastChange),
    /// Events of a key.
    History(Vec<Event>),
    /// The owners of a pool's items.
    Claims(Vec<(Arc<str>, Key)>),
    /// Events of a tail, and where it stands after them.
    Tail(Vec<Event>, Revision),
    /// How many objects have expired.
    Expired(usize),
}

macro_rules! answers {
    ($($type:ty => $answer:ident),* $(,)?) => {
        $(impl From<$type> for Answer {
            fn from(value: $type) -> Self {
                Self::$answer(value)
            }
        })*
    };
}

answers! {
    Revision => Revision, Option<Versioned> => Object, Page => Page, LastChange => LastChange, Vec<Event> => History,
    Vec<(Arc<str>, Key)> => Claims, usize => Expired,
}

impl From<(Vec<Event>, Revision)> for Answer {
    fn from((events, position): (Vec<Event>, Revision)) -> Self {
        Self::Tail(events, position)
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which client made it.
    pub client: String,
    /// What was asked.
    pub request: Request,
    /// What was answered; `None` when the client died first, or gave up waiting.
    pub answer: Option<Result<Answer, StoreError>>,
}

/// Something that happened, in the order in which it happened.
#[derive(Debug, Clone)]
pub enum Moment {
    /// The call with this index began.
    Invoked(usize),
    /// The call with this index was answered, at this time in Unix milliseconds.
    Answered(usize, u64),
    /// Something else worth telling.
    Note(String),
}

/// The record of a run.
#[derive(Debug)]
pub struct History {
    start: Instant,
    record: RefCell<Record>,
}

/// What a [`History`] has recorded.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Every call in order of invocation.
    pub calls: Vec<Call>,
    /// Every moment with the milliseconds since the start.
    pub moments: Vec<(u64, Moment)>,
}

impl Default for History {
    fn default() -> Self {
        Self { start: Instant::now(), record: RefCell::default() }
    }
}

impl History {
    fn push(&self, moment: Moment) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.record.borrow_mut().moments.push((millis, moment));
    }

    /// Notes something that is no call.
    pub fn note(&self, text: impl Into<String>) {
        self.push(Moment::Note(text.into()));
    }

    /// Makes a call and records it. A call that is dropped stays without an answer.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call<T: Clone + Into<Answer>>(
        &self,
        client: &str,
        unix_millis: impl Fn() -> u64,
        request: Request,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let index = {
            let mut record = self.record.borrow_mut();
            record.calls.push(Call { client: client.to_owned(), request, answer: None });
            record.calls.len() - 1
        };
        self.push(Moment::Invoked(index));
        let answer = call.await;
        self.record.borrow_mut().calls[index].answer = Some(answer.clone().map(Into::into));
        self.push(Moment::Answered(index, unix_millis()));
        answer
    }

    /// A copy of what was recorded so far.
    pub fn record(&self) -> Record {
        self.record.borrow().clone()
    }
}

/// Bytes as far as they tell something.
pub(super) fn text(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.split_once(' ') {
        Some((head, rest)) => format!("{head}+{}", rest.len()),
        None => text.into_owned(),
    }
}

pub(super) fn object(object: Option<&Versioned>) -> String {
    object.map_or("nothing".to_owned(), |o| format!("{}@{}", text(&o.bytes), o.revision))
}

fn expect(expect: Expect) -> String {
    match expect {
        Expect::Any => String::new(),
        Expect::Present => " if present".to_owned(),
        Expect::Absent => " if absent".to_owned(),
        Expect::At(revision) => format!(" if at {revision}"),
    }
}

pub(super) fn event(e: &Event) -> String {
    format!("{:?} {} {}@{}", e.op, e.key, text(&e.bytes), e.revision)
}

fn join<T>(items: impl IntoIterator<Item = T>, show: impl Fn(T) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(commit) => {
                write!(f, "commit {}: ", commit.who)?;
                let op = |op: &Op| match op {
                    Op::Put { key, expect: e, expires, .. } => {
                        format!("put {key}{}{}", expect(*e), expires.map_or(String::new(), |s| format!(" until {s}")))
                    }
                    Op::Delete { key, expect: e, .. } => format!("delete {key}{}", expect(*e)),
                    Op::Discard { key, expect: e } => format!("discard {key}{}", expect(*e)),
                };
                f.write_str(&join(&commit.ops, op))?;
                for Check { key, expect: e } in &commit.checks {
                    write!(f, ", check {key}{}", expect(*e))?;
                }
                for claim in &commit.claims {
                    let (word, Claim::Take { item, owner, .. } | Claim::Release { item, owner, .. }) = match claim {
                        Claim::Take { .. } => ("take", claim),
                        Claim::Release { .. } => ("release", claim),
                    };
                    write!(f, ", {word} {item} for {owner}")?;
                }
                Ok(())
            }
            Self::Get(key) => write!(f, "get {key}"),
            Self::GetAt(key, at) => write!(f, "get {key} as of {at}"),
            Self::List(resource, namespace, after, limit) => {
                write!(f, "list {resource} in {}", namespace.unwrap_or("all"))?;
                if let Some(after) = after {
                    write!(f, " after {after}")?;
                }
                write!(f, ", limit {limit}")
            }
            Self::ReadRevision => f.write_str("read revision"),
            Self::LastChange(resource) => write!(f, "last change of {resource}"),
            Self::History(key) => write!(f, "history of {key}"),
            Self::Claims(pool) => write!(f, "claims of {pool}"),
            Self::Tail(tail, resource, from) => write!(f, "tail {tail} of {resource} from {from}"),
            Self::Compact(resource, keep) => {
                write!(f, "compact {resource} to {:?} entries, {:?}", keep.max_entries, keep.max_age)
            }
            Self::Expire => f.write_str("expire"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => write!(f, "{revision}"),
            Self::Object(found) => f.write_str(&object(found.as_ref())),
            Self::Page(page) => {
                let items = join(&page.items, |(k, v)| format!("{k} {}", object(Some(v))));
                write!(f, "at {}{}: [{items}]", page.revision, if page.more { " and more" } else { "" })
            }
            Self::LastChange(change) => write!(f, "{} as of {}", change.changed, change.read),
            Self::History(events) => write!(f, "[{}]", join(events, event)),
            Self::Claims(claims) => write!(f, "[{}]", join(claims, |(item, owner)| format!("{item} {owner}"))),
            Self::Tail(events, position) => write!(f, "[{}], stands at {position}", join(events, event)),
            Self::Expired(n) => write!(f, "{n} expired"),
        }
    }
}

impl Call {
    /// The keys it names.
    fn touches(&self, wanted: &Key) -> bool {
        let named = |found: &StoreError| matches!(found, StoreError::Expectation { key, .. } if key == wanted);
        match &self.request {
            Request::Commit(commit) => {
                commit.ops.iter().any(|op| op.key() == wanted)
                    || commit.checks.iter().any(|check| check.key == *wanted)
                    || self.answer.as_ref().is_some_and(|a| a.as_ref().is_err_and(named))
            }
            Request::Get(key) | Request::GetAt(key, _) | Request::History(key) => key == wanted,
            Request::List(resource, ..) | Request::Compact(resource, _) => wanted.resource.as_ref() == *resource,
            Request::Tail(_, resource, _) => {
                wanted.resource.as_ref() == *resource
                    && matches!(&self.answer, Some(Ok(Answer::Tail(events, _))) if events.iter().any(|e| e.key == *wanted))
            }
            Request::Expire => true,
            Request::LastChange(_) | Request::ReadRevision | Request::Claims(_) => false,
        }
    }
}

impl Record {
    /// The history in lines, oldest first: of calls that touch one of `keys` and of the calls in `also`, at most the `last` ones. Without
    /// keys, all of it.
    pub fn lines(&self, keys: &[Key], also: &[usize], last: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let wanted = |index: usize| {
            keys.is_empty() || also.contains(&index) || keys.iter().any(|key| self.calls[index].touches(key))
        };
        for (millis, moment) in &self.moments {
            let line = match moment {
                Moment::Invoked(i) if wanted(*i) => {
                    format!("#{i} {} calls: {}", self.calls[*i].client, self.calls[*i].request)
                }
                Moment::Answered(i, _) if wanted(*i) => match &self.calls[*i].answer {
                    Some(Ok(answer)) => format!("#{i} {} hears: {answer}", self.calls[*i].client),
                    Some(Err(StoreError::Expectation { key, found })) => {
                        format!("#{i} {} fails: {key} holds {}", self.calls[*i].client, object(found.as_ref()))
                    }
                    Some(Err(e)) => format!("#{i} {} fails: {e}", self.calls[*i].client),
                    None => continue,
                },
                Moment::Note(text) => text.clone(),
                Moment::Invoked(_) | Moment::Answered(..) => continue,
            };
            lines.push(format!("{millis:>6} ms  {line}"));
        }
        lines.split_off(lines.len().saturating_sub(last))
    }
}

/// A store whose calls are recorded.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) store: Store,
    pub(super) history: std::rc::Rc<History>,
    pub(super) clock: Arc<dyn crate::clock::Clock>,
    pub(super) name: String,
}

impl Client {
    pub(super) async fn call<T: Clone + Into<Answer>>(
        &self,
        request: Request,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.history.call(&self.name, || self.clock.unix_millis(), request, call).await
    }
}
