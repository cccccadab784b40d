//! `AdmissionReview`: the question to a webhook, and what its answer must be.
//!
//! Never sends one. Source: upstream's `admission.k8s.io` types.

use super::hook::Hook;
use super::matching::{self, Seen, Sight};
use crate::plugin::{Operation, Request};
use api::json::{Map, Value, json};
use api::status::Status;
use api::value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The question. `object` is `Null` where there is none.
#[must_use]
pub fn question(hook: &Hook, version: &str, uid: &str, request: &Request<'_>, sight: &Sight) -> Value {
    let mut asked = attributes(request, sight.seen, matching::name(request, &sight.object));
    value::set(&mut asked, "uid", uid);
    value::set(&mut asked, "object", sight.object.clone());
    value::set(&mut asked, "oldObject", sight.old.clone());
    tracing::trace!(webhook = hook.name, uid, "asking");
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": asked})
}

/// The request but for the objects: what expressions know as `request`.
#[must_use]
pub fn attributes(request: &Request<'_>, seen: Seen, name: &str) -> Value {
    let gvk = |gvk: api::kind::Gvk| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let gvr = |kind: &api::kind::Kind| json!({"group": kind.group, "version": kind.version, "resource": kind.plural});
    let mut user = json!({"username": request.user});
    if !request.uid.is_empty() {
        value::set(&mut user, "uid", request.uid);
    }
    if !request.groups.is_empty() {
        value::set(&mut user, "groups", request.groups.to_vec());
    }
    if !request.extra.is_empty() {
        value::set(&mut user, "extra", json!(request.extra));
    }
    let mut asked = json!({
        "kind": gvk(seen.gvk),
        "resource": gvr(seen.resource),
        "requestKind": gvk(request.gvk()),
        "requestResource": gvr(request.kind),
        "operation": request.operation.name(),
        "userInfo": user,
        "dryRun": request.dry_run,
        "options": options(request),
    });
    for (name, text) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", name),
        ("namespace", matching::namespace(request)),
    ] {
        if !text.is_empty() {
            value::set(&mut asked, name, text);
        }
    }
    asked
}

/// The options of the request as an object of their kind; `Null` for a connection.
fn options(request: &Request<'_>) -> Value {
    let kind = match request.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut out = Map::new();
    out.insert("kind".to_owned(), kind.into());
    out.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    for (name, value) in request.options.as_object().into_iter().flatten() {
        // Only a patch can be forced, and nobody is told of that.
        if !matches!(name.as_str(), "kind" | "apiVersion" | "force") {
            out.insert(name.clone(), value.clone());
        }
    }
    Value::Object(out)
}

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// The request may go on.
    pub allowed: bool,
    /// A `metav1.Status` that says why not; `Null` for none.
    pub status: Value,
    /// A JSON patch; empty for none.
    pub patch: Vec<u8>,
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(String, String)>,
}

/// Reads an answer to the question `uid` in this version.
///
/// # Errors
/// What is wrong with it, in the words that follow `failed calling webhook "x": `.
pub fn answer(body: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Answer, String> {
    let review: Value = api::json::from_slice(body).map_err(|error| {
        let shown = String::from_utf8_lossy(body.get(..body.len().min(512)).unwrap_or_default());
        format!("failed to call webhook: couldn't get version/kind; json parse error: {error} (answer: {shown:?})")
    })?;
    read(&review, version, uid, mutating).map_err(|why| format!("received invalid webhook response: {why}"))
}

fn read(review: &Value, version: &str, uid: &str, mutating: bool) -> Result<Answer, String> {
    let response =
        review.get("response").filter(|response| response.is_object()).ok_or("webhook response was absent")?;
    let text = |name: &str| value::text(response, name);
    let patch = STANDARD.decode(text("patch")).map_err(|error| format!("response.patch is not base64: {error}"))?;
    let kind = response.get("patchType").and_then(Value::as_str);
    let strict = version == "v1";
    if strict {
        if text("uid") != uid {
            return Err(format!("expected response.uid={uid:?}, got {:?}", text("uid")));
        }
        let (group, own) = value::text(review, "apiVersion").split_once('/').unwrap_or_default();
        let name = value::text(review, "kind");
        if (group, own, name) != ("admission.k8s.io", "v1", "AdmissionReview") {
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{own}, Kind={name}"
            ));
        }
        match (mutating, patch.is_empty(), kind) {
            (true, false, None) => return Err("webhook returned response.patch but not response.patchType".into()),
            (true, true, Some(_)) => return Err("webhook returned response.patchType but not response.patch".into()),
            (true, false, Some("")) => return Err("webhook returned invalid response.patchType of \"\"".into()),
            (false, false, _) => return Err("validating webhook may not return response.patch".into()),
            (false, true, Some(_)) => return Err("validating webhook may not return response.patchType".into()),
            _ => {}
        }
    }
    if mutating && !patch.is_empty() && strict && kind != Some("JSONPatch") {
        return Err(format!("unsupported patch type {:?}", kind.unwrap_or_default()));
    }
    let warnings = value::items(response, "warnings").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let annotations = value::get(response, "auditAnnotations").and_then(Value::as_object).into_iter().flatten();
    Ok(Answer {
        allowed: value::flag(response, "allowed"),
        status: response.get("status").cloned().unwrap_or_default(),
        patch: if mutating { patch } else { Vec::new() },
        warnings,
        annotations: annotations.filter_map(|(key, text)| Some((key.into(), text.as_str()?.to_owned()))).collect(),
    })
}

