//! Watchers: streams of events, read to their lines, and how long each event took since the object was sent. Never writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
use memchr::memmem::Finder;
use tokio::task::JoinHandle;

use crate::client::{Ask, Connection, STREAMS};
use crate::load::text_of;
use crate::measure::Tally;
use crate::scenario::Context;

/// What an object's name begins with whose events are timed; microseconds of the [`Clock`] follow.
const TIMED: &str = "timed-";

/// The time since a load began, that senders write into names and watchers subtract.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// A name that no other request of the load has, and when it was made.
    pub(crate) fn name(self, number: u64) -> String {
        format!("{TIMED}{}-{number}", self.0.elapsed().as_micros())
    }
}

/// How often a watcher to which nothing comes looks whether it is over.
const LOOK: Duration = Duration::from_millis(200);
/// Tallies that all watchers share: one each would be more memory than a processor keeps at hand.
const TALLIES: usize = 4;

/// Running watchers of one collection.
pub(crate) struct Watchers {
    tasks: Vec<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    counting: AtomicBool,
    end: AtomicBool,
    seen: Arc<AtomicU64>,
    tallies: [Mutex<Tally>; TALLIES],
}

impl Watchers {
    /// Starts `count` watches of `path` (which has a query), of what happens from now on, and returns when the server has answered all.
    pub(crate) async fn start(context: &Context, count: usize, path: &str, clock: Clock) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let collection = path.split('?').next().unwrap_or_default();
        let list = context.connect().await?.ask(&Ask::get(format!("{collection}?limit=1"))).await?.into_ok().await?;
        let now = text_of(&list, "resourceVersion").context("a list has no version")?;
        let path = &format!("{path}&resourceVersion={now}");
        let connections = Connection::open_for(&context.target, context.http, count).await?;
        let mut tasks = Vec::with_capacity(count);
        for batch in batches(connections) {
            let answers = batch.into_iter().map(|mut connection| async move {
                let answer = connection.ask(&Ask::get(path)).await?.into_stream().await?;
                Ok::<_, anyhow::Error>((connection, answer))
            });
            for answer in futures::future::join_all(answers).await {
                let (connection, body) = answer.context("a watch was refused")?;
                let (shared, at) = (Arc::clone(&shared), tasks.len() % TALLIES);
                tasks.push(tokio::spawn(async move {
                    // Over HTTP/1.1 the stream ends with its connection.
                    let _connection = connection;
                    let tally = shared.tallies.get(at).context("no such tally")?;
                    read(body, clock, &shared, tally).await
                }));
            }
        }
        Ok(Self { tasks, shared })
    }

    /// From here on events count.
    pub(crate) fn count(&self) {
        self.shared.counting.store(true, Ordering::Relaxed);
    }

    /// How many events were counted so far.
    pub(crate) fn seen(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.seen)
    }

    /// Waits until as many events were counted, or nothing came for `patience`.
    pub(crate) async fn settle(&self, events: u64, patience: Duration) {
        let (mut last, mut changed) = (self.shared.seen.load(Ordering::Relaxed), Instant::now());
        while last < events && changed.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.shared.seen.load(Ordering::Relaxed);
            if now != last {
                (last, changed) = (now, Instant::now());
            }
        }
    }

    /// Ends them all, and says what they counted.
    pub(crate) async fn end(self) -> Result<Tally> {
        self.shared.end.store(true, Ordering::Relaxed);
        for task in self.tasks {
            match tokio::time::timeout(Duration::from_secs(30), task).await {
                Ok(read) => read??,
                Err(_) => bail!("a watch did not end"),
            }
        }
        let mut all = Tally::default();
        for tally in &self.shared.tallies {
            all.add(&tally.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(all)
    }
}

fn batches(connections: Vec<Connection>) -> Vec<Vec<Connection>> {
    let mut all: Vec<Vec<Connection>> = vec![];
    for connection in connections {
        match all.last_mut() {
            Some(last) if last.len() < STREAMS => last.push(connection),
            _ => all.push(vec![connection]),
        }
    }
    all
}

async fn read(mut body: hyper::body::Incoming, clock: Clock, shared: &Shared, tally: &Mutex<Tally>) -> Result<()> {
    let mut lines = Lines::default();
    // One timer for many frames: what the load costs itself is taken from the server.
    let mut look = std::pin::pin!(tokio::time::sleep(LOOK));
    while !shared.end.load(Ordering::Relaxed) {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = look.as_mut() => {
                look.as_mut().reset(tokio::time::Instant::now() + LOOK);
                continue;
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.context("a watch broke")?;
        let Some(data) = frame.data_ref() else { continue };
        // All lines of a piece have come at the same time.
        let (counts, now) = (shared.counting.load(Ordering::Relaxed), clock.0.elapsed());
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        lines.push(data, |line| {
            if let Some(micros) = sent(line).filter(|_| counts) {
                tally.done(now.saturating_sub(Duration::from_micros(micros)), line.len() as u64);
                seen += 1;
            }
        });
        drop(tally);
        shared.seen.fetch_add(seen, Ordering::Relaxed);
    }
    Ok(())
}

/// Cuts a stream into lines. A line that came in one piece is not copied.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds what came, and says every line that is whole.
    pub(crate) fn push(&mut self, data: &[u8], mut line: impl FnMut(&[u8])) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', data) {
            let piece = data.get(from..end).unwrap_or_default();
            from = end + 1;
            if self.rest.is_empty() {
                line(piece);
            } else {
                self.rest.extend_from_slice(piece);
                line(&self.rest);
                self.rest.clear();
            }
        }
        // What follows the last line break is not whole yet.
        self.rest.extend_from_slice(data.get(from..).unwrap_or_default());
    }
}

/// When the object of an event was sent, from its name.
fn sent(line: &[u8]) -> Option<u64> {
    static KEY: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"name\":\"timed-"));
    let at = KEY.find(line)?;
    let digits = line.get(at + KEY.needle().len()..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        for cut in 0..9 {
            let (mut lines, mut found) = (Lines::default(), vec![]);
            let (first, second) = b"ab\n\ncde\nf".split_at(cut);
            for data in [first, second] {
                lines.push(data, |line| found.push(String::from_utf8_lossy(line).into_owned()));
            }
            assert_eq!(found, ["ab", "", "cde"], "cut at {cut}");
        }
    }

    #[test]
    fn a_name_tells_when_it_was_sent() {
        let name = Clock::start().name(7);
        let line = format!("{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"{name}\"}}}}}}");
        assert!(sent(line.as_bytes()).is_some_and(|micros| micros < 1_000_000), "{line}");
        assert_eq!(sent(b"{\"name\":\"other\"}"), None);
        assert_eq!(sent(b"{\"name\":\"timed-\"}"), None);
    }
}
