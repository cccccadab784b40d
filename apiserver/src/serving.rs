//! How requests are served beside what they ask: headers for browsers, how long a request and an end may take, when clients are asked to
//! connect anew.
//!
//! Never looks at who asks. Source: upstream's flags of the same names.

use crate::backup;
use crate::encryption;
use crate::profiling;
use crate::road::received::{Query, RequestInfo};
use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use api::status::Status;
use regex::Regex;
use std::time::Duration;

/// What the flags say.
#[derive(Clone, Debug)]
pub struct Serving {
    /// `--strict-transport-security-directives`: `max-age=...`, `includeSubDomains`, `preload`.
    pub hsts: Vec<String>,
    /// `--cors-allowed-origins`: patterns, of which one must be found in the origin.
    pub cors: Vec<String>,
    /// `--goaway-chance`: from 0 to 0.02.
    pub goaway_chance: f64,
    /// `--request-timeout`: for what is not meant to last.
    pub request_timeout: Duration,
    /// `--shutdown-delay-duration`: how long requests are still served after the end was asked for; `/readyz` says no meanwhile.
    pub shutdown_delay: Duration,
    /// `--shutdown-send-retry-after`: clients may connect until what was in progress has been answered, and are told to come back.
    pub shutdown_send_retry_after: bool,
    /// `--shutdown-watch-termination-grace-period`: watches end one after the other within this time.
    pub shutdown_watch_grace: Duration,
    /// `--http2-max-streams-per-connection`: requests at once over one connection of HTTP/2.
    pub streams: u32,
    /// Connections that are open at once; for a further one that goes which has been idle for longest. `None` bounds nothing. Upstream has
    /// neither a flag nor a bound.
    pub max_connections: Option<usize>,
    /// Of those, connections that are taken over at once (`exec`, `attach`, `portforward`, `proxy`). `None` bounds nothing. Upstream has neither
    /// a flag nor a bound.
    pub max_sessions: Option<usize>,
}

impl Default for Serving {
    fn default() -> Self {
        Serving {
            hsts: Vec::new(),
            cors: Vec::new(),
            goaway_chance: 0.0,
            request_timeout: Duration::from_secs(60),
            shutdown_delay: Duration::ZERO,
            shutdown_send_retry_after: false,
            shutdown_watch_grace: Duration::ZERO,
            streams: 1000,
            max_connections: None,
            max_sessions: None,
        }
    }
}

/// The flags, read.
pub(crate) struct Rules {
    hsts: Option<HeaderValue>,
    origins: Vec<Regex>,
    timeout: Duration,
}