/// The refusal that a webhook has asked for: its own status with a sentence that names it.
#[must_use]
pub fn refusal(name: &str, status: &Value) -> Status {
    let denied = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (value::text(status, "message"), value::text(status, "reason"));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = value::int(status, "code").and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    let mut out = Status::foreign(if (400..600).contains(&code) { code } else { 400 }, reason.to_owned(), message);
    out.details = status.get("details").cloned().unwrap_or_default();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(review: &Value, version: &str, mutating: bool, wanted: Result<Answer, &str>) {
        let found = answer(review.to_string().as_bytes(), version, "u", mutating);
        assert_eq!(found, wanted.map_err(|why| format!("received invalid webhook response: {why}")), "{review}");
    }

    fn review(response: &Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers() {
        let yes = || Answer { allowed: true, ..Answer::default() };
        check(&review(&json!({"uid": "u", "allowed": true})), "v1", false, Ok(yes()));
        let full = json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch", "warnings": ["w"],
            "auditAnnotations": {"a": "b"}});
        let read = Answer {
            patch: b"[]".to_vec(),
            warnings: vec!["w".into()],
            annotations: vec![("a".into(), "b".into())],
            ..yes()
        };
        check(&review(&full), "v1", true, Ok(read));
        check(&review(&full), "v1", false, Err("validating webhook may not return response.patch"));
        let cases = [
            (json!(null), true, "webhook response was absent"),
            (json!({"uid": "x"}), true, "expected response.uid=\"u\", got \"x\""),
            (json!({"uid": "u", "patch": "W10="}), true, "webhook returned response.patch but not response.patchType"),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (json!({"uid": "u", "patchType": "x", "patch": "W10="}), true, "unsupported patch type \"x\""),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                false,
                "validating webhook may not return response.patchType",
            ),
        ];
        for (response, mutating, why) in cases {
            check(&review(&response), "v1", mutating, Err(why));
        }
        let old =
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {"uid": "u"}});
        check(
            &old,
            "v1",
            false,
            Err(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, \
                 Kind=AdmissionReview",
            ),
        );
        // The older version forgives.
        check(&json!({"response": {"allowed": true}}), "v1beta1", true, Ok(yes()));
        let patched = Answer { patch: b"[]".to_vec(), ..yes() };
        check(&json!({"response": {"allowed": true, "patch": "W10="}}), "v1beta1", true, Ok(patched));
        assert!(answer(b"<html>", "v1", "u", true).unwrap_err().starts_with("failed to call webhook: "));
    }

    #[test]
    fn refusals() {
        let check = |status: Value, code: u16, reason: &str, message: &str| {
            let found = refusal("a.b.c", &status);
            assert_eq!(
                (found.code, found.reason.as_ref(), found.message.as_str()),
                (code, reason, message),
                "{status}"
            );
        };
        check(Value::Null, 400, "", "admission webhook \"a.b.c\" denied the request without explanation");
        check(json!({"message": "no"}), 400, "", "admission webhook \"a.b.c\" denied the request: no");
        check(
            json!({"reason": "Sleepy", "code": 403}),
            403,
            "Sleepy",
            "admission webhook \"a.b.c\" denied the request: Sleepy",
        );
        check(
            json!({"reason": "Sleepy", "message": "no", "code": 200}),
            400,
            "Sleepy",
            "admission webhook \"a.b.c\" denied the request: no",
        );
    }
}
