//! Events on their way out: at once, or gathered by a task that hands on several together. What finds no room is counted and lost.
//!
//! Never makes a request wait, but for a way out in a blocking mode.

use super::file::Lines;
use crate::remote::Remote;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::IntCounterVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a batch is posted before it is lost, and by how much each pause is longer than the one before. Source: upstream's
/// `DefaultRetryBackoffWithInitialDelay`.
const TRIES: u32 = 5;
const LONGER: f64 = 1.5;
/// How long one post may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Batches on their way to a server at once. Upstream has no bound.
const ABROAD: usize = 64;
/// How long an end waits for events that are on their way.
const LAST: Duration = Duration::from_secs(10);

/// How events are gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// Events that may wait.
    pub buffer: usize,
    /// Most events handed on together.
    pub size: usize,
    /// How long the first one waits for others.
    pub wait: Duration,
    /// Batches a second, and how many at once; none for as many as come.
    pub throttle: Option<(f64, u32)>,
}

/// When a caller learns of a failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Never: a task writes.
    Batch(Batch),
    /// Never, but the line is written before the request goes on.
    Blocking,
    /// A request whose arrival cannot be recorded fails.
    BlockingStrict,
}

/// Where events go in the end.
pub(super) enum Place {
    /// Lines of a file.
    Log(Mutex<Lines>),
    /// A server.
    Webhook {
        /// Where and as whom.
        remote: Remote,
        /// `--audit-webhook-initial-backoff`: the pause before the second try.
        pause: Duration,
    },
}

/// Something that takes events.
trait Takes: Send + Sync + 'static {
    /// Whether batches may overtake each other.
    fn is_far(&self) -> bool;
    /// Hands on some events, each one line of text.
    fn send(&self, events: Vec<String>) -> impl Future<Output = Result<(), String>> + Send;
}

impl Place {
    fn plugin(&self) -> &'static str {
        match self {
            Place::Log(_) => "log",
            Place::Webhook { .. } => "webhook",
        }
    }
}

impl Takes for Place {
    fn is_far(&self) -> bool {
        matches!(self, Place::Webhook { .. })
    }

    async fn send(&self, events: Vec<String>) -> Result<(), String> {
        match self {
            Place::Log(lines) => write(lines, &events),
            Place::Webhook { remote, pause } => {
                let list = list(&events);
                insist(*pause, || async { remote.post(list.clone(), PATIENCE).await.map(|(code, _)| code) }).await
            }
        }
    }
}

fn write(lines: &Mutex<Lines>, events: &[String]) -> Result<(), String> {
    let mut text = events.join("\n");
    text.push('\n');
    lines.lock().write(&text, Timestamp::now()).map_err(|error| error.to_string())
}

/// An `EventList` of events that are JSON already.
fn list(events: &[String]) -> Vec<u8> {
    let head = "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[";
    format!("{head}{}]}}", events.join(",")).into_bytes()
}

/// Posts until it is taken or was tried often enough. Every refusal may pass, as upstream sees it: what is not tried again is lost.
async fn insist<P>(initial: Duration, mut post: impl FnMut() -> P) -> Result<(), String>
where
    P: Future<Output = Result<u16, String>>,
{
    let mut pause = initial;
    let mut left = TRIES;
    loop {
        left -= 1;
        let refused = match post().await {
            Ok(code) if (200..300).contains(&code) => return Ok(()),
            Ok(code) => format!("the webhook answered {code}"),
            Err(error) => error,
        };
        if left == 0 {
            return Err(refused);
        }
        tracing::warn!(refused, "audit events are sent again");
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(LONGER);
    }
}

/// An event on its way.
pub type Sending = JoinHandle<Result<(), String>>;

