//! POST to a collection, and binding a pod to a node.

use super::{Call, shown};
use crate::answer::{Answer, Failure};
use crate::registry::write::{self, Change, Options};
use crate::registry::{Target, admitted};
use crate::server::Server;
use api::field_path::{FieldError, Path};
use api::json::{Value, json};
use api::status::Status;
use api::{meta, value};

/// Answers a create.
///
/// # Errors
/// Those of decoding and of the write.
pub async fn answer(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let kind = call.target.kind;
    let object = call.own_object().await?;
    let options = call.write_options()?;
    let permit = &call.authorized.permit;
    let written = write::create(server, permit, &call.target, object, &options, false).await?;
    shown::object(call.received(), call.medium, kind, &written.entry, 201, server.now())
}

/// `pods/binding`: writes the node into the pod, once.
///
/// # Errors
/// 400 for another target than a node, 409 when the pod has a node already; those of the write.
pub async fn bind(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let mut binding = call.part_object().await?;
    if meta::name(&binding) != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object").into());
    }
    let gvk = call.part.map(|part| part.gvk).ok_or_else(Status::no_such_path)?;
    let options = call.write_options()?;
    admitted::body(server, &call.authorized.permit, &call.target, &options, gvk, &mut binding).await?;
    assign(server, call, &binding).await
}

/// A create that is one of a subresource of the object that the body names: `bindings` is `pods/binding`.
///
/// # Errors
/// 400 without a name or for another namespace than that of the path; those of `bind`.
pub async fn of_part(server: &Server, mut call: Call) -> Result<Answer, Failure> {
    let own = call.target.kind;
    let (plural, part) = own.creates.ok_or_else(Status::no_such_path)?;
    let kind = api::kinds::by_resource(own.group, own.version, plural).ok_or_else(Status::no_such_path)?;
    let mut binding = call.own_object().await?;
    let options = call.write_options()?;
    admitted::body(server, &call.authorized.permit, &call.target, &options, own.gvk(), &mut binding).await?;
    call.target.agrees(&binding)?;
    let name = meta::name(&binding);
    call.part = kind.subresource(part);
    call.target = Target { kind, namespace: call.target.namespace.clone(), name: name.to_owned() };
    assign(server, call, &binding).await
}

async fn assign(server: &Server, call: Call, binding: &Value) -> Result<Answer, Failure> {
    let kind = value::text(binding, "target.kind");
    let node = value::text(binding, "target.name").to_owned();
    let mut errors = Vec::new();
    let field = Path::new("target");
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported_as_listed(&field.child("kind"), kind, &["Node", "<empty>"]).to_string());
    }
    if node.is_empty() {
        errors.push(FieldError::required(&field.child("name"), "").to_string());
    }
    // Upstream forgets to say that it is the client's mistake.
    match errors.as_slice() {
        [] => {}
        [one] => return Err(Status::foreign(500, "", one.clone()).into()),
        both => return Err(Status::foreign(500, "", format!("[{}]", both.join(", "))).into()),
    }
    if call.target.name.is_empty() {
        return Err(Status::bad_request("Name parameter required.").into());
    }
    let options = Options { unseen: true, ..call.write_options()? };
    let (resource, name) = (call.target.resource(), call.target.name.clone());
    let uid = meta::uid(binding).to_owned();
    let now = server.now_text();
    write::update(server, &call.authorized.permit, &call.target, &options, |pod| {
        let pod = pod.ok_or_else(|| Status::not_found(resource, &name))?;
        let conflict = |why: &str| Failure::from(Status::conflict(resource, &name, why));
        if !uid.is_empty() && uid != meta::uid(pod) {
            return Err(conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(pod)
            )));
        }
        if meta::is_deleting(pod) {
            return Err(conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        let bound = value::text(pod, "spec.nodeName");
        if !bound.is_empty() {
            return Err(conflict(&format!("pod {name} is already assigned to node {bound:?}")));
        }
        if !value::items(pod, "spec.schedulingGates").is_empty() {
            return Err(conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut pod = pod.clone();
        value::set(&mut pod, "spec.nodeName", node.clone());
        if let Some(annotations) = value::get(binding, "metadata.annotations").and_then(|map| map.as_object()) {
            let own = value::map_mut(&mut pod, "metadata.annotations");
            own.extend(annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        let mut conditions = value::items(&pod, "status.conditions").to_vec();
        conditions.retain(|condition| value::text(condition, "type") != "PodScheduled");
        conditions.push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}));
        value::set(&mut pod, "status.conditions", conditions);
        // Nobody owns what a binding writes.
        Ok(Change { object: pod, applied: true, rebased: true })
    })
    .await?;
    let done = Status::created();
    shown::value(call.medium, &done.to_value(), shown::meta_schema("Status")?, 201)
}