impl Rules {
    /// Reads the flags.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn new(serving: &Serving) -> Result<Rules, String> {
        if !(0.0..=0.02).contains(&serving.goaway_chance) {
            return Err("--goaway-chance can not be less than 0 or greater than 0.02".to_owned());
        }
        for directive in &serving.hsts {
            let age = directive.strip_prefix("max-age=").is_some_and(|age| age.parse::<u64>().is_ok());
            if !age && directive != "includeSubDomains" && directive != "preload" {
                return Err(format!(
                    "--strict-transport-security-directives invalid, allowed values: max-age=expireTime, includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more information: {directive:?}"
                ));
            }
        }
        let hsts = (!serving.hsts.is_empty()).then(|| HeaderValue::from_str(&serving.hsts.join("; ")));
        let origin = |pattern: &String| {
            Regex::new(pattern)
                .map_err(|error| format!("--cors-allowed-origins has an invalid regular expression: {error}"))
        };
        Ok(Rules {
            hsts: hsts.transpose().map_err(|error| error.to_string())?,
            origins: serving.cors.iter().map(origin).collect::<Result<_, String>>()?,
            timeout: serving.request_timeout,
        })
    }

    /// Whether a page of this origin may read answers.
    pub(crate) fn welcomes(&self, origin: Option<&str>) -> bool {
        origin.is_some_and(|origin| self.origins.iter().any(|pattern| pattern.is_match(origin)))
    }

    /// Adds what browsers want to know.
    pub(crate) fn dress(&self, origin: Option<&str>, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        if let Some(hsts) = &self.hsts {
            headers.insert(HeaderName::from_static("strict-transport-security"), hsts.clone());
        }
        let Some(origin) = origin.filter(|origin| self.welcomes(Some(origin))) else { return };
        for (name, value) in [
            ("access-control-allow-origin", origin),
            ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE, PATCH"),
            (
                "access-control-allow-headers",
                "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since",
            ),
            ("access-control-expose-headers", "Date"),
            ("access-control-allow-credentials", "true"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// How long the request may take; `None` for what is meant to last.
    ///
    /// # Errors
    /// 400 for a `timeout` that is no duration.
    pub(crate) fn patience(&self, info: &RequestInfo, query: &Query) -> Result<Option<Duration>, Status> {
        if is_long(info) {
            return Ok(None);
        }
        let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else {
            return Ok(Some(self.timeout));
        };
        match encryption::nanoseconds(text).ok() {
            // Some clients send bare numbers, which upstream refuses too.
            None => Err(Status::bad_request(format!(
                "invalid timeout specified in the request URL - time: invalid duration {text:?}"
            ))),
            Some(0) => Ok(Some(self.timeout)),
            // One that was over before it began ends upstream's patience and no request that is quick.
            Some(nanos) => Ok(Some(u64::try_from(nanos).map_or(self.timeout, Duration::from_nanos).min(self.timeout))),
        }
    }

    /// How long the answer to a request may take to go; `None` for one that is meant to last.
    pub(crate) fn departure(&self, info: &RequestInfo) -> Option<Duration> {
        (!is_long(info)).then_some(self.timeout)
    }

    /// How long a request may wait for seats: a quarter of the time that it may take.
    ///
    /// # Errors
    /// As for `patience`.
    pub(crate) fn queue_wait(&self, info: &RequestInfo, query: &Query) -> Result<Duration, Status> {
        Ok(self.patience(info, query)?.unwrap_or(self.timeout) / 4)
    }
}

/// It lasts as long as the client wants, or as what it asks for takes.
pub(crate) fn is_long(info: &RequestInfo) -> bool {
    if !info.is_resource {
        let profile = info.path.strip_prefix(profiling::ROOT).is_some_and(|rest| rest.starts_with('/'));
        return profile || info.path == backup::PATH || info.path == encryption::rewrite::PATH;
    }
    info.verb == "watch" || is_connect(info)
}

/// It is somebody else's to answer, behind a pod, a service or a node.
pub(crate) fn is_connect(info: &RequestInfo) -> bool {
    info.is_resource && matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_judged() {
        let check = |change: fn(&mut Serving), want: &str| {
            let mut serving = Serving::default();
            change(&mut serving);
            let why = Rules::new(&serving).err().unwrap_or_default();
            assert!(if want.is_empty() { why.is_empty() } else { why.contains(want) }, "{serving:?}: {why}");
        };
        check(|_| {}, "");
        check(|serving| serving.goaway_chance = 0.02, "");
        check(|serving| serving.goaway_chance = 0.03, "--goaway-chance");
        check(|serving| serving.hsts = vec!["max-age=31536000".into(), "includeSubDomains".into()], "");
        check(|serving| serving.hsts = vec!["max-age".into()], "--strict-transport-security-directives invalid");
        check(|serving| serving.cors = vec!["(".into()], "invalid regular expression");
    }

    #[test]
    fn what_is_not_meant_to_last_has_its_time() {
        let rules = Rules::new(&Serving::default()).unwrap();
        let check = |target: &str, want: Result<Option<u64>, u16>| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let query = Query::parse(query);
            let got = rules.patience(&RequestInfo::parse("GET", path, &query), &query);
            let got = got.map(|time| time.map(|time| time.as_secs())).map_err(|status| status.code);
            assert_eq!(got, want, "{target}");
        };
        check("/api/v1/pods", Ok(Some(60)));
        check("/api/v1/pods?timeout=5s", Ok(Some(5)));
        check("/api/v1/pods?timeout=0s", Ok(Some(60)));
        check("/api/v1/pods?timeout=2h", Ok(Some(60)));
        check("/api/v1/pods?timeout=5", Err(400));
        // What another server may have to answer as well.
        for path in ["/apis/metrics.k8s.io/v1beta1", "/healthz", "/openapi/v2", "/nothing/log"] {
            check(path, Ok(Some(60)));
        }
        for path in [
            "/api/v1/pods?watch=1&timeout=5",
            "/api/v1/namespaces/a/pods/p/log",
            "/api/v1/nodes/n/proxy/x",
            "/debug/pprof/profile",
            "/ironkeel/backup",
            "/ironkeel/rewrite-encryption",
        ] {
            check(path, Ok(None));
        }
    }

    #[test]
    fn pages_of_welcome_origins_read_answers() {
        let serving =
            Serving { cors: vec!["^https://a\\.example$".into()], hsts: vec!["preload".into()], ..Serving::default() };
        let rules = Rules::new(&serving).unwrap();
        let dressed = |origin: Option<&str>| {
            let mut response = HttpResponse::Ok().finish();
            rules.dress(origin, &mut response);
            let get = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (get("strict-transport-security"), get("access-control-allow-origin"))
        };
        let preload = Some("preload".to_owned());
        assert_eq!(dressed(Some("https://a.example")), (preload.clone(), Some("https://a.example".to_owned())));
        assert_eq!(dressed(Some("https://a.example.evil")), (preload.clone(), None));
        assert_eq!(dressed(None), (preload, None));
    }
}