/// One way out.
pub struct Queue {
    place: Arc<Place>,
    errors: IntCounterVec,
    runtime: Handle,
    strict: bool,
    gathered: Option<mpsc::Sender<String>>,
    /// Ends the gathering, and what gathers.
    end: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Queue {
    /// Opens a way out. `errors` counts what was lost by plugin. Must be called within a tokio runtime.
    #[must_use]
    pub(super) fn open(place: Place, mode: Mode, errors: IntCounterVec) -> Queue {
        let (place, runtime, end) = (Arc::new(place), Handle::current(), CancellationToken::new());
        let plugin = place.plugin();
        let (mut gathered, mut task) = (None, None);
        if let Mode::Batch(batch) = mode {
            let (sender, receiver) = mpsc::channel(batch.buffer.max(1));
            let (lost, end, place) = (errors.with_label_values(&[plugin]), end.clone(), Arc::clone(&place));
            let lose = move |events: usize| lost.inc_by(u64::try_from(events).unwrap_or(u64::MAX));
            task = Some(runtime.spawn(gather(receiver, batch, Arc::new(lose), end, place)));
            gathered = Some(sender);
        }
        let strict = mode == Mode::BlockingStrict;
        Queue { place, errors, runtime, strict, gathered, end, task: Mutex::new(task) }
    }

    fn lost(&self, plugin: &str, why: &str) {
        self.errors.with_label_values(&[plugin]).inc();
        tracing::error!(plugin, error = why, "an audit event was lost");
    }

    /// Waits until an event is handed on.
    ///
    /// # Errors
    /// Why it could not be recorded, where that must stop the request.
    pub async fn settled(&self, sending: Option<Sending>) -> Result<(), String> {
        let Some(sending) = sending else { return Ok(()) };
        let sent = sending.await.unwrap_or_else(|error| Err(error.to_string()));
        sent.or_else(|why| if self.strict { Err(why) } else { Ok(()) })
    }

    /// Hands on one event. What is not done when it returns goes on by itself, waited for or not.
    pub fn give_now(self: &Arc<Self>, event: String) -> Option<Sending> {
        if let Some(sender) = &self.gathered {
            if sender.try_send(event).is_err() {
                self.lost("buffered", "audit buffer queue blocked");
            }
            return None;
        }
        if let Place::Log(lines) = &*self.place {
            let written = write(lines, std::slice::from_ref(&event));
            let failed = written.inspect_err(|why| self.lost("log", why)).err()?;
            return self.strict.then(|| self.runtime.spawn(async move { Err(failed) }));
        }
        let queue = Arc::clone(self);
        Some(self.runtime.spawn(async move {
            let sent = queue.place.send(vec![event]).await;
            sent.inspect_err(|why| queue.lost(queue.place.plugin(), why))
        }))
    }

    /// Hands on what waits, and waits for that; what comes later is lost.
    pub async fn close(&self) {
        self.end.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && tokio::time::timeout(LAST, task).await.is_err()
        {
            tracing::error!(plugin = self.place.plugin(), "audit events were lost at the end");
        }
    }
}

type Lose = Arc<dyn Fn(usize) + Send + Sync>;

/// Gathers what comes and hands it on until `end`, and then the rest.
async fn gather(
    mut receiver: mpsc::Receiver<String>,
    batch: Batch,
    lose: Lose,
    end: CancellationToken,
    place: Arc<impl Takes>,
) {
    let mut bucket = batch.throttle.map(|(rate, burst)| Bucket::full(rate, burst, Instant::now()));
    let mut abroad = JoinSet::new();
    let mut events: Vec<String> = Vec::new();
    while !end.is_cancelled() {
        let first = tokio::select! {
            biased;
            first = receiver.recv() => first,
            () = end.cancelled() => None,
        };
        let Some(first) = first else { break };
        events.push(first);
        let until = Instant::now() + batch.wait;
        while events.len() < batch.size {
            let more = tokio::select! {
                biased;
                more = receiver.recv() => more,
                () = tokio::time::sleep_until(until) => None,
                () = end.cancelled() => None,
            };
            let Some(more) = more else { break };
            events.push(more);
        }
        if let Some(wait) = bucket.as_mut().and_then(|bucket| bucket.take(Instant::now())) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = end.cancelled() => {}
            }
        }
        hand_on(&mut events, &lose, &place, &mut abroad).await;
    }
    receiver.close();
    while let Some(event) = receiver.recv().await {
        events.push(event);
        if events.len() >= batch.size {
            hand_on(&mut events, &lose, &place, &mut abroad).await;
        }
    }
    hand_on(&mut events, &lose, &place, &mut abroad).await;
    while abroad.join_next().await.is_some() {}
}

async fn hand_on(events: &mut Vec<String>, lose: &Lose, place: &Arc<impl Takes>, abroad: &mut JoinSet<()>) {
    let events = std::mem::take(events);
    if events.is_empty() {
        return;
    }
    let (lose, place, number, far) = (Arc::clone(lose), Arc::clone(place), events.len(), place.is_far());
    let sent = async move {
        if let Err(error) = place.send(events).await {
            lose(number);
            tracing::error!(error, events = number, "audit events were lost");
        }
    };
    if !far {
        return sent.await;
    }
    while abroad.try_join_next().is_some() {}
    if abroad.len() >= ABROAD {
        abroad.join_next().await;
    }
    abroad.spawn(sent);
}

