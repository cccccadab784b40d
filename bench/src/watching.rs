//! Watchers: streams of events, read to their lines, and how long each event took since the object was sent. Never writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http_body_util::BodyExt as _;
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

    fn since(self, micros: u64) -> Duration {
        self.0.elapsed().saturating_sub(Duration::from_micros(micros))
    }
}

/// Running watchers of one collection.
pub(crate) struct Watchers {
    tasks: Vec<JoinHandle<Result<Tally>>>,
    counting: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
}

impl Watchers {
    /// Starts `count` watches of `path` (which has a query), of what happens from now on, and returns when the server has answered all.
    pub(crate) async fn start(context: &Context, count: usize, path: &str, clock: Clock) -> Result<Self> {
        let (counting, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let seen = Arc::new(AtomicU64::new(0));
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
                let (counting, end, seen) = (Arc::clone(&counting), Arc::clone(&end), Arc::clone(&seen));
                tasks.push(tokio::spawn(async move {
                    // Over HTTP/1.1 the stream ends with its connection.
                    let _connection = connection;
                    read(body, clock, &counting, &end, &seen).await
                }));
            }
        }
        Ok(Self { tasks, counting, end, seen })
    }

    /// From here on events count.
    pub(crate) fn count(&self) {
        self.counting.store(true, Ordering::Relaxed);
    }

    /// How many events were counted so far.
    pub(crate) fn seen(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    /// Waits until as many events were counted, or nothing came for `patience`.
    pub(crate) async fn settle(&self, events: u64, patience: Duration) {
        let (mut last, mut changed) = (self.seen.load(Ordering::Relaxed), Instant::now());
        while last < events && changed.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.seen.load(Ordering::Relaxed);
            if now != last {
                (last, changed) = (now, Instant::now());
            }
        }
    }

    /// Ends them all, and says what they counted.
    pub(crate) async fn end(self) -> Result<Tally> {
        self.end.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for task in self.tasks {
            match tokio::time::timeout(Duration::from_secs(30), task).await {
                Ok(counted) => tally.add(&counted??),
                Err(_) => bail!("a watch did not end"),
            }
        }
        Ok(tally)
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

async fn read(
    mut body: hyper::body::Incoming,
    clock: Clock,
    counting: &AtomicBool,
    end: &AtomicBool,
    seen: &AtomicU64,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut lines = Lines::default();
    while !end.load(Ordering::Relaxed) {
        let frame = match tokio::time::timeout(Duration::from_millis(200), body.frame()).await {
            Err(_) => continue,
            Ok(None) => break,
            Ok(Some(frame)) => frame.context("a watch broke")?,
        };
        let Some(data) = frame.data_ref() else { continue };
        let counts = counting.load(Ordering::Relaxed);
        lines.push(data, |line| {
            if let Some(micros) = sent(line).filter(|_| counts) {
                tally.done(clock.since(micros), line.len() as u64);
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Ok(tally)
}

/// Cuts a stream into lines. A line that came in one piece is not copied.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Adds what came, and says every line that is whole.
    pub(crate) fn push(&mut self, data: &[u8], mut line: impl FnMut(&[u8])) {
        let mut pieces = data.split(|byte| *byte == b'\n');
        // What follows the last line break is not whole yet.
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.rest.is_empty() {
                line(piece);
            } else {
                self.rest.extend_from_slice(piece);
                line(&self.rest);
                self.rest.clear();
            }
        }
        self.rest.extend_from_slice(last);
    }
}

/// When the object of an event was sent, from its name.
fn sent(line: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"name\":\"timed-";
    let at = line.windows(KEY.len()).position(|window| window == KEY)?;
    let digits = line.get(at + KEY.len()..)?.split(|byte| !byte.is_ascii_digit()).next()?;
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
