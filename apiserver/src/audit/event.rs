//! One line of the audit: what is known of a request at one of its stages, in upstream's two forms.
//!
//! Pure. Source: `audit.k8s.io/v1` Event.

use super::policy::{Level, Stage};
use crate::authn::User;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A user as events name one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Named {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for Named {
    fn from(user: &User) -> Named {
        Named {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// How a request was authenticated, beyond by whom.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// The verb of the mode of constrained impersonation.
    pub(super) impersonation_constraint: &'static str,
}

/// What a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) subresource: String,
}

/// The fields of a `Status` that events keep.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResponseStatus {
    /// Always empty, and always there.
    #[serde(default, skip_deserializing)]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
    /// HTTP's.
    #[serde(default)]
    pub(super) code: u16,
}

impl ResponseStatus {
    /// That of an answer without a `Status`.
    pub(super) fn of(code: u16) -> ResponseStatus {
        ResponseStatus { code, ..ResponseStatus::default() }
    }

    /// One without details.
    pub(super) fn told(code: u16, status: &str, reason: &str, message: String) -> ResponseStatus {
        let (status, reason) = (status.to_owned(), reason.to_owned());
        ResponseStatus { status, reason, message, ..ResponseStatus::of(code) }
    }

    /// That of an answer whose body is this `Status` as JSON.
    pub(super) fn read(code: u16, body: &RawValue) -> ResponseStatus {
        let read: ResponseStatus = api::json::from_str(body.get()).unwrap_or_default();
        ResponseStatus { code, ..read }
    }
}

/// An event. Fields are written in upstream's order.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    /// How much is recorded.
    pub level: Level,
    #[serde(rename = "auditID")]
    pub(super) audit_id: String,
    /// At which stage.
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub(super) request_uri: String,
    pub(super) verb: String,
    pub(super) user: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication_metadata: Option<AuthenticationMetadata>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Box<RawValue>>,
    #[serde(serialize_with = "micro")]
    pub(super) request_received_timestamp: Timestamp,
    #[serde(serialize_with = "micro")]
    pub(super) stage_timestamp: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// To the microsecond, as `metav1.MicroTime`.
fn micro<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

impl Event {
    pub(super) fn new(level: Level, audit_id: String, now: Timestamp) -> Event {
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: String::new(),
            user: Named::default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// One line of JSON, without its end.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(&self) -> Result<String, api::json::Error> {
        api::json::to_string(self)
    }

    /// One line of upstream's old form.
    #[must_use]
    pub fn legacy(&self) -> String {
        let list = |list: &[String]| list.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(",");
        let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
        let known = !self.user.username.is_empty() && !self.user.groups.is_empty();
        let groups = if known { list(&self.user.groups) } else { "<none>".to_owned() };
        let (acting, acting_groups) = match &self.impersonated_user {
            None => ("<self>".to_owned(), "<lookup>".to_owned()),
            Some(user) if user.groups.is_empty() => (user.username.clone(), "<lookup>".to_owned()),
            Some(user) => (user.username.clone(), list(&user.groups)),
        };
        format!(
            "{} AUDIT: id={} stage=\"{:?}\" ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} \
             uri={} response=\"{}\"",
            self.request_received_timestamp,
            quoted(&self.audit_id),
            self.stage,
            quoted(self.source_ips.first().map_or("<unknown>", String::as_str)),
            quoted(&self.verb),
            quoted(&or(&self.user.username, "<none>")),
            quoted(&groups),
            quoted(&acting),
            quoted(&acting_groups),
            quoted(&self.user_agent),
            quoted(&or(self.object_ref.as_ref().map_or("", |object| &object.namespace), "<none>")),
            quoted(&self.request_uri),
            self.response_status.as_ref().map_or_else(|| "<deferred>".to_owned(), |status| status.code.to_string()),
        )
    }

    /// The event without its bodies, which says so.
    pub(super) fn without_bodies(&self) -> Event {
        let mut annotations = self.annotations.clone();
        annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
        Event { request_object: None, response_object: None, annotations, ..self.clone() }
    }
}

/// Text in quotes as Go's `%q` writes it: on one line, whatever a client sent.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        let written = match letter {
            '"' | '\\' => write!(out, "\\{letter}"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\u{7}' => write!(out, "\\a"),
            '\u{8}' => write!(out, "\\b"),
            '\u{b}' => write!(out, "\\v"),
            '\u{c}' => write!(out, "\\f"),
            ' '..='~' => write!(out, "{letter}"),
            '\0'..='\u{7f}' => write!(out, "\\x{:02x}", u32::from(letter)),
            letter if letter.is_alphanumeric() => write!(out, "{letter}"),
            letter if u32::from(letter) <= 0xffff => write!(out, "\\u{:04x}", u32::from(letter)),
            letter => write!(out, "\\U{:08x}", u32::from(letter)),
        };
        // Nothing fails that writes to memory.
        debug_assert!(written.is_ok());
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn event() -> Event {
        let mut event =
            Event::new(Level::Request, "id".to_owned(), Timestamp::from_microsecond(1_700_000_000_123_450).unwrap());
        event.request_uri = "/api/v1/namespaces/a/configmaps".to_owned();
        event.verb = "create".to_owned();
        event.user = Named::from(&User::new("u", &["g", "h"]));
        event.source_ips = vec!["10.0.0.1".to_owned()];
        event.user_agent = "kubectl/v1.36".to_owned();
        event.object_ref = Some(ObjectRef {
            resource: "configmaps".to_owned(),
            namespace: "a".to_owned(),
            api_version: "v1".to_owned(),
            ..ObjectRef::default()
        });
        event.response_status = Some(ResponseStatus::of(201));
        event.request_object = Some(raw("{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"}"));
        event
    }

    #[test]
    fn events_have_upstreams_two_forms() {
        let mut event = event();
        event.stage = Stage::ResponseComplete;
        assert_eq!(
            event.json().unwrap(),
            "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Request\",\"auditID\":\"id\",\
             \"stage\":\"ResponseComplete\",\"requestURI\":\"/api/v1/namespaces/a/configmaps\",\"verb\":\"create\",\
             \"user\":{\"username\":\"u\",\"groups\":[\"g\",\"h\"]},\"sourceIPs\":[\"10.0.0.1\"],\
             \"userAgent\":\"kubectl/v1.36\",\"objectRef\":{\"resource\":\"configmaps\",\"namespace\":\"a\",\
             \"apiVersion\":\"v1\"},\"responseStatus\":{\"metadata\":{},\"code\":201},\
             \"requestObject\":{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"},\
             \"requestReceivedTimestamp\":\"2023-11-14T22:13:20.123450Z\",\
             \"stageTimestamp\":\"2023-11-14T22:13:20.123450Z\"}"
        );
        assert_eq!(
            event.legacy(),
            "2023-11-14T22:13:20.12345Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"10.0.0.1\" method=\"create\" \
             user=\"u\" groups=\"\\\"g\\\",\\\"h\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"kubectl/v1.36\" \
             namespace=\"a\" uri=\"/api/v1/namespaces/a/configmaps\" response=\"201\""
        );
    }

    #[test]
    fn what_clients_send_cannot_make_a_line_of_its_own() {
        let mut event = event();
        event.user_agent = "x\n2023 AUDIT: forged=\"yes\"\u{1b}é\u{2028}\u{e0001}".to_owned();
        let line = event.legacy();
        let want = r#"user-agent="x\n2023 AUDIT: forged=\"yes\"\x1bé\u2028\U000e0001""#;
        assert!(line.contains(want) && !line.contains('\n'), "{line}");
        assert!(!event.json().unwrap().contains('\n'));
    }

    #[test]
    fn what_an_event_keeps_of_a_status_has_upstreams_order() {
        let body =
            raw("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"m\",\
             \"reason\":\"NotFound\",\"details\":{\"name\":\"a\",\"kind\":\"pods\"},\"code\":404}");
        assert_eq!(
            api::json::to_string(&ResponseStatus::read(404, &body)).unwrap(),
            "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"m\",\"reason\":\"NotFound\",\
             \"details\":{\"name\":\"a\",\"kind\":\"pods\"},\"code\":404}"
        );
    }

    #[test]
    fn an_event_may_lose_its_bodies_and_says_so() {
        let short = event().without_bodies();
        assert!(short.request_object.is_none() && short.annotations["audit.k8s.io/truncated"] == "true");
    }
}
