//! `POST /ironkeel/rewrite-encryption`: brings stored objects, and what the log keeps of them, under the first provider and key.
//!
//! Each request does a bounded part and says where to go on, so that no request lasts long, any client can go on with what another
//! one began, and a rewrite that was cut off has lost nothing. Changes no object, no version and no event. Never decides who may:
//! the path is authorized like every other one that is no resource.

use crate::answer::{Answer, Failure};
use crate::road::received::Received;
use crate::server::Server;
use api::status::{ResourceName, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use std::time::{Duration, Instant};
use storage::store::StoreError;

/// Where it is served.
pub const PATH: &str = "/ironkeel/rewrite-encryption";
/// How long one request goes on. One step of the store may come on top.
const BUDGET: Duration = Duration::from_secs(2);

/// Does one part: the resource of the position, from there. `?continue=` is an earlier answer's `continue`.
///
/// # Errors
/// 405, 400 for a position that is none, and those of the store.
pub async fn answer(server: &Server, received: &Received) -> Result<Answer, Failure> {
    let none = ResourceName { group: "", plural: "" };
    if received.method.as_str() != "POST" {
        return Err(Status::method_not_allowed(none, received.method.as_str()).into());
    }
    let mut resources: Vec<String> = server
        .caches
        .kinds()
        .into_iter()
        .map(api::kind::Kind::group_resource)
        .filter(|resource| server.config.encryption.selects(resource))
        .collect();
    resources.sort();
    let position = received.query.get("continue").filter(|given| !given.is_empty());
    let (after, mut from) = match position.map(parse) {
        None => (None, None),
        Some(Some((resource, from))) => (Some(resource), from),
        Some(None) => return Err(Status::bad_request("continue key is not valid".to_owned()).into()),
    };
    // A resource that went away meanwhile is passed over.
    let mut rest = resources.iter().filter(|resource| after.as_ref().is_none_or(|after| *resource >= after));
    let Some(resource) = rest.next() else { return Ok(Answer::json(200, &api::json::json!({}))) };
    if after.as_ref() != Some(resource) {
        from = None;
    }
    let (mut objects, mut past, mut refused, mut errors) = (0, 0, 0, Vec::new());
    let begun = Instant::now();
    let next = loop {
        let step = server.store.rewrite(resource, from).await.map_err(failure)?;
        objects += step.objects;
        past += step.past;
        refused += step.refused;
        errors.extend(step.errors.iter().map(ToString::to_string));
        match step.next {
            None => break rest.next().map(|next| write(next, None)),
            Some(next) if begun.elapsed() >= BUDGET => break Some(write(resource, Some(&next))),
            next => from = next,
        }
    };
    errors.truncate(10);
    let mut body = api::json::json!({
        "resource": resource, "objects": objects, "past": past, "refused": refused, "errors": errors,
    });
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("continue".to_owned(), next.into());
    }
    Ok(Answer::json(200, &body))
}

fn failure(error: StoreError) -> Failure {
    Failure::Store { error: Box::new(error), resource: ("", ""), name: String::new() }
}

/// A position as clients hold it.
fn write(resource: &str, from: Option<&Bytes>) -> String {
    let mut bytes = resource.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(from.map(Bytes::as_ref).unwrap_or_default());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn parse(position: &str) -> Option<(String, Option<Bytes>)> {
    let bytes = URL_SAFE_NO_PAD.decode(position).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (resource, from) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let from = (!from.is_empty()).then(|| Bytes::copy_from_slice(from));
    Some((String::from_utf8(resource.to_vec()).ok()?, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back() {
        for from in [None, Some(Bytes::from_static(b"Csecrets\0a\0b"))] {
            let text = write("secrets", from.as_ref());
            assert_eq!(parse(&text), Some(("secrets".to_owned(), from)));
        }
        assert!(["", "!", "c2VjcmV0cw"].iter().all(|text| parse(text).is_none()));
    }
}
