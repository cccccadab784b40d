//! `EventRateLimit`: so many Events a second, of the server, of a namespace, of a user, or of a source about an object.
//!
//! Configuration: `Configuration` of `eventratelimit.admission.k8s.io/v1alpha1`. Without one nothing is limited. Time is the request's.

use crate::configured::{Settings, Setup};
use crate::plugin::{Lookup, Plugin, Refusal, Request};
use api::json::Value;
use api::status::Status;
use api::value;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

/// See the file.
#[derive(Default)]
pub struct EventRateLimit(Vec<Limit>);

pub(crate) static PLUGIN: EventRateLimit = EventRateLimit(Vec::new());

/// Keys that a limit remembers where its configuration does not say how many.
const MOST_KEYS: usize = 4096;

struct Limit {
    kind: String,
    qps: i64,
    burst: i64,
    most: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// Tokens are counted in thousandths; time in seconds.
#[derive(Clone, Copy)]
struct Bucket {
    tokens: i64,
    since: i64,
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn resources(&self) -> &'static [&'static str] {
        &["events"]
    }

    fn by_default(&self) -> bool {
        false
    }

    fn configured(&self, settings: &Settings<'_>) -> Setup {
        let limit = |(at, given): (usize, &Value)| {
            let kind = value::text(given, "type").to_owned();
            if !["Server", "Namespace", "User", "SourceAndObject"].contains(&kind.as_str()) {
                let known = "supported values: \"Namespace\", \"Server\", \"SourceAndObject\", \"User\"";
                return Err(format!("limits[{at}].type: Unsupported value: {kind:?}: {known}"));
            }
            let number = |field: &str| match value::int(given, field) {
                Some(number) if number > 0 => Ok(number),
                other => {
                    Err(format!("limits[{at}].{field}: Invalid value: {}: must be positive", other.unwrap_or_default()))
                }
            };
            let most = value::int(given, "cacheSize").unwrap_or_default();
            let most = usize::try_from(most)
                .map_err(|_| format!("limits[{at}].cacheSize: Invalid value: {most}: must not be negative"))?;
            let most = if most == 0 { MOST_KEYS } else { most };
            Ok(Limit { kind, qps: number("qps")?, burst: number("burst")?, most, buckets: Mutex::default() })
        };
        let limits = value::items(settings.configuration, "limits").iter().enumerate().map(limit);
        Ok(Some(Box::new(EventRateLimit(limits.collect::<Result<_, String>>()?))))
    }

    async fn validate(&self, request: &Request<'_>, event: &Value, _: &dyn Lookup) -> Result<(), Refusal> {
        if request.kind.kind != "Event" || !request.kind.group.is_empty() || !request.is_open() || request.dry_run {
            return Ok(());
        }
        let refused: Vec<String> = self
            .0
            .iter()
            .filter_map(|limit| {
                let key = key(&limit.kind, request, event);
                (!limit.take(&key, request.now)).then(|| format!("limit reached on type {} for key {key}", limit.kind))
            })
            .collect();
        match refused.as_slice() {
            [] => Ok(()),
            [one] => Err(Refusal(Status::too_many_requests(one.clone(), 0))),
            many => Err(Refusal(Status::too_many_requests(format!("[{}]", many.join(", ")), 0))),
        }
    }
}

fn key(kind: &str, request: &Request<'_>, event: &Value) -> String {
    match kind {
        "Namespace" => request.namespace.to_owned(),
        "User" => request.user.to_owned(),
        "SourceAndObject" => [
            "source.component",
            "source.host",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
        ]
        .map(|path| value::text(event, path))
        .concat(),
        _ => String::new(),
    }
}

impl Limit {
    /// Takes a token, if there is one.
    fn take(&self, key: &str, now: i64) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.most && !buckets.contains_key(key) {
            // Whose bucket would be full is as one who never came; else the oldest goes.
            let (qps, burst) = (self.qps, self.burst);
            buckets.retain(|_, bucket| bucket.at(now, qps, burst) < burst * 1000);
            if buckets.len() >= self.most
                && let Some(oldest) = buckets.iter().min_by_key(|(_, bucket)| bucket.since).map(|(key, _)| key.clone())
            {
                buckets.remove(&oldest);
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: self.burst * 1000, since: now });
        let tokens = bucket.at(now, self.qps, self.burst);
        *bucket = Bucket { tokens, since: now };
        if tokens < 1000 {
            return false;
        }
        bucket.tokens -= 1000;
        true
    }
}

impl Bucket {
    fn at(&self, now: i64, qps: i64, burst: i64) -> i64 {
        let grown = now.saturating_sub(self.since).max(0).saturating_mul(qps).saturating_mul(1000);
        self.tokens.saturating_add(grown).min(burst.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fill_again() {
        let limit = Limit { kind: "User".into(), qps: 2, burst: 3, most: 2, buckets: Mutex::default() };
        let taken = |key: &str, now: i64| (0..10).take_while(|_| limit.take(key, now)).count();
        assert_eq!((taken("a", 0), taken("a", 0), taken("b", 0)), (3, 0, 3));
        assert_eq!((taken("a", 1), taken("a", 100)), (2, 3));
        // A third key takes the place of one that is full again, or else the oldest.
        assert_eq!(taken("c", 101), 3);
        assert!(limit.buckets.lock().len() <= 2);
    }

    #[test]
    fn configurations() {
        let read = |limits: Value| {
            let configuration = api::json::json!({"limits": limits});
            let settings = Settings { configuration: &configuration, opener: &crate::configured::Nobody };
            PLUGIN.configured(&settings).map(|plugin| plugin.is_some())
        };
        assert_eq!(read(api::json::json!([{"type": "Server", "qps": 1, "burst": 1}])), Ok(true));
        assert!(
            read(api::json::json!([{"type": "Planet", "qps": 1, "burst": 1}]))
                .unwrap_err()
                .contains("Unsupported value")
        );
        assert!(
            read(api::json::json!([{"type": "User", "qps": 0, "burst": 1}])).unwrap_err().contains("must be positive")
        );
    }

    #[test]
    fn who_says_too_much_is_told_by_which_limit() {
        let configuration = api::json::json!({"limits": [
            {"type": "Namespace", "qps": 1, "burst": 1}, {"type": "User", "qps": 1, "burst": 2}]});
        let settings = Settings { configuration: &configuration, opener: &crate::configured::Nobody };
        let plugin = PLUGIN.configured(&settings).unwrap().unwrap();
        let said = |now: i64| {
            let ask = crate::testing::Ask { now, ..crate::testing::Ask::create("", "v1", "events") };
            ask.validated(plugin.as_ref(), &Value::Null)
        };
        let (one, both) = ("limit reached on type Namespace for key shop", "limit reached on type User for key jane");
        assert_eq!(said(0), Ok(()));
        assert_eq!(said(0), Err((429, one.to_owned())));
        assert_eq!(said(0), Err((429, format!("[{one}, {both}]"))));
        assert_eq!(said(1), Ok(()));
    }
}
