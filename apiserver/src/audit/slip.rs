//! What a request carries of its audit from stage to stage. The last event is written when the answer is known, or when the request
//! goes without one: its client hung up, or the server failed.
//!
//! Never holds up a request but to write an event.

use super::Audit;
use super::event::{AuthenticationMetadata, Event, Named, ObjectRef, ResponseStatus};
use super::policy::{Level, Stage, Verdict};
use crate::answer::{Answer, Body, Failure, refusal};
use crate::authn::{Remark, User};
use crate::road::received::Received;
use crate::road::timed::{Passage, Steps, Work};
use crate::serving::is_long;
use admission::Notes;
use api::codec::{self, Strictness};
use api::json::Value;
use api::meta::duration_text;
use api::schema::{SchemaRef, native};
use api::status::Status;
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a user agent that are kept.
const AGENT: usize = 1024;

/// What a request carries. Empty until its author is known, and for good where the policy records nothing of it.
pub struct Slip {
    audit: Arc<Audit>,
    came: Timestamp,
    steps: Steps,
    /// Annotations that were there before the event was.
    remarks: RefCell<Vec<Remark>>,
    open: RefCell<Option<Open>>,
    /// How long it took to be rid of the answer, once it is known.
    written: Cell<Option<Duration>>,
}

struct Open {
    event: Event,
    verdict: Verdict,
    notes: Option<Arc<Notes>>,
    /// It may last: the beginning of its answer is a stage of its own.
    long: bool,
}

impl Slip {
    /// That of a request that has just come.
    #[must_use]
    pub(crate) fn new(audit: &Arc<Audit>, steps: &Steps) -> Rc<Slip> {
        Rc::new(Slip {
            audit: Arc::clone(audit),
            came: Timestamp::now(),
            steps: steps.clone(),
            remarks: RefCell::default(),
            open: RefCell::new(None),
            written: Cell::new(None),
        })
    }

    /// What is worth saying of the credentials.
    pub(crate) fn remarked(&self, remarks: Vec<Remark>) {
        self.remarks.replace(remarks);
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = &mut *self.open.borrow_mut() {
            change(open);
        }
    }

    fn begin(&self, received: &Received, user: Option<&User>) -> Option<Open> {
        let verdict = self.audit.policy.judge(user, &received.info);
        self.audit.counters.levels.with_label_values(&[verdict.level.name()]).inc();
        if verdict.level == Level::None {
            return None;
        }
        let mut event = begin(received, user, verdict.level, self.came);
        for remark in self.remarks.take() {
            if let Remark::Audit(key, value) = remark {
                event.annotations.insert(key.to_owned(), value);
            }
        }
        Some(Open { event, verdict, notes: None, long: is_long(&received.info) })
    }

    /// Opens the slip of a request whose author is known, and records its arrival.
    ///
    /// # Errors
    /// 500 where an arrival that cannot be recorded must not go on.
    pub async fn arrived(&self, received: &Received, user: &User) -> Result<(), Failure> {
        let Some(mut open) = self.begin(received, Some(user)) else { return Ok(()) };
        let Open { event, verdict, .. } = &mut open;
        if let Err(error) = self.audit.give(event, verdict, Stage::RequestReceived).await {
            self.audit.counters.rejected.inc();
            tracing::error!(error, "a request is refused because its arrival was not recorded");
            return Err(Status::internal("failed to store audit event").into());
        }
        self.open.replace(Some(open));
        Ok(())
    }

    /// Records a request that is refused before anybody knows whose it is: upstream writes the beginning of its answer and nothing else.
    pub async fn unknown(&self, received: &Received, status: &Status) {
        let Some(mut open) = self.begin(received, None) else { return };
        let Open { event, verdict, .. } = &mut open;
        let mut answer = refusal(Failure::Status(status.clone()), received.refused());
        answered(event, verdict, &mut answer);
        // It is refused already.
        let _ = self.audit.give(event, verdict, Stage::ResponseStarted).await;
    }

    /// As whom the request acts, and by which mode of constrained impersonation, if by one.
    pub fn acts_as(&self, user: &User, constraint: &'static str) {
        self.change(|open| {
            open.event.impersonated_user = Some(Named::from(user));
            open.event.authentication_metadata =
                (!constraint.is_empty()).then_some(AuthenticationMetadata { impersonation_constraint: constraint });
        });
    }

