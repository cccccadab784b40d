//! Two ways to load: closed (each worker sends when it has its answer) and open (requests are due at fixed times, whether or not the
//! server keeps up; latency counts from when one was due). Never decides what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use crate::client::{Ask, Connection};
use crate::measure::{Case, Tally};
use crate::scenario::Context;
use crate::usage;

/// One operation of a load, told its number, which no other operation of the load has; answers the bytes that came.
pub(crate) type Op = Arc<dyn for<'a> Fn(&'a mut Connection, u64) -> BoxFuture<'a, Result<u64>> + Send + Sync>;

/// The operation that sends one request and reads the answer to its end.
pub(crate) fn request(make: impl Fn(u64) -> Ask + Send + Sync + 'static) -> Op {
    Arc::new(move |connection, number| {
        let ask = make(number);
        Box::pin(async move { connection.ask(&ask).await?.into_length().await })
    })
}

/// The operation that reads a collection page by page. `path` has a query with a limit.
pub(crate) fn pages(path: String) -> Op {
    Arc::new(move |connection, _| {
        let path = path.clone();
        Box::pin(async move {
            let (mut bytes, mut ask) = (0, Ask::get(&path));
            loop {
                let page = connection.ask(&ask).await?.into_ok().await?;
                bytes += page.len() as u64;
                match text_of(&page, "continue").filter(|token| !token.is_empty()) {
                    Some(token) => ask = Ask::get(format!("{path}&continue={token}")),
                    None => return Ok(bytes),
                }
            }
        })
    })
}

/// The first value of a key that holds a plain string, found without parsing: answers are long and the load runs beside the server.
pub(crate) fn text_of<'a>(json: &'a [u8], key: &str) -> Option<&'a str> {
    let key = format!("\"{key}\":\"");
    let at = json.windows(key.len()).position(|window| window == key.as_bytes())?;
    let value = json.get(at + key.len()..)?.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(value).ok()
}

/// Each of `workers` sends again as soon as it has its answer, for as long as the context says; what begins in the warm-up does not count.
pub(crate) async fn closed(context: &Context, workers: usize, op: Op) -> Result<Case> {
    let connections = Connection::open_for(&context.target, context.http, workers).await?;
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now() + context.warm_up;
    let end = begin + context.time;
    let running = connections.into_iter().map(|mut connection| {
        let (op, next) = (Arc::clone(&op), Arc::clone(&next));
        tokio::spawn(async move {
            let mut tally = Tally::default();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return Ok(tally);
                }
                let done = op(&mut connection, next.fetch_add(1, Ordering::Relaxed)).await;
                let failed = done.is_err();
                if sent >= begin {
                    count(&mut tally, done, sent);
                }
                if failed {
                    // A connection that is gone fails at once, again and again.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
    });
    gather(context, begin, running.collect(), plural(workers, "connection")).await
}

/// `rate` requests a second, at the context's pace, over `workers` connections, each with its turn. Latency counts from when a request was due.
pub(crate) async fn open(context: &Context, workers: usize, rate: f64, op: Op) -> Result<Case> {
    let connections = Connection::open_for(&context.target, context.http, workers).await?;
    let rate = rate * context.pace;
    let start = Instant::now();
    let begin = start + context.warm_up;
    let end = begin + context.time;
    let running = connections.into_iter().enumerate().map(|(at, mut connection)| {
        let op = Arc::clone(&op);
        tokio::spawn(async move {
            let mut tally = Tally::default();
            for turn in 0_u64.. {
                let number = turn * workers as u64 + at as u64;
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                if due >= end {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let done = op(&mut connection, number).await;
                if due >= begin {
                    count(&mut tally, done, due);
                }
            }
            Ok(tally)
        })
    });
    gather(context, begin, running.collect(), format!("{rate:.0}/s due")).await
}

/// Operations 0 to `count`, once each, as fast as `workers` can; none may fail.
pub(crate) async fn all(context: &Context, workers: usize, count: u64, op: Op) -> Result<Case> {
    let connections = Connection::open_for(&context.target, context.http, workers).await?;
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let running = connections.into_iter().map(|mut connection| {
        let (op, next) = (Arc::clone(&op), Arc::clone(&next));
        tokio::spawn(async move {
            let mut tally = Tally::default();
            loop {
                let (number, sent) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
                if number >= count {
                    return Ok(tally);
                }
                let bytes = op(&mut connection, number).await?;
                tally.done(sent.elapsed(), bytes);
            }
        })
    });
    gather(context, begin, running.collect(), plural(workers, "connection")).await
}

/// Nothing, for as long as the context says: what an idle server uses.
pub(crate) async fn rest(context: &Context, name: &str) -> Result<Case> {
    let (begun, begin) = (usage::begin(&context.pids)?, Instant::now());
    tokio::time::sleep(context.time).await;
    let used = begun.map(|begun| begun.end()).transpose()?;
    Ok(Tally::default().into_case(name, "nothing", begin.elapsed(), used))
}

/// What workers counted from `begin`, which may still be to come, until the last of them ended.
async fn gather(
    context: &Context,
    begin: Instant,
    running: Vec<JoinHandle<Result<Tally>>>,
    name: String,
) -> Result<Case> {
    tokio::time::sleep_until(begin.into()).await;
    let begun = usage::begin(&context.pids)?;
    let mut tally = Tally::default();
    for worker in running {
        tally.add(&worker.await??);
    }
    let used = begun.map(|begun| begun.end()).transpose()?;
    checked(tally.into_case(name, "requests", begin.elapsed(), used))
}

fn count(tally: &mut Tally, done: Result<u64>, since: Instant) {
    match done {
        Ok(bytes) => tally.done(since.elapsed(), bytes),
        Err(error) => tally.failed(&error),
    }
}

/// A load of which nothing succeeded measured nothing.
fn checked(case: Case) -> Result<Case> {
    ensure!(case.count > 0, "nothing succeeded: {}", case.failure.as_deref().unwrap_or("no request was sent"));
    Ok(case)
}

/// `1 connection`, `16 connections`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys() {
        let list = br#"{"metadata":{"resourceVersion":"7","continue":"abc"},"items":[]}"#;
        assert_eq!(text_of(list, "continue"), Some("abc"));
        assert_eq!(text_of(list, "resourceVersion"), Some("7"));
        assert_eq!(text_of(list, "other"), None);
    }
}