/// A bucket of permits, filled at a rate.
struct Bucket {
    rate: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: f64, burst: u32, at: Instant) -> Bucket {
        let burst = f64::from(burst);
        Bucket { rate, burst, level: burst, at }
    }

    /// Takes one permit; how long to wait until it is there.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + since * self.rate).min(self.burst) - 1.0;
        self.at = now;
        let missing = -self.level / self.rate;
        (self.level < 0.0).then(|| Duration::try_from_secs_f64(missing).unwrap_or(Duration::from_secs(1)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use prometheus::Opts;

    /// Keeps what it gets; far ones answer when they are told.
    #[derive(Default)]
    struct Kept {
        batches: Mutex<Vec<Vec<String>>>,
        far: bool,
        open: CancellationToken,
    }

    impl Takes for Kept {
        fn is_far(&self) -> bool {
            self.far
        }

        async fn send(&self, events: Vec<String>) -> Result<(), String> {
            let fails = events.iter().any(|event| event == "bad");
            self.batches.lock().push(events);
            if self.far {
                self.open.cancelled().await;
            }
            if fails { Err("refused".to_owned()) } else { Ok(()) }
        }
    }

    struct Run {
        sender: mpsc::Sender<String>,
        kept: Arc<Kept>,
        lost: Arc<Mutex<usize>>,
        end: CancellationToken,
        task: JoinHandle<()>,
    }

    fn run(batch: Batch, far: bool) -> Run {
        let (sender, receiver) = mpsc::channel(batch.buffer);
        let kept = Arc::new(Kept { far, ..Kept::default() });
        let (lost, end) = (Arc::new(Mutex::new(0)), CancellationToken::new());
        let counted = Arc::clone(&lost);
        let lose = Arc::new(move |events| *counted.lock() += events);
        let task = tokio::spawn(gather(receiver, batch, lose, end.clone(), Arc::clone(&kept)));
        Run { sender, kept, lost, end, task }
    }

    const BATCH: Batch = Batch { buffer: 100, size: 3, wait: Duration::from_secs(30), throttle: None };

    #[tokio::test(start_paused = true)]
    async fn events_are_gathered_by_number_and_by_time_and_none_is_left_behind() {
        let run = run(BATCH, false);
        for number in 0..4 {
            run.sender.send(number.to_string()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*run.kept.batches.lock(), [["0", "1", "2"]]);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(run.kept.batches.lock().len(), 2);
        run.sender.send("bad".to_owned()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        run.end.cancel();
        run.task.await.unwrap();
        assert_eq!(run.kept.batches.lock().last().unwrap(), &["bad"]);
        assert_eq!(*run.lost.lock(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_does_not_hold_up_other_batches_but_bounds_them() {
        let run = run(Batch { size: 1, wait: Duration::ZERO, ..BATCH }, true);
        for number in 0..ABROAD + 10 {
            run.sender.send(number.to_string()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(run.kept.batches.lock().len(), ABROAD);
        run.kept.open.cancel();
        run.end.cancel();
        run.task.await.unwrap();
        assert_eq!(run.kept.batches.lock().len(), ABROAD + 10);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_throttled_after_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10.0, 2, start);
        let waits: Vec<Option<u128>> = (0..4).map(|_| bucket.take(start).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [None, None, Some(100), Some(200)]);
        assert_eq!(bucket.take(start + Duration::from_secs(60)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_tried_five_times_with_longer_pauses() {
        let check = async |answers: &[Result<u16, String>], want: Result<(), &str>, pauses: f64| {
            let (start, asked) = (Instant::now(), Mutex::new(answers.iter().cloned()));
            let done = insist(Duration::from_secs(10), || std::future::ready(asked.lock().next().unwrap())).await;
            assert_eq!(done, want.map_err(str::to_owned));
            assert!((start.elapsed().as_secs_f64() - pauses).abs() < 0.1, "{:?}", start.elapsed());
            assert_eq!(asked.lock().len(), 0);
        };
        check(&[Ok(200)], Ok(()), 0.0).await;
        check(&[Ok(400), Err("gone".to_owned()), Ok(204)], Ok(()), 25.0).await;
        let refusals = [Ok(500), Ok(503), Ok(429), Ok(302), Ok(404)];
        check(&refusals, Err("the webhook answered 404"), 10.0 + 15.0 + 22.5 + 33.75).await;
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_counted_and_stops_a_request_in_strict_mode_alone() {
        let check = async |mode: Mode, plugin: &str, stops: bool| {
            let errors = IntCounterVec::new(Opts::new("e", "e"), &["plugin"]).unwrap();
            let full =
                Place::Log(Mutex::new(Lines::open("/dev/full", super::super::file::Rotation::default()).unwrap()));
            let queue = Arc::new(Queue::open(full, mode, errors.clone()));
            for _ in 0..3 {
                let sending = queue.give_now("x".to_owned());
                assert_eq!(queue.settled(sending).await.is_err(), stops, "{mode:?}");
            }
            queue.close().await;
            assert!(errors.with_label_values(&[plugin]).get() > 0, "{mode:?}");
        };
        check(Mode::Blocking, "log", false).await;
        check(Mode::BlockingStrict, "log", true).await;
        // The task has no turn between the gifts, so two of three find no room.
        check(Mode::Batch(Batch { buffer: 1, ..BATCH }), "buffered", false).await;
        check(Mode::Batch(Batch { buffer: 1, ..BATCH }), "log", false).await;
    }

    #[test]
    fn events_for_a_server_are_one_list() {
        let sent = list(&["{\"a\":1}".to_owned(), "{}".to_owned()]);
        let want =
            "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[{\"a\":1},{}]}";
        assert_eq!(String::from_utf8(sent).unwrap(), want);
    }
}