    /// How the request was judged.
    pub fn judged(&self, allowed: bool, reason: &str) {
        self.note("authorization.k8s.io/decision", if allowed { "allow" } else { "forbid" });
        self.note("authorization.k8s.io/reason", reason);
    }

    /// An annotation; the first word counts.
    pub fn note(&self, key: &str, value: &str) {
        self.change(|open| {
            open.event.annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        });
    }

    /// What admission will have said in the end.
    pub fn admitted(&self, notes: &Arc<Notes>) {
        self.change(|open| open.notes = Some(Arc::clone(notes)));
    }

    /// The object that the request brought.
    pub fn object(&self, value: &Value, schema: SchemaRef<'_>) {
        self.change(|open| {
            if let Some(about) = &mut open.event.object_ref {
                let fill = |held: &mut String, key: &str| {
                    if held.is_empty() {
                        api::value::text(value, key).clone_into(held);
                    }
                };
                fill(&mut about.namespace, "metadata.namespace");
                fill(&mut about.name, "metadata.name");
                fill(&mut about.uid, "metadata.uid");
                fill(&mut about.resource_version, "metadata.resourceVersion");
            }
            if open.verdict.level >= Level::Request {
                let text = if open.verdict.omit_managed_fields {
                    let mut value = value.clone();
                    without_managed_fields(&mut value);
                    codec::json::encode(&value, schema)
                } else {
                    codec::json::encode(value, schema)
                };
                open.event.request_object = raw(&text);
            }
        });
    }

    /// The patch that the request brought, as it came.
    pub fn patch(&self, media: &str, bytes: &[u8]) {
        self.change(|open| {
            if open.verdict.level >= Level::Request {
                open.event.request_object = json(media, bytes);
            }
        });
    }

    /// Records the answer. Of one that goes on, that is long or that was long in coming, its end is recorded when nobody holds the slip any more.
    pub async fn answered(&self, mut answer: Answer) -> Answer {
        let Some(mut open) = self.open.take() else { return answer };
        let Open { event, verdict, notes, long } = &mut open;
        for (key, value) in notes.take().iter().flat_map(|notes| notes.audited()) {
            event.annotations.entry(key).or_insert(value);
        }
        answered(event, verdict, &mut answer);
        if *long {
            // The answer is decided: only an arrival can still be refused.
            let _ = self.audit.give(event, verdict, Stage::ResponseStarted).await;
        }
        let short = matches!(&answer.body, Body::Bytes(bytes) if bytes.len() < SHORT);
        if !short || self.steps.elapsed() > LONG {
            self.open.replace(Some(open));
            return answer;
        }
        let _ = self.audit.give(event, verdict, Stage::ResponseComplete).await;
        answer
    }

    /// The end of the request is not recorded yet.
    pub(crate) fn is_open(&self) -> bool {
        self.open.borrow().is_some()
    }

    /// The answer is gone, and it took so long to be rid of it.
    pub(crate) fn written(&self, spent: Duration) {
        self.written.set(Some(spent));
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        let Some(mut open) = self.open.get_mut().take() else { return };
        let Open { event, verdict, .. } = &mut open;
        let stage = if std::thread::panicking() { Stage::Panic } else { Stage::ResponseComplete };
        if stage == Stage::Panic {
            let status = ResponseStatus::told(500, "Failure", "InternalError", "APIServer panic'd".to_owned());
            event.response_status = Some(status);
        } else if event.response_status.is_none() {
            let status = ResponseStatus::told(200, "Success", "", "Connection closed early".to_owned());
            event.response_status = Some(status);
        }
        if stage != Stage::Panic && event.verb != "watch" {
            for (key, value) in latencies(&self.steps.lasted(), &self.steps.parts(), self.written.get()) {
                event.annotations.entry(key.to_owned()).or_insert(value);
            }
        }
        self.audit.give_now(event, verdict, stage);
    }
}

/// What took longer is told of.
const LONG: Duration = Duration::from_millis(500);

/// Answers below so many bytes are taken by a connection at once.
const SHORT: usize = 64 * 1024;

/// Annotations about where the time of a request went; none where it took little. The stages are upstream's, as far as they are ours. Of
/// webhooks that are asked side by side the longest counts, anything else adds up.
fn latencies(
    stages: &[(&'static str, Duration, Duration)],
    parts: &[Passage],
    written: Option<Duration>,
) -> Vec<(&'static str, String)> {
    let total = stages.last().map_or(Duration::ZERO, |(_, _, left)| *left);
    if total <= LONG {
        return Vec::new();
    }
    let told = |time: Duration| duration_text(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    let named = |stage: &str| match stage {
        "identified" => Some("apiserver.latency.k8s.io/authentication"),
        "impersonated" => Some("apiserver.latency.k8s.io/impersonation"),
        "seated" => Some("apiserver.latency.k8s.io/apf-queue-wait"),
        "authorized" => Some("apiserver.latency.k8s.io/authorization"),
        _ => None,
    };
    let stages = stages.iter().filter_map(|(stage, entered, left)| Some((named(stage)?, told(*left - *entered))));
    let mut spent: Vec<(Work, Duration)> = Vec::new();
    for (part, from, until) in parts {
        let took = until.saturating_sub(*from);
        match spent.iter_mut().find(|(known, _)| known == part) {
            Some((Work::Validating, longest)) => *longest = took.max(*longest),
            Some((_, sum)) => *sum += took,
            None => spent.push((*part, took)),
        }
    }
    let spent = spent.iter().filter(|(_, took)| !took.is_zero()).map(|(part, took)| (part.names().0, told(*took)));
    let written = written.filter(|took| !took.is_zero());
    let written = written.map(|took| ("apiserver.latency.k8s.io/response-write", told(took)));
    stages.chain(spent).chain(written).chain([("apiserver.latency.k8s.io/total", told(total))]).collect()
}

/// What is known of a request as it comes.
fn begin(received: &Received, user: Option<&User>, level: Level, came: Timestamp) -> Event {
    let mut event = Event::new(level, received.id().to_owned(), came);
    event.user = user.map(Named::from).unwrap_or_default();
    event.request_uri.clone_from(&received.target);
    event.verb.clone_from(&received.info.verb);
    let said = |name: &str| received.header(name).unwrap_or_default();
    let own = received.peer.address.map(|address| address.ip());
    event.source_ips = sources(said("x-forwarded-for"), said("x-real-ip"), own);
    event.user_agent = agent(said("user-agent"));
    let info = &received.info;
    event.object_ref = info.is_resource.then(|| ObjectRef {
        resource: info.resource.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        api_group: info.group.clone(),
        api_version: info.version.clone(),
        subresource: info.subresource.clone(),
        ..ObjectRef::default()
    });
    event
}

fn agent(text: &str) -> String {
    match text.get(..AGENT) {
        // A header as text is ASCII: every place is one between letters.
        Some(kept) if text.len() > AGENT => format!("{kept}...TRUNCATED"),
        _ => text.to_owned(),
    }
}

/// Where the request says it came from, and at last where it did.
fn sources(forwarded: &str, real: &str, own: Option<IpAddr>) -> Vec<String> {
    let read = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut out: Vec<IpAddr> = forwarded.split(',').filter_map(read).collect();
    out.extend(read(real).filter(|address| !out.contains(address)));
    out.extend(own.filter(|address| out.last() != Some(address)));
    out.iter().map(ToString::to_string).collect()
}

/// Fills in what an answer says.
fn answered(event: &mut Event, verdict: &Verdict, answer: &mut Answer) {
    if verdict.level == Level::RequestResponse {
        answer.body.gather();
    }
    let whole = match &answer.body {
        Body::Bytes(bytes) => Some(bytes.clone()),
        Body::Pieces(..) | Body::Stream(_) => None,
    };
    let status = whole.as_deref().filter(|bytes| is_status(answer.content_type, bytes));
    let mut body = None;
    if status.is_some() || verdict.level == Level::RequestResponse {
        body = whole.as_deref().and_then(|bytes| json(answer.content_type, bytes));
    }
    event.response_status = Some(match body.as_deref().filter(|_| status.is_some()) {
        Some(body) => ResponseStatus::read(answer.code, body),
        None => ResponseStatus::of(answer.code),
    });
    if verdict.level == Level::RequestResponse {
        // What is no object of the API is nobody's object.
        let object = body.filter(|body| kind(body).is_some());
        event.response_object = object.map(|body| if verdict.omit_managed_fields { stripped(body) } else { body });
    }
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Whether a body is a `Status`, told from its first bytes.
fn is_status(media: &str, bytes: &[u8]) -> bool {
    if media.starts_with(PROTOBUF) {
        return codec::protobuf::type_of(bytes).is_ok_and(|(version, kind)| version == "v1" && kind == "Status");
    }
    if media.ends_with("yaml") {
        return bytes.starts_with(b"apiVersion: v1\ncode: ");
    }
    let mut letters = bytes.iter().take(64).filter(|byte| !byte.is_ascii_whitespace());
    b"{\"kind\":\"Status\",".iter().all(|letter| letters.next() == Some(letter))
}

fn kind(body: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        kind: String,
    }
    api::json::from_str::<Typed>(body.get()).ok().map(|typed| typed.kind)
}

/// JSON on one line as it is; none where it is no JSON.
fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    // Only spaces between the parts can hold the end of a line.
    if text.contains(['\n', '\r']) {
        let value = codec::json::parse(text.as_bytes()).ok()?;
        return RawValue::from_string(value.to_string()).ok();
    }
    RawValue::from_string(text.to_owned()).ok()
}

/// A body as JSON: patches too, where they are JSON or YAML. What is neither and has no schema of ours is left out.
fn json(media: &str, bytes: &[u8]) -> Option<Box<RawValue>> {
    let media = media.split(';').next().unwrap_or_default().trim();
    if media == PROTOBUF {
        let (api_version, kind) = codec::protobuf::type_of(bytes).ok()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let schema = native().of_gvk(group, version, &kind)?;
        let value = codec::protobuf::decode(bytes, schema, Strictness::Ignore).ok()?.value;
        return raw(&codec::json::encode(&value, schema));
    }
    raw(bytes).or_else(|| {
        let value = codec::yaml::parse(bytes).ok().filter(|_| media.ends_with("yaml"))?;
        raw(value.to_string().as_bytes())
    })
}

/// The body without `managedFields`, in the order of its schema where it has one.
fn stripped(body: Box<RawValue>) -> Box<RawValue> {
    let Ok(mut value) = codec::json::parse(body.get().as_bytes()) else { return body };
    without_managed_fields(&mut value);
    let text = |key: &str| api::value::text(&value, key);
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    match native().of_gvk(group, version, text("kind")) {
        Some(schema) => raw(&codec::json::encode(&value, schema)),
        None => raw(value.to_string().as_bytes()),
    }
    .unwrap_or(body)
}

/// Takes `managedFields` out of an object, of the items of a list and of the rows of a table.
fn without_managed_fields(value: &mut Value) {
    let strip = |object: &mut Value| {
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
    };
    strip(value);
    value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
    let rows = value.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten();
    rows.filter_map(|row| row.get_mut("object")).for_each(strip);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use crate::audit::file::Rotation;
    use crate::audit::policy::Policy;
    use crate::audit::queue::Mode;
    use crate::audit::{Counters, LogSettings, Settings};
    use crate::road::negotiated::Medium;
    use actix_web::body::MessageBody as _;
    use api::json::json;
    use prometheus::Registry;

    #[test]
    fn managed_fields_are_left_out_of_objects_lists_and_tables() {
        let managed = || json!({"metadata": {"name": "a", "managedFields": [1]}});
        let plain = || json!({"metadata": {"name": "a"}});
        let mut list = json!({"metadata": {}, "items": [managed(), managed()], "rows": [{"object": managed()}]});
        without_managed_fields(&mut list);
        assert_eq!(list, json!({"metadata": {}, "items": [plain(), plain()], "rows": [{"object": plain()}]}));
    }

    #[test]
    fn addresses_are_those_that_were_named_and_the_true_one() {
        let check = |forwarded: &str, real: &str, own: &str, want: &[&str]| {
            assert_eq!(sources(forwarded, real, own.parse().ok()), want, "{forwarded:?} {real:?} {own:?}");
        };
        check("", "", "10.0.0.1", &["10.0.0.1"]);
        check("1.1.1.1, x, 2.2.2.2", "1.1.1.1", "10.0.0.1", &["1.1.1.1", "2.2.2.2", "10.0.0.1"]);
        check("1.1.1.1", "3.3.3.3", "3.3.3.3", &["1.1.1.1", "3.3.3.3"]);
        check("::1", "", "", &["::1"]);
    }

    #[test]
    fn a_long_user_agent_says_that_it_was_longer() {
        assert_eq!(agent("kubectl"), "kubectl");
        assert_eq!(agent(&"x".repeat(1024)), "x".repeat(1024));
        assert_eq!(agent(&"x".repeat(1025)), format!("{}...TRUNCATED", "x".repeat(1024)));
    }

    #[test]
    fn answers_are_kept_as_the_level_says() {
        let check = |level: Level, code: u16, body: &'static str, status: &str, object: &str| {
            let mut event = Event::new(level, String::new(), Timestamp::UNIX_EPOCH);
            let verdict = Verdict { level, omit: Vec::new(), omit_managed_fields: true };
            answered(&mut event, &verdict, &mut Answer::bytes(code, "application/json", body));
            let told = api::json::to_string(&event.response_status).unwrap();
            let kept = event.response_object.map_or_else(String::new, |object| object.get().to_owned());
            assert_eq!((told.as_str(), kept.as_str()), (status, object), "{level:?} {body}");
        };
        let object = "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\",\"managedFields\":[{\"manager\":\"m\"}]}}";
        let plain = "{\"metadata\":{},\"code\":200}";
        check(Level::Metadata, 200, object, plain, "");
        check(Level::Request, 200, object, plain, "");
        let short = "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}";
        check(Level::RequestResponse, 200, object, plain, short);
        let status = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"details\":{\"uid\":\"u\"}}";
        let told = "{\"metadata\":{},\"status\":\"Success\",\"details\":{\"uid\":\"u\"},\"code\":200}";
        check(Level::Metadata, 200, status, told, "");
        check(Level::RequestResponse, 200, status, told, status);
        check(Level::RequestResponse, 200, "{\"major\":\"1\"}", plain, "");
        check(Level::RequestResponse, 404, "404 page not found", "{\"metadata\":{},\"code\":404}", "");
        check(Level::RequestResponse, 200, "{\n \"kind\": \"X\"\n}\n", plain, "{\"kind\":\"X\"}");
    }

    /// A slip of a request that has arrived, and what its log holds when it was used.
    async fn events(long: bool, steps: Steps, use_up: impl AsyncFnOnce(Rc<Slip>)) -> Vec<Value> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log").display().to_string();
        let text = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}";
        let settings = Settings {
            policy: Policy::read(text.as_bytes()).unwrap().0,
            log: Some(LogSettings {
                path: path.clone(),
                legacy: false,
                rotation: Rotation::default(),
                mode: Mode::Blocking,
                truncate: None,
            }),
            webhook: None,
        };
        let audit = Arc::new(Audit::open(&settings, Counters::new(&Registry::new()).unwrap()).unwrap());
        let slip = Slip::new(&audit, &steps);
        let verdict = Verdict { level: Level::Metadata, omit: Vec::new(), omit_managed_fields: false };
        let event = Event::new(Level::Metadata, "id".to_owned(), Timestamp::UNIX_EPOCH);
        slip.open.replace(Some(Open { event, verdict, notes: None, long }));
        use_up(slip).await;
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| api::json::from_str(line).unwrap()).collect()
    }

    async fn stages(long: bool, use_up: impl AsyncFnOnce(Rc<Slip>)) -> Vec<String> {
        let shown = |event: &Value| format!("{} {}", event["stage"].as_str().unwrap(), event["responseStatus"]["code"]);
        events(long, Steps::begin("identified"), use_up).await.iter().map(shown).collect()
    }

    #[tokio::test]
    async fn an_answer_is_on_record_when_it_is_gone() {
        let check = async |size: usize, age: Duration, slow: Duration, open: bool| {
            let body = "x".repeat(size);
            let events = events(false, Steps::aged("identified", age), async |slip| {
                let answer = slip.answered(Answer::bytes(200, "text/plain", body.clone())).await;
                assert_eq!(slip.is_open(), open, "{size} {age:?}");
                let response = crate::answer::render(Ok(answer), None);
                let mut sent = crate::road::watched(response, Some(slip), None).into_body();
                let mut got = Vec::new();
                while let Some(piece) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut sent).poll_next(cx)).await {
                    got.extend_from_slice(&piece.unwrap());
                    tokio::time::sleep(slow).await;
                }
                assert_eq!(got, body.as_bytes());
            });
            let events = events.await;
            assert_eq!((events.len(), &events[0]["stage"]), (1, &Value::from("ResponseComplete")));
            let note = |name: &str| {
                events[0]["annotations"][&format!("apiserver.latency.k8s.io/{name}")].as_str().map(str::to_owned)
            };
            (note("response-write"), note("total"))
        };
        let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
        assert_eq!(check(10, milli, Duration::ZERO, false).await, (None, None));
        assert_eq!(check(200_000, milli, Duration::ZERO, true).await, (None, None));
        let (written, total) = check(200_000, second, 10 * milli, true).await;
        // Three pieces and a bit, of which each was held for that long.
        let millis = |text: Option<String>| text.and_then(|text| text.strip_suffix("ms")?.parse::<f64>().ok());
        assert!(millis(written.clone()).is_some_and(|written| written >= 40.0), "{written:?}");
        assert!(total.is_some_and(|total| total.starts_with("1.")), "of a second and more");
        let (written, total) = check(10, second, Duration::ZERO, true).await;
        assert!(written.is_some() && total.is_some());
    }

    #[tokio::test]
    async fn nothing_goes_unrecorded_however_it_ends() {
        let whole = || Answer::bytes(201, "application/json", "{}");
        let answered = stages(false, async |slip| drop(slip.answered(whole()).await)).await;
        assert_eq!(answered, ["ResponseComplete 201"]);
        let refused =
            stages(true, async |slip| drop(slip.answered(refusal(Status::unauthorized().into(), Medium::JSON)).await))
                .await;
        assert_eq!(refused, ["ResponseStarted 401", "ResponseComplete 401"]);
        let hung_up = stages(false, async |slip| drop(slip)).await;
        assert_eq!(hung_up, ["ResponseComplete 200"]);
        let failed = stages(false, async |slip| {
            let run = std::panic::AssertUnwindSafe(|| {
                let _slip = slip;
                panic!("on purpose");
            });
            assert!(std::panic::catch_unwind(run).is_err());
        });
        assert_eq!(failed.await, ["Panic 500"]);
        let streamed = stages(true, async |slip| {
            let answer = slip.answered(crate::answer::stream("", futures::stream::pending())).await;
            let text = "the head is told, and the end not yet";
            assert!(matches!(answer.body, Body::Stream(_)), "{text}");
            drop(answer);
        });
        assert_eq!(streamed.await, ["ResponseStarted 200", "ResponseComplete 200"]);
        // A connection that was taken over lasts as long as its tunnel.
        let tunnelled = stages(true, async |slip| {
            let held = Rc::clone(&slip);
            let mut answer = crate::answer::stream("", futures::stream::empty());
            answer.code = 101;
            drop(slip.answered(answer).await);
            assert!(held.open.borrow().is_some());
        });
        assert_eq!(tunnelled.await, ["ResponseStarted 101", "ResponseComplete 101"]);
    }

    #[test]
    fn what_took_long_says_where() {
        let milli = Duration::from_millis;
        let stages = |last| {
            [
                ("identified", milli(0), milli(120)),
                ("audited", milli(120), milli(120)),
                ("seated", milli(120), milli(370)),
                ("verb", milli(370), last),
            ]
        };
        let part = |part, from, until| (part, milli(from), milli(until));
        let parts = [
            part(Work::Store, 370, 380),
            part(Work::Mutating, 400, 500),
            part(Work::Mutating, 500, 550),
            part(Work::Validating, 600, 700),
            part(Work::Validating, 600, 630),
            part(Work::Store, 800, 810),
            part(Work::Decode, 810, 810),
        ];
        assert_eq!(latencies(&stages(milli(500)), &parts, Some(milli(100))), []);
        let told = latencies(&stages(milli(1500)), &parts, Some(milli(600)));
        let of = |key: &str| told.iter().find(|(known, _)| known.ends_with(key)).map(|(_, value)| value.as_str());
        assert_eq!(
            (told.len(), of("/authentication"), of("/apf-queue-wait"), of("/total")),
            (7, Some("120ms"), Some("250ms"), Some("1.5s"))
        );
        assert_eq!(of("/response-write"), Some("600ms"));
        assert_eq!(latencies(&stages(milli(1500)), &parts, None).len(), 6);
        assert_eq!(
            (of("/etcd"), of("/mutating-webhook"), of("/validating-webhook")),
            (Some("20ms"), Some("150ms"), Some("100ms"))
        );
    }

    #[test]
    fn patches_are_kept_whatever_they_are_written_in() {
        let check = |media: &str, text: &str, want: Option<&str>| {
            assert_eq!(json(media, text.as_bytes()).as_deref().map(RawValue::get), want, "{text}");
        };
        check("application/merge-patch+json", "{\"a\": 1}", Some("{\"a\": 1}"));
        check("application/json-patch+json", "[{\"op\":\"remove\"}]", Some("[{\"op\":\"remove\"}]"));
        check("application/apply-patch+yaml", "a: 1\nb: [x]\n", Some("{\"a\":1,\"b\":[\"x\"]}"));
        check("application/merge-patch+json", "{", None);
    }
}
